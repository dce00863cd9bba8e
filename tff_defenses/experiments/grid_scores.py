"""Runs without a paper table: groups over seeds, named by what tells them apart."""

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tff_defenses.experiments import papers, run_values, scorecard
from tff_defenses.experiments.config import NO_ATTACK

METRICS = {  # metric -> unit, column of a table
  "accuracy": ("percent", "accuracy %"),
  "attack_success_rate": ("percent", "ASR %"),
  "attack_success_rate_over_rounds": ("percent", "ASR over rounds %"),
  "target_confidence": ("percent", "target confidence %"),
  "backdoor_accuracy": ("percent", "BA all %"),
  "backdoor_accuracy_nontarget": ("percent", "BA %"),
  "backdoor_accuracy_malicious": ("percent", "BA malicious clients %"),
  "seconds_training_per_round": ("seconds", "training s/round"),
  "seconds_aggregation_per_round": ("seconds", "aggregation s/round"),
  "seconds_total": ("seconds", "total s"),
  "bytes_up": ("bytes", "bytes up"),
  "bytes_down": ("bytes", "bytes down"),
}


def groups(
  runs: Sequence[run_values.RunValues],
) -> list[tuple[dict[str, str], list[run_values.RunValues]]]:
  """Runs that differ in their seed alone, under the settings that name their group."""
  by_key = collections.defaultdict(list)
  for run in runs:
    by_key[run.key].append(run)
  telling = _telling_fields([group[0].config for group in by_key.values()])
  found = []
  for group in by_key.values():
    config = group[0].config
    names = _always(config) | {f: _plain(config.get(f)) for f in telling}
    found.append((names, group))
  return found


def scores(
  names: Mapping[str, str], group: Sequence[run_values.RunValues]
) -> list[scorecard.CellScore]:
  """What a group measured, as cells for which no paper has a number."""
  config = group[0].config
  row = ", ".join(_named(k, v) for k, v in names.items() if k != "defense")
  found = []
  for metric, (unit, _) in METRICS.items():
    cell = papers.Cell(
      *("", row, names["defense"], metric, unit, None, None, False, "", ""), config
    )
    score = scorecard.score(cell, config, group, wanted=[r.seed for r in group])
    if score.by_seed:
      found.append(score)
  return found


def _named(field, value):
  """A setting in the name of a row."""
  if field in ("dataset", "attack"):
    return value
  return f"{value} % malicious" if field == "malicious %" else f"{field} {value}"


def _always(config):
  """Columns of every grid."""
  attack = config.get("attack", NO_ATTACK)
  malicious = 0 if attack == NO_ATTACK else 100 * config.get("malicious_fraction", 0)
  return {
    "dataset": str(config.get("dataset", "-")),
    "defense": str(config.get("defense", "-")),
    "attack": str(attack),
    "malicious %": f"{malicious:.3g}",
    "reduced": "yes" if config.get("reduced") else "no",
  }


def _telling_fields(configs: Sequence[Mapping[str, Any]]) -> list[str]:
  """Fields that differ between groups whose fixed columns are equal."""
  alike = collections.defaultdict(list)
  for config in configs:
    alike[tuple(_always(config).values())].append(config)
  fields = dict.fromkeys(f for config in configs for f in config)
  shown = ("dataset", "defense", "attack", "malicious_fraction")
  return [
    field
    for field in fields
    if field not in (*run_values.NOT_SETTINGS, *shown)
    and any(len({_plain(c.get(field)) for c in cs}) > 1 for cs in alike.values())
  ]


def _plain(value):
  if isinstance(value, Mapping):
    return ", ".join(f"{k}={_plain(v)}" for k, v in value.items()) or "-"
  if isinstance(value, list):
    return json.dumps(value)
  return "-" if value is None else str(value)
