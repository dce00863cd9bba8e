"""The rules of a run: its defense, the rule inside of it, and what each assumes.

Cheap to import, and to ask: no rule is built.
Symbols: n updates that a rule sees in a round, f of them malicious.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tff_defenses import aggregators
from tff_defenses.aggregators import checks
from tff_defenses.aggregators.spec import AggregatorSpec


class Link(NamedTuple):
  """One rule of a run.

  Attributes:
    spec: Its registry entry.
    num_updates: n: the clients of a round, or the buckets made of them.
    outer: The rule that it is inside of, or None.
  """

  spec: AggregatorSpec
  num_updates: int
  outer: AggregatorSpec | None


def links(config) -> Iterator[Link]:
  """The rules of an `ExperimentConfig`, outermost first, up to one that is unknown."""
  name, settings = config.defense, config.defense_settings
  seen, outer = config.num_drawn, None
  while isinstance(name, str) and name in aggregators.AGGREGATORS:
    spec = aggregators.AGGREGATORS[name]
    yield Link(spec, seen, outer)
    if name == "bucketing":
      size = settings.get("bucket_size", _usual(spec, "bucket_size"))
      seen = -(-seen // size) if checks.is_whole(size) and size > 0 else seen
    name, outer = settings.get("inner", _usual(spec, "inner")), spec
    settings = settings.get("inner_settings")
    settings = settings if isinstance(settings, Mapping) else {}


def unmet(config) -> Iterator[Link]:
  """The rules whose assumption does not hold in a round of an `ExperimentConfig`.

  Bucketing assumes what its inner rule does, of the buckets; the plain mean inside of
  FL-PLAS assumes nothing: that it may be one is what FL-PLAS claims.
  """
  for link in links(config):
    claimed = link.outer is not None and link.outer.name == "fl_plas"
    if link.spec.name == "bucketing" or (claimed and link.spec.name == "fedavg"):
      continue
    malicious = min(config.num_malicious_drawn, link.num_updates)
    if not link.spec.assumption.holds(link.num_updates, malicious):
      yield link


def _usual(spec, setting) -> Any:
  """What a rule takes if the settings say nothing; None without such a setting."""
  parameter = inspect.signature(spec.build).parameters.get(setting)
  return None if parameter is None else parameter.default
