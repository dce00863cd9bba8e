"""The files of a run: claimed by one config, cut back to a round, written whole."""

import json

import numpy as np
import pandas as pd
import pytest

from tff_defenses.experiments import records
from tff_defenses.experiments.errors import OutputError

CONFIG = {"config_hash": "abc", "seed": 1}
SUMMARY = dict.fromkeys(records.SUMMARY_KEYS)


def claim(folder, **changes):
  return records.RunFolder(folder, {**CONFIG, **changes})


def add_rounds(folder, first, last):
  """Rounds with one client each; accuracy is measured in even rounds."""
  for r in range(first, last + 1):
    row = {"train_loss": 1 / r} | ({"accuracy": r / 7} if r % 2 == 0 else {})
    clients = records.client_rows(r, [0], np.array([True]), {})
    folder.add_round(r, row, clients, {"seconds_round": 0.1 * r})


def contents(folder):
  names = ("metrics.csv", "clients.csv", "timing.csv")
  return [(folder.path / name).read_bytes() for name in names]


def test_folder_is_made_and_holds_the_config(tmp_path):
  folder = claim(tmp_path / "a" / "b")
  assert json.loads((folder.path / "config.json").read_text()) == CONFIG
  assert not folder.is_complete


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  assert claim("~/run").path == tmp_path / "run"


def test_folder_of_the_same_config_is_taken_up(tmp_path):
  claim(tmp_path)
  claim(tmp_path, seed=1)


@pytest.mark.parametrize("found", ['{"config_hash": "other"}', "{}", "damaged"])
def test_folder_of_another_config_raises_and_is_left_alone(tmp_path, found):
  (tmp_path / "config.json").write_text(found)
  with pytest.raises(OutputError, match="holds the run of another config.*abc.*Choose"):
    claim(tmp_path)
  assert (tmp_path / "config.json").read_text() == found


def test_folder_that_cannot_be_made_raises(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OutputError, match="`output_dir` .*file/run cannot be written"):
    claim(tmp_path / "file" / "run")


def test_rounds_are_rows_and_blank_where_nothing_was_measured(tmp_path):
  folder = claim(tmp_path)
  add_rounds(folder, 1, 3)
  table = folder.read("metrics.csv")
  assert table["round"].tolist() == [1, 2, 3]
  assert table["accuracy"].isna().tolist() == [True, False, True]
  assert folder.read("clients.csv").columns.tolist() == list(records.CLIENT_COLUMNS)
  assert folder.read("timing.csv")["round"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_rounds_cut_off_and_done_again_give_the_same_bytes(tmp_path, kept):
  whole, broken = claim(tmp_path / "whole"), claim(tmp_path / "broken")
  add_rounds(whole, 1, 5)
  add_rounds(broken, 1, 4)
  resumed = claim(tmp_path / "broken")
  resumed.keep_rounds(kept)
  add_rounds(resumed, kept + 1, 5)
  assert contents(resumed) == contents(whole)
  assert not list(tmp_path.rglob("*.partial"))


def test_round_half_written_is_dropped(tmp_path):
  folder = claim(tmp_path)
  add_rounds(folder, 1, 2)
  before = contents(folder)
  with (tmp_path / "clients.csv").open("a") as stream:
    stream.write("3,0,True,,,\n")
  claim(tmp_path).keep_rounds(2)
  assert contents(folder) == before


def test_summary_comes_last_and_declares_the_run_complete(tmp_path):
  folder = claim(tmp_path)
  folder.write_summary({**SUMMARY, "accuracy": np.float32(0.5)}, {"mmd": np.eye(2)})
  assert folder.is_complete
  summary = folder.read_summary()
  assert list(summary) == list(records.SUMMARY_KEYS)
  assert summary["accuracy"] == 0.5 and summary["target_confidence"] is None
  with np.load(tmp_path / "arrays.npz") as arrays:
    assert arrays["mmd"].tolist() == [[1, 0], [0, 1]]
  folder.keep_rounds(0)
  assert not folder.is_complete


@pytest.mark.parametrize("change", [{"accurracy": 1}, {"accuracy": ...}])
def test_summary_with_other_keys_raises(tmp_path, change):
  values = {**SUMMARY, **change}
  values = {k: v for k, v in values.items() if v is not ...}
  with pytest.raises(ValueError, match="keys must be SUMMARY_KEYS.*accur"):
    claim(tmp_path).write_summary(values, {})


def test_client_rows_take_trust_for_the_weight():
  malicious = np.array([False, True, False, True])
  measured = {"trust": np.array([0.75, 0.0]), "votes": np.array([2, 0])}
  rows = records.client_rows(4, [0, 3], malicious, measured)
  assert rows.to_dict("list") == {
    "round": [4, 4],
    "client_index": [0, 3],
    "malicious": [False, True],
    "weight": [0.75, 0.0],
    "selected": [True, False],
    "flagged": [False, True],
    "votes": [2, 0],
  }


def test_client_rows_keep_what_the_rule_selected():
  measured = {"weight": np.array([0.5, 0.5]), "selected": np.array([True, False])}
  rows = records.client_rows(1, [0, 1], np.array([False, False]), measured)
  assert rows["selected"].tolist() == [True, False]
  assert rows["votes"].isna().all()


@pytest.mark.parametrize("method", ["to_csv", "keep", "savez"])
def test_full_disk_is_an_output_error(tmp_path, monkeypatch, method):
  folder = claim(tmp_path)
  add_rounds(folder, 1, 2)

  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pd.DataFrame, "to_csv", full)
  monkeypatch.setattr(np, "savez_compressed", full)
  calls = {
    "to_csv": lambda: add_rounds(folder, 3, 3),
    "keep": lambda: folder.keep_rounds(1),
    "savez": lambda: folder.write_summary(SUMMARY, {}),
  }
  with pytest.raises(OutputError, match="No space left.*finished rounds are kept"):
    calls[method]()
  assert not folder.is_complete


def test_file_that_tensorflow_cannot_write_is_an_output_error(tmp_path):
  folder = claim(tmp_path / "run")
  (folder.path / "config.json").unlink()
  folder.path.rmdir()
  folder.path.write_text("in the way")
  with pytest.raises(OutputError, match="`output_dir` .* cannot be written"):
    add_rounds(folder, 1, 1)
