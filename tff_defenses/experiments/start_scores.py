"""What the model scores that runs start from: sentences for the report of a folder."""

import json
from collections.abc import Mapping, Sequence

from tff_defenses.experiments import grid_scores, report_numbers, run_values

_SHOWN = (
  *("accuracy", "attack_success_rate"),
  *("backdoor_accuracy", "backdoor_accuracy_nontarget"),
)


def of(runs: Sequence[run_values.RunValues]) -> list[str]:
  """A line for each start and attack, each once; runs without start.json have none.

  Two lines that name the same data set, model, attack and seed are two starts: runs
  that read other data, or begin in another way, as the authors' code does.
  """
  lines = (_line(run.config, _read(run)) for run in runs)
  return sorted({line for line in lines if line})


def _line(config: Mapping, scores: Mapping[str, float]) -> str:
  named = ", ".join(str(config.get(n, "-")) for n in ("dataset", "model", "attack"))
  parts = [
    f"{grid_scores.METRICS[name][1].removesuffix(' %')} "
    f"{report_numbers.shown(100 * scores[name], 'percent')} %"
    for name in _SHOWN
    if scores.get(name) is not None
  ]
  return f"{named}, seed {config.get('seed')}: {', '.join(parts)}" if parts else ""


def _read(run):
  """{}: an early run, or a file that cannot be read."""
  try:
    return dict(json.loads((run.folder / "start.json").read_text()))
  except (OSError, ValueError, TypeError):
    return {}
