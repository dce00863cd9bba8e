"""The files of one run, written so that a stop at any moment loses nothing.

config.json: everything, version and threat model included; data.json: digests of the
images and labels, so that a run goes on with those it began with; start.json: scores
and digest of the model before round 1; metrics.csv: a row a round; clients.csv: a row a
client a round; arrays.npz: what the figures need; summary.json: written last, so its
presence says that the run is complete. All of them are the same bytes for the same
config on one kind of CPU, however often the run was broken off. Two others differ:
timing.csv, seconds and memory, and machines.json, the kinds of machines that the run
was made on.
"""

import io
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tff_defenses.experiments import detection, owners, round_tables, whole_files
from tff_defenses.experiments.errors import DataError, OutputError, writing

SUMMARY_KEYS = (
  "accuracy",
  "attack_success_rate",
  "attack_success_rate_over_rounds",
  "backdoor_accuracy",
  "backdoor_accuracy_nontarget",
  "target_confidence",
  "bytes_up",
  "bytes_down",
  "seed",
  "config_hash",
  "final",
)
CLIENT_COLUMNS = (
  "round",
  "client_index",
  "malicious",
  "weight",
  "selected",
  "flagged",
  "votes",
  "update_norm",
)


class RunFolder:
  """The output folder of one run.

  Args:
    folder: Made if absent.
    config: Settings as `run_record.describe` gives them, with `config_hash` and
      `version`.

  Raises:
    OutputError: the folder holds the run of another config or version, with a whole
      round, or cannot be written.
  """

  def __init__(self, folder: str | os.PathLike, config: Mapping[str, Any]):
    self.path = pathlib.Path(folder).expanduser()
    self._metrics = None
    owners.check_held(self.path, config)
    with writing(self.path):
      self.path.mkdir(parents=True, exist_ok=True)
      if not owners.is_owner(self.path, config):  # nobody is, or who had only begun
        for name in ("data.json", "machines.json", "start.json"):
          (self.path / name).unlink(missing_ok=True)
        whole_files.write_json(self.path / "config.json", config)

  @property
  def is_complete(self) -> bool:
    """Whether the run in this folder has ended."""
    return (self.path / "summary.json").exists()

  def read_summary(self) -> dict[str, Any]:
    """summary.json of a complete run.

    Raises:
      OutputError: it is damaged.
    """
    found = whole_files.read_object(self.path / "summary.json")
    if not found:
      raise damaged_summary(self.path)
    return found

  def whole_rounds(self) -> int:
    """The last round up to which all three tables are whole; 0 if none is."""
    return min(
      round_tables.whole_rounds(self.path / name) for name in round_tables.NAMES
    )

  def keep_rounds(self, last: int) -> None:
    """Drops everything after round `last`, and half-written lines; 0: a new run."""
    with writing(self.path):
      self._metrics = None  # TFF's manager remembers which row was the last
      whole_files.remove_asides(self.path)
      made_anew = ["start.json", "arrays.npz"] if last == 0 else []
      for name in ("summary.json", "plr.npz", *made_anew):
        (self.path / name).unlink(missing_ok=True)
      for name in round_tables.NAMES:
        round_tables.cut(self.path / name, last)

  def keep_data(self, digests: Mapping[str, str | None], *, begun: bool) -> None:
    """Writes data.json, which ties the run to the data that it reads.

    Args:
      digests: Of the data, by what they are for.
      begun: Whether rounds are there that must have read the same.

    Raises:
      DataError: the run began with other data.
    """
    file = self.path / "data.json"
    found = whole_files.read_object(file) if begun and file.exists() else dict(digests)
    differ = [name for name, value in digests.items() if found.get(name) != value]
    if differ:
      raise DataError(
        f"`output_dir` {self.path} must go on with the data it began with, got other "
        f"images or labels ({', '.join(differ)}). Give the `data_dir` of then, or "
        "start anew in another folder or with --noresume."
      )
    with writing(self.path):
      whole_files.write_json(file, digests)

  def keep_start(self, scores: Mapping[str, float | None], weights: str) -> None:
    """Writes start.json: the metrics of the model before round 1; null: no number.

    Args:
      scores: By name.
      weights: The model's digest.
    """
    with writing(self.path):
      whole_files.write_json(self.path / "start.json", {**scores, "weights": weights})

  def keep_machine(self, description: Mapping[str, Any]) -> None:
    """Adds a machine to machines.json, unless the run was last made on such a one."""
    file = self.path / "machines.json"
    found = whole_files.read_object(file).get("machines", []) if file.exists() else []
    if found[-1:] != [dict(description)]:
      with writing(self.path):
        whole_files.write_json(file, {"machines": [*found, description]})

  def discard(self) -> None:
    """Removes all but config.json and data.json, which the run made anew writes."""
    with writing(self.path):
      (self.path / "machines.json").unlink(missing_ok=True)
      for name in ("checkpoint", "figures", "tensorboard"):
        shutil.rmtree(self.path / name, ignore_errors=True)
    self.keep_rounds(0)

  def add_round(
    self,
    round_number: int,
    metrics: Mapping[str, float],
    clients: pd.DataFrame,
    timing: Mapping[str, float],
  ) -> None:
    """Appends one round to metrics.csv, clients.csv and timing.csv; NaN: blank."""
    with writing(self.path):
      if self._metrics is None:
        self._metrics = round_tables.metrics_manager(self.path / "metrics.csv")
      values = {name: _number_or_blank(value) for name, value in metrics.items()}
      round_tables.release(self._metrics, values, round_number)
      row = pd.DataFrame([{"round": round_number, **timing}])
      round_tables.append(self.path / "clients.csv", clients)
      round_tables.append(self.path / "timing.csv", row)

  def sync_rounds(self) -> None:
    """Puts the tables on the disk: before a state, which is nothing without them."""
    with writing(self.path):
      for name in round_tables.NAMES:
        whole_files.sync(self.path / name)

  def write_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays.npz; call it before the last round's state is saved."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    with writing(self.path):
      whole_files.write_bytes(self.path / "arrays.npz", content.getvalue())

  def write_summary(self, values: Mapping[str, Any]) -> None:
    """Writes summary.json with exactly `SUMMARY_KEYS`: the run is complete."""
    missing = set(values) ^ set(SUMMARY_KEYS)
    if missing:
      raise ValueError(
        f"write_summary: keys must be SUMMARY_KEYS, differ in {missing}."
      )
    with writing(self.path):
      ordered = {key: values[key] for key in SUMMARY_KEYS}
      whole_files.write_json(self.path / "summary.json", ordered)

  def read(self, name: str) -> pd.DataFrame:
    """metrics.csv, clients.csv or timing.csv."""
    return pd.read_csv(self.path / name, float_precision="round_trip")


