"""The defenses, one a file, and the only list of what exists.

Importing this module is cheap; the submodules of `td.aggregators` load on first use.
"""

from tff_defenses.aggregators.registry import AGGREGATORS, load
from tff_defenses.aggregators.spec import NEEDS, PROMISES, AggregatorSpec

__all__ = ["AGGREGATORS", "NEEDS", "PROMISES", "AggregatorSpec"]


def __getattr__(name: str):
  if name.startswith("_"):
    raise AttributeError(name)
  try:
    return load(name)
  except ModuleNotFoundError as error:
    if error.name != f"tff_defenses.aggregators.{name}":
      raise  # the module is there, and something that it imports is not
    raise AttributeError(f"tff_defenses.aggregators has no {name!r}") from None
