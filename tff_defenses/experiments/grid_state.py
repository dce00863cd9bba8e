"""The runs of a grid before its start and at its end; TensorFlow is not needed."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence

from tff_defenses.experiments import (
  claims,
  owners,
  progress,
  records,
  report,
  run_record,
)
from tff_defenses.experiments import run_values as values_lib
from tff_defenses.experiments.config import ExperimentConfig

_COLUMNS = (
  "accuracy",
  "attack_success_rate",
  "attack_success_rate_over_rounds",
  "backdoor_accuracy",
  "backdoor_accuracy_nontarget",
  "seconds_aggregation",
  "seconds_total",
)


_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class GridResult:
  """What a grid has come to.

  Attributes:
    states: Folder of each run -> "done", "running", "failed" or "left".
    failures: Folder of each failed run -> its error in a line.
    table: The finished runs, for the terminal; empty if there are none.
    damaged: Folders of finished runs whose summary cannot be read; not tried again.
  """

  states: Mapping[str, str]
  failures: Mapping[str, str]
  table: str
  damaged: frozenset[str] = frozenset()

  @property
  def ok(self) -> bool:
    """Whether every run is done; the exit status should say so."""
    return all(state == progress.DONE for state in self.states.values())

  def __str__(self) -> str:
    lines = [self.table] if self.table else []
    for folder, error in self.failures.items():
      lines.append(f"failed: {folder}: {error}")
    tried = [f for f in self.failures if f not in self.damaged]
    if tried:
      lines.append(
        f"{len(tried)} of {len(self.states)} runs failed; the same command tries them "
        f"again. Details: {claims.FAILED_LOG} in their folders."
      )
    return "\n".join(lines)


def check(configs: Sequence[ExperimentConfig]) -> None:
  """Looks at configs and folders before anything is started, or discarded.

  Raises:
    ConfigError: a config has faults. OutputError: a folder holds the run of another
      config or version, or cannot be written.
  """
  for config in configs:
    config.check()
    owners.check(config.output_dir, run_record.describe(config))


def prepare(configs: Sequence[ExperimentConfig], *, reuse: bool = True) -> None:
  """Makes the runs ready for a new call: old failures are forgotten.

  Args:
    configs: Checked, by `check` and, where anything is discarded, by `trial_builds`.
    reuse: False: finished and broken-off runs are discarded too, but for those on
      which another process works now.

  Raises:
    OutputError: a folder cannot be written.
  """
  for config in configs:
    path = progress.folder(config)
    if not (path / "config.json").exists():
      continue
    try:
      with claims.claim(path):
        claims.forget_failure(path)
        if not reuse:
          records.RunFolder(path, run_record.describe(config)).discard()
    except claims.ClaimedError:
      continue


def is_left(configs: Sequence[ExperimentConfig]) -> bool:
  """Whether a run is neither done nor failed."""
  ended = (progress.DONE, progress.FAILED)
  return not all(progress.status(config) in ended for config in configs)


def read(
  configs: Sequence[ExperimentConfig], errors: Mapping[str, str] | None = None
) -> GridResult:
  """The states, errors and table of the runs.

  Args:
    configs: Of the runs.
    errors: Folder -> error of runs whose folder could not take the mark.
  """
  states = {config.output_dir: progress.status(config) for config in configs}
  failures = dict(errors or {})
  failures = {f: e for f, e in failures.items() if states[f] == progress.LEFT}
  states |= dict.fromkeys(failures, progress.FAILED)
  rows, damaged = [], []
  for config in configs:
    if states[config.output_dir] == progress.FAILED:
      error = claims.failure(progress.folder(config))
      failures.setdefault(config.output_dir, error or "no reason was kept")
    elif states[config.output_dir] == progress.DONE:
      run = values_lib.read(progress.folder(config))
      if run.status == progress.DONE:
        rows.append(_row(config, run.values))
        for fault in run.faults:  # such as a timing.csv without its seconds
          _logger.warning("%s", fault)
      else:  # it has a summary.json, but there are no values in it
        states[config.output_dir] = progress.FAILED
        failures[config.output_dir] = str(records.damaged_summary(run.folder))
        damaged.append(config.output_dir)
  shown = report.table(rows) if rows else ""
  return GridResult(states, failures, shown, frozenset(damaged))


def _row(config, values):
  malicious = config.malicious_fraction if config.num_malicious else 0
  row = {
    "dataset": config.dataset,
    "defense": config.defense,
    "attack": config.attack,
    "malicious %": f"{100 * malicious:.3g}",
    "seed": config.seed,
    "reduced": "yes" if config.is_reduced else "no",
  }
  for name in _COLUMNS:
    unknown = math.nan if name.startswith("seconds") else None
    row[name] = values.get(name, unknown)
  return row