def damaged_summary(folder: pathlib.Path) -> OutputError:
  """The error of a run that says that it is complete, but not with what."""
  return OutputError(
    f"{folder / 'summary.json'} must hold the results of a run, but it is damaged. "
    "Remove this file and give the same command again: the run goes on from its last "
    "checkpoint, or starts anew without one."
  )


def client_rows(
  round_number: int,
  drawn: Sequence[int],
  malicious: np.ndarray,
  measurements: Mapping[str, Any],
  norms: np.ndarray | None = None,
) -> pd.DataFrame:
  """One row a client of the round, with `CLIENT_COLUMNS`; blank: not measured.

  Args:
    round_number: From 1.
    drawn: Indices of the round's clients, ascending.
    malicious: [clients] bool, of the whole federation.
    measurements: Of the aggregator.
    norms: [drawn] L2 lengths of the updates.
  """
  weight = detection.client_weights(measurements)
  selected, flagged = detection.selected(measurements), detection.flagged(measurements)
  columns = {
    "round": round_number,
    "client_index": list(drawn),
    "malicious": malicious[list(drawn)],
    "weight": np.nan if weight is None else weight,
    "selected": np.nan if selected is None else selected,
    "flagged": np.nan if flagged is None else flagged,
    "votes": measurements.get("votes", np.nan),
    "update_norm": np.nan if norms is None else norms,
  }
  return pd.DataFrame(columns)[list(CLIENT_COLUMNS)]


def _number_or_blank(value):
  """What TFF's manager writes as a number; nothing for NaN, as in the other tables."""
  return "" if np.isnan(value) else np.float64(value)
