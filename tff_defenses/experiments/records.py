"""The files of one run, written so that a stop at any moment loses nothing.

config.json: everything, threat model included; metrics.csv: a row a round, the same
bytes for the same command; clients.csv: a row a client a round; timing.csv: seconds and
memory, which differ from run to run; summary.json: written last, so its presence says
that the run is complete; arrays.npz: what the figures need.
"""

import asyncio
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tff_defenses.experiments import detection
from tff_defenses.experiments.errors import OutputError, writing

SUMMARY_KEYS = (
  "accuracy",
  "attack_success_rate",
  "attack_success_rate_over_rounds",
  "backdoor_accuracy",
  "backdoor_accuracy_nontarget",
  "target_confidence",
  "seconds_training",
  "seconds_aggregation",
  "seconds_total",
  "peak_memory_bytes",
  "seed",
  "config_hash",
)
CLIENT_COLUMNS = (
  "round",
  "client_index",
  "malicious",
  "weight",
  "selected",
  "flagged",
  "votes",
)


class RunFolder:
  """The output folder of one run.

  Args:
    folder: Made if absent.
    config: Settings as `ExperimentConfig.to_dict` gives them, with `config_hash`.

  Raises:
    OutputError: the folder holds another run's config, or cannot be written.
  """

  def __init__(self, folder: str | os.PathLike, config: Mapping[str, Any]):
    self.path = pathlib.Path(folder).expanduser()
    self._claim(config)
    self._metrics = None

  @property
  def is_complete(self) -> bool:
    """Whether the run in this folder has ended."""
    return (self.path / "summary.json").exists()

  def read_summary(self) -> dict[str, Any]:
    """summary.json of a complete run."""
    return json.loads((self.path / "summary.json").read_text())

  def keep_rounds(self, last: int) -> None:
    """Drops everything after round `last`; 0: a new run."""
    self._guard(self._drop_rows, last)

  def add_round(
    self,
    round_number: int,
    metrics: Mapping[str, float],
    clients: pd.DataFrame,
    timing: Mapping[str, float],
  ) -> None:
    """Appends one round to metrics.csv, clients.csv and timing.csv."""
    self._guard(self._append, round_number, metrics, clients, timing)

  def write_summary(self, values: Mapping[str, Any], arrays: Mapping) -> None:
    """Writes arrays.npz, then summary.json with exactly `SUMMARY_KEYS`."""
    missing = set(values) ^ set(SUMMARY_KEYS)
    if missing:
      raise ValueError(
        f"write_summary: keys must be SUMMARY_KEYS, differ in {missing}."
      )
    self._guard(np.savez_compressed, self.path / "arrays.npz", **arrays)
    ordered = {key: values[key] for key in SUMMARY_KEYS}
    self._guard(_write_json, self.path / "summary.json", ordered)

  def read(self, name: str) -> pd.DataFrame:
    """metrics.csv, clients.csv or timing.csv."""
    return pd.read_csv(self.path / name)

  def _claim(self, config):
    self._guard(self.path.mkdir, parents=True, exist_ok=True)
    file = self.path / "config.json"
    if file.exists():
      found = _read_config(file).get("config_hash")
      if found != config["config_hash"]:
        raise OutputError(
          f"`output_dir` {self.path} holds the run of another config (hash {found}, "
          f"this one has {config['config_hash']}). Choose another folder or remove it."
        )
    else:
      self._guard(_write_json, file, config)

  def _drop_rows(self, last):
    (self.path / "summary.json").unlink(missing_ok=True)
    for name in ("metrics.csv", "clients.csv", "timing.csv"):
      file = self.path / name
      if last == 0 or not file.exists():
        file.unlink(missing_ok=True)
        continue
      table = pd.read_csv(file, dtype=str, keep_default_na=False)
      kept = table[table["round"].astype(int) <= last]
      aside = file.with_suffix(".partial")
      kept.to_csv(aside, index=False, lineterminator=_line_end(name))
      aside.replace(file)

  def _append(self, round_number, metrics, clients, timing):
    import tensorflow_federated as tff

    if self._metrics is None:
      self._metrics = tff.program.CSVFileReleaseManager(
        str(self.path / "metrics.csv"), key_fieldname="round"
      )
    values = {name: np.float64(value) for name, value in metrics.items()}
    asyncio.run(self._metrics.release(values, round_number))
    _append_rows(self.path / "clients.csv", clients)
    _append_rows(
      self.path / "timing.csv", pd.DataFrame([{"round": round_number, **timing}])
    )

  def _guard(self, function, *args, **kwargs):
    """Runs a write; a full disk or a read-only folder becomes one clear sentence."""
    with writing(self.path):
      return function(*args, **kwargs)


def client_rows(
  round_number: int,
  drawn: Sequence[int],
  malicious: np.ndarray,
  measurements: Mapping[str, Any],
) -> pd.DataFrame:
  """One row a client of the round, with `CLIENT_COLUMNS`; blank: not measured."""
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
  }
  return pd.DataFrame(columns)[list(CLIENT_COLUMNS)]


def _append_rows(file, table):
  table.to_csv(file, mode="a", header=not file.exists(), index=False)


def _line_end(name):
  return "\r\n" if name == "metrics.csv" else "\n"  # as its release manager writes


def _read_config(file):
  try:
    return json.loads(file.read_text())
  except ValueError:
    return {}


def _write_json(file, values):
  """Writes the whole file or none of it."""
  aside = file.with_suffix(".partial")
  aside.write_text(json.dumps(values, indent=2, default=_plain) + "\n")
  aside.replace(file)


def _plain(value):
  return value.item() if isinstance(value, np.generic) else str(value)
