"""Runs several experiments one after the other and tables them."""

from collections.abc import Sequence

from tff_defenses.experiments import figures, loop, report
from tff_defenses.experiments.config import ExperimentConfig


def run(
  configs: Sequence[ExperimentConfig],
  runtime,
  *,
  reuse: bool = True,
  round_seconds: float | None = None,
) -> str:
  """Runs the configs, draws their figures and returns one table.

  Args:
    configs: Checked beforehand.
    runtime: Runs the federated computations.
    reuse, round_seconds: See `loop.run`.
  """
  rows = []
  for config in configs:
    result = loop.run(config, runtime, reuse=reuse, round_seconds=round_seconds)
    figures.draw(result, runtime)
    rows.append(_row(config, result.summary))
  return report.table(rows)


def _row(config, summary):
  row = {
    "dataset": config.dataset,
    "defense": config.defense,
    "attack": config.attack,
    "malicious %": round(100 * config.malicious_fraction * bool(config.num_malicious)),
    "seed": config.seed,
    "reduced": "yes" if config.is_reduced else "no",
  }
  for name in (
    "accuracy",
    "attack_success_rate",
    "attack_success_rate_over_rounds",
    "backdoor_accuracy",
    "backdoor_accuracy_nontarget",
    "seconds_aggregation",
    "seconds_total",
  ):
    row[name] = summary[name]
  return row
