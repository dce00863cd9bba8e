"""What a run has measured, read from the files of its folder.

Nothing is written and TensorFlow is not imported, so that a report of hundreds of runs
takes a second and may be asked for while they run.
"""

import csv
import dataclasses
import json
import math
import os
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

from tff_defenses.experiments import claims
from tff_defenses.experiments.errors import OutputError

DONE, RUNNING, FAILED, LEFT = "done", "running", "failed", "left"
NOT_SETTINGS = (
  *("data_dir", "output_dir", "cache_dir"),  # where, not what
  *("seed", "config_hash", "version", "reduced", "threat_model"),
)
_SKIPPED = ("checkpoint", "checkpoints", "figures", "tensorboard")


@dataclasses.dataclass(frozen=True)
class RunValues:
  """One run folder.

  Args:
    folder: Where it is.
    config: Content of config.json.
    values: Flat; fractions are fractions. Empty unless `status` is "done".
    status: "done"; "running": a living process works on it; "failed": the last attempt
      ended with an error; "left": what is still to do, begun or not.
    rounds_done: Rounds in metrics.csv; all of them when it is done.
    error: Of a failed run, a sentence.
    faults: What could not be read in this folder, a sentence each.
  """

  folder: pathlib.Path
  config: Mapping[str, Any]
  values: Mapping[str, Any]
  status: str
  rounds_done: int = 0
  error: str = ""
  faults: tuple[str, ...] = ()

  @property
  def seed(self) -> int | None:
    """None: config.json names none."""
    return self.config.get("seed")

  @property
  def version(self) -> str:
    """Of the package that wrote the folder; "unknown" if it did not say."""
    return str(self.config.get("version", "unknown"))

  @property
  def key(self) -> str:
    """Equal for runs that differ in their seed alone."""
    return settings_key(self.config)

  def number(self, metric: str) -> float | None:
    """A finite measured value, or None."""
    value = self.values.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float):
      return None
    return float(value) if math.isfinite(value) else None


def settings_key(config: Mapping[str, Any]) -> str:
  """Text that is equal for configs that differ in seed and places alone.

  >>> settings_key({"rounds": 3, "seed": 1}) == settings_key({"seed": 2, "rounds": 3})
  True
  """
  settings = {k: v for k, v in config.items() if k not in NOT_SETTINGS}
  return json.dumps(settings, sort_keys=True, default=str)


def find(
  output_dir: str | os.PathLike, name: str = "config.json"
) -> list[pathlib.Path]:
  """All folders below `output_dir`, itself included, that hold a file of this name."""
  found = []
  for folder, below, files in os.walk(pathlib.Path(output_dir).expanduser()):
    below[:] = sorted(b for b in below if b not in _SKIPPED and b[0] != ".")
    if name in files:
      found.append(pathlib.Path(folder))
  return found


def read_all(output_dir: str | os.PathLike) -> tuple[list[RunValues], list[str]]:
  """All runs below a folder, each once, and a sentence for each thing left out.

  Sentences name files as seen from the folder, so that a copy of it says the same.
  A run that several folders hold, such as a table and its published copy, is read from
  the one that has come furthest, else from the first.
  """
  runs, faults = [], []
  for folder in find(output_dir):
    try:
      run = read(folder)
    except OutputError as error:
      faults.append(str(error))
      continue
    runs.append(run)
    faults += run.faults
  first, folder = _first_of_each(runs), pathlib.Path(output_dir).expanduser()
  faults = [fault.replace(f"{folder}{os.sep}", "") for fault in faults]
  faults += _repeats(folder, runs, first)
  return [run for run in runs if first[run.folder] is run], faults


def _repeats(output_dir, runs, first):
  """One sentence if some folders are left out."""
  pairs = [
    (
      run.folder.relative_to(output_dir),
      first[run.folder].folder.relative_to(output_dir),
    )
    for run in runs
    if first[run.folder] is not run
  ]
  if not pairs:
    return []
  return [
    f"report: each run counts once, but {len(pairs)} folder(s) repeat the run of "
    f"another and are left out, such as {pairs[0][0]}, which repeats {pairs[0][1]}. "
    "Report such a folder by itself to see it."
  ]


