"""How far the runs of a grid are, read from their folders; and how that is shown."""

import collections
import os
import pathlib
import sys
import time
from collections.abc import Sequence

import tqdm

from tff_defenses.experiments import claims, owners, round_tables, run_record
from tff_defenses.experiments import run_values as values_lib
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import OutputError
from tff_defenses.experiments.run_values import DONE, FAILED, LEFT, RUNNING

_LOG_SECONDS = 60  # between two lines in a log file, unless a run has ended
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {postfix}"


def folder(config: ExperimentConfig) -> pathlib.Path:
  """Where a run's files are."""
  return pathlib.Path(config.output_dir).expanduser()


def status(config: ExperimentConfig) -> str:
  """ "done", "running" (a living process holds it), "failed" or "left"."""
  path = folder(config)
  if (path / "summary.json").exists() and _is_its_own(config):
    return DONE
  if claims.is_held(path):
    return RUNNING
  return FAILED if claims.failure(path) is not None else LEFT


def rounds_done(config: ExperimentConfig) -> int:
  """Rounds in metrics.csv."""
  return round_tables.whole_rounds(folder(config) / "metrics.csv")


def count(configs: Sequence[ExperimentConfig]) -> dict[str, int]:
  """How many runs are done, running, failed and left."""
  found = collections.Counter(status(config) for config in configs)
  return {name: found[name] for name in (DONE, RUNNING, FAILED, LEFT)}


def seconds_left(configs: Sequence[ExperimentConfig], jobs: int = 1) -> float | None:
  """Mean seconds of the finished runs, times what is to do; None: none is finished.

  No more processes work than there are runs to do.
  """
  taken, to_do = [], []
  for config in configs:
    state = status(config)
    if state == DONE:
      taken.append(_seconds(str(folder(config))))
    elif state != FAILED:
      to_do.append(1 - rounds_done(config) / config.rounds)
  taken = [seconds for seconds in taken if seconds is not None]
  if not taken:
    return None
  return sum(taken) / len(taken) * sum(to_do) / max(1, min(jobs, len(to_do)))


def rounds_bar(done: int, rounds: int, *, shown: bool, **options) -> tqdm.tqdm:
  """The numbers of the rounds that are left, shown as a bar of all.

  Args:
    done: Rounds done before.
    rounds: All of them.
    shown: Whether there is a bar; in a log file it is a line now and then.
    **options: Of tqdm, such as `desc`.
  """
  return tqdm.tqdm(
    range(done + 1, rounds + 1),
    unit="round",
    initial=done,
    total=rounds,
    disable=not shown,
    mininterval=0.5 if sys.stderr.isatty() else 30,  # a log wants few lines
    **options,
  )


class Display:
  """A bar of all runs in a terminal; a line now and then in a log file.

  Args:
    configs: Of the runs.
    jobs: Processes that work on them, for the time left.
  """

  def __init__(self, configs: Sequence[ExperimentConfig], *, jobs: int = 1):
    self._configs, self._jobs = configs, jobs
    self._shown, self._shown_at, self._bar = None, 0.0, None

  def __enter__(self) -> "Display":
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(total=len(self._configs), desc="runs", bar_format=_BAR)
    self.update()
    return self

  def __exit__(self, *_) -> None:
    self.update()
    if self._bar is not None:
      self._bar.close()

  def update(self) -> None:
    """Looks at the folders and shows what has changed."""
    counts = count(self._configs)
    text = ", ".join(f"{number} {name}" for name, number in counts.items())
    if self._bar is not None:
      self._bar.n = counts[DONE] + counts[FAILED]
      self._bar.set_postfix_str(f"{text}{self._time_left()}")
      return
    due = time.monotonic() > self._shown_at + _LOG_SECONDS
    if text != self._shown or due:
      self._shown, self._shown_at = text, time.monotonic()
      sys.stderr.write(f"runs: {text}{self._time_left()}\n")

  def _time_left(self):
    seconds = seconds_left(self._configs, self._jobs)
    if seconds is None:
      return ""
    return f"; about {tqdm.tqdm.format_interval(round(seconds))} to go"


_seconds_of: dict[str, float] = {}  # of finished runs, which do not change


def _seconds(path) -> float | None:
  if path not in _seconds_of:
    try:
      found = values_lib.read(path).values.get("seconds_total")
    except OutputError:
      found = None
    if found is None:
      return None
    _seconds_of[path] = found
  return _seconds_of[path]


def _is_its_own(config) -> bool:
  """Whether the folder holds this config's run, of this version."""
  try:
    owners.check(config.output_dir, run_record.describe(config))
  except OutputError:
    return False
  return True


def log_folder(configs: Sequence[ExperimentConfig]) -> pathlib.Path:
  """Folder of the logs of a grid's processes: `.jobs` in what holds all its runs."""
  parents = {folder(config) for config in configs}
  if len(parents) > 1:
    parents = {path.parent for path in parents}
  return pathlib.Path(os.path.commonpath(parents)) / ".jobs"