def _first_of_each(runs):
  """Folder of a run -> the run that is shown for it and its repeats."""
  found, known = {}, {}
  for run in sorted(runs, key=_how_far):
    config_hash, seed = run.config.get("config_hash"), run.seed
    names = [] if config_hash is None else [str(config_hash)]
    names += [] if seed is None else [(run.key, str(seed))]
    first = next((known[name] for name in names if name in known), run)
    known |= dict.fromkeys(names, first)
    found[run.folder] = first
  return found


def _how_far(run):
  """Sorts the furthest to the front."""
  rank = (DONE, RUNNING, FAILED, LEFT).index(run.status)
  return rank, 0 if run.status == DONE else -run.rounds_done


def read(folder: str | os.PathLike) -> RunValues | None:
  """The run in a folder; None if there is none.

  Raises:
    OutputError: config.json cannot be read, so nobody knows which run it is.
  """
  folder, faults = pathlib.Path(folder).expanduser(), []
  if not (folder / "config.json").exists():
    return None
  config = _read_json(folder / "config.json", faults)
  if config is None:
    raise OutputError(faults[0])
  summary = _read_json(folder / "summary.json", faults)
  values, error = {}, ""
  if summary is not None:
    status = DONE
    rounds_done = config.get("rounds", 0)
    values = _flat(summary) | _timing(folder / "timing.csv", faults)
  else:
    rounds_done = len(_read_rows(folder / "metrics.csv", faults))
    error = claims.failure(folder) or ""
    status = RUNNING if claims.is_held(folder) else FAILED if error else LEFT
  error = error if status == FAILED else ""
  return RunValues(folder, config, values, status, rounds_done, error, tuple(faults))


def _flat(summary):
  """summary.json with its "final" row spread; a value of its own goes before it."""
  own = {k: v for k, v in summary.items() if k != "final"}
  final = summary.get("final") or {}
  return own | {k: v for k, v in final.items() if own.get(k) is None}


def _timing(file, faults):
  """Sums, medians and the peak of timing.csv; {} if it is absent or damaged."""
  rows = _read_rows(file, faults)
  try:
    names = rows[0] if rows else ()
    columns = {name: [float(row[name]) for row in rows] for name in names}
  except (TypeError, ValueError):
    faults.append(_damaged(file))
    return {}
  found = {}
  for name in ("seconds_training", "seconds_aggregation"):
    if name in columns:
      found[name] = math.fsum(columns[name])
      later = columns[name][1:] or columns[name]  # the first round builds the graphs
      found[f"{name}_per_round"] = statistics.median(later)
  total = columns.get("seconds_round", columns.get("seconds_total"))
  if total:
    found["seconds_total"] = math.fsum(total)
  if "peak_memory_bytes" in columns:
    found["peak_memory_bytes"] = max(columns["peak_memory_bytes"])
  return found


def _read_rows(file, faults):
  """Complete rows of a CSV file; the last of a run that goes on may be half-written."""
  try:
    with open(file, newline="", encoding="utf-8") as lines:
      rows = list(csv.DictReader(lines))
  except FileNotFoundError:
    return []
  except (OSError, ValueError, csv.Error):
    faults.append(_damaged(file))
    return []
  return [row for row in rows if None not in row and None not in row.values()]


def _read_json(file, faults):
  """The object in a file; None if the file is absent or damaged."""
  try:
    values = json.loads(file.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return None
  except (OSError, ValueError):
    values = None
  if not isinstance(values, dict):
    faults.append(_damaged(file))
    return None
  return values


def _damaged(file):
  return (
    f"report: {file} is damaged or cannot be read, and is left out. "
    "Remove the run's folder and run it again."
  )
