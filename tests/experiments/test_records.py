"""The files of a run: claimed by one config, cut back to a round, written whole."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from tff_defenses.experiments import claims, owners, records
from tff_defenses.experiments.errors import DataError, OutputError

CONFIG = {"version": "1.0", "config_hash": "abc", "seed": 1}
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


@pytest.mark.parametrize(
  ("found", "sentence"),
  [
    ('{"version": "1.0", "config_hash": "other"}', "config.*other.*abc.*Choose"),
    ('{"version": "1.0"}', "config.*none stated.*abc.*Choose"),
    ('{"config_hash": "abc"}', "version.*none stated.*1.0.*Choose"),
    ("{}", "version.*none stated.*1.0.*Choose"),
    ("damaged", "version.*none stated.*1.0.*Choose"),
  ],
)
def test_folder_of_another_config_raises_and_is_left_alone(tmp_path, found, sentence):
  add_rounds(claim(tmp_path), 1, 1)
  (tmp_path / "config.json").write_text(found)
  with pytest.raises(OutputError, match=f"holds the run of another {sentence}"):
    claim(tmp_path)
  assert (tmp_path / "config.json").read_text() == found


@pytest.mark.parametrize(
  ("changes", "sentence"),
  [
    ({"seed": 2}, r"\(abc, this one has x\); `seed` is 1 there and 2 here\. Choose"),
    ({"alpha": 0.5}, r"x\); `alpha` is not stated there and 0\.5 here\. Choose"),
    (
      {"seed": 2, "a": (1,), "b": {"c": 1}, "d": "e", "f": 0, "reduced": True},
      r'; `a` is .* \[1\] here; `b` is .* \{"c": 1\} here; 2 more differ\. Choose',
    ),
    ({}, r"x\)\. Choose"),
  ],
)
def test_settings_that_differ_are_named_with_both_values(tmp_path, changes, sentence):
  add_rounds(claim(tmp_path), 1, 1)
  with pytest.raises(OutputError, match=sentence):
    claim(tmp_path, config_hash="x", **changes)


@pytest.mark.parametrize("found", ["{}", "damaged", '{"name": "theirs"}'])
def test_a_config_that_is_no_runs_is_never_written_over(tmp_path, found):
  (tmp_path / "config.json").write_text(found)
  with pytest.raises(OutputError, match="holds the run of another version"):
    claim(tmp_path)
  assert (tmp_path / "config.json").read_text() == found


def test_a_run_in_its_first_round_does_not_give_way(tmp_path):
  claim(tmp_path)
  with (
    claims.claim(tmp_path),
    pytest.raises(OutputError, match="holds the run of another config"),
  ):
    owners.check(tmp_path, {**CONFIG, "config_hash": "x"})


def test_a_run_without_a_whole_round_gives_way(tmp_path):
  """Refused for a setting, it would refuse the command with the setting mended."""
  folder = claim(tmp_path)
  folder.keep_data({"server": "a"}, begun=False)
  folder.keep_start({"accuracy": 0.1}, "ab")
  folder.keep_machine({"cpu": "a"})
  changed = {**CONFIG, "config_hash": "x", "seed": 2}
  owners.check(tmp_path, changed)
  claim(tmp_path, config_hash="x", seed=2)
  assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
  assert json.loads((tmp_path / "config.json").read_text()) == changed


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


def test_a_value_that_is_undefined_is_blank_and_keeps_its_column(tmp_path):
  folder = claim(tmp_path)
  for r, loss in enumerate([np.nan, 0.5, np.inf, np.nan], start=1):
    clients = records.client_rows(r, [0], np.array([True]), {})
    folder.add_round(r, {"train_loss": loss, "n": 1}, clients, {"seconds_round": 1.0})
  lines = (tmp_path / "metrics.csv").read_text().split()
  assert lines == ["round,n,train_loss", "1,1.0,", "2,1.0,0.5", "3,1.0,inf", "4,1.0,"]
  assert folder.whole_rounds() == 4


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


@pytest.mark.parametrize("text", ["", '{"accuracy": 0.', "[1]", "{}", "\udcff"])
def test_damaged_summary_is_named_with_what_to_do(tmp_path, text):
  folder = claim(tmp_path)
  folder.write_summary(SUMMARY)
  content = text.encode("utf-8", "surrogateescape")
  (tmp_path / "summary.json").write_bytes(content)
  with pytest.raises(
    OutputError, match=r"summary\.json .*damaged. Remove this file and"
  ):
    folder.read_summary()


def test_summary_comes_last_and_declares_the_run_complete(tmp_path):
  folder = claim(tmp_path)
  folder.write_arrays({"mmd": np.eye(2)})
  assert not folder.is_complete
  folder.write_summary({**SUMMARY, "accuracy": np.float32(0.5)})
  assert folder.is_complete
  summary = folder.read_summary()
  assert list(summary) == list(records.SUMMARY_KEYS)
  assert summary["accuracy"] == 0.5 and summary["target_confidence"] is None
  with np.load(tmp_path / "arrays.npz") as arrays:
    assert arrays["mmd"].tolist() == [[1, 0], [0, 1]]
  folder.keep_rounds(0)
  assert not folder.is_complete
  assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_arrays_are_the_same_bytes_at_any_time(tmp_path, monkeypatch):
  folder, found = claim(tmp_path), []
  for now in (1e9, 1.5e9):
    monkeypatch.setattr("time.time", lambda now=now: now)
    folder.write_arrays({"mmd": np.eye(2)})
    found.append((tmp_path / "arrays.npz").read_bytes())
  assert found[0] == found[1]


def test_run_of_another_version_is_refused_by_name(tmp_path):
  add_rounds(claim(tmp_path), 1, 1)
  with pytest.raises(OutputError, match=r"another version \(1.0, this one has 2.0\)"):
    claim(tmp_path, version="2.0")


def test_discarded_run_leaves_its_config_alone(tmp_path):
  folder = claim(tmp_path)
  add_rounds(folder, 1, 2)
  folder.write_arrays({})
  folder.keep_start({"accuracy": 0.1}, "ab")
  folder.write_summary(SUMMARY)
  for name in ("checkpoint", "figures", "tensorboard"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").touch()
  folder.discard()
  assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["metrics.csv", "clients.csv", "timing.csv"])
def test_rounds_are_whole_when_all_tables_have_them(tmp_path, name):
  folder = claim(tmp_path)
  assert folder.whole_rounds() == 0
  add_rounds(folder, 1, 3)
  assert folder.whole_rounds() == 3
  content = (tmp_path / name).read_bytes()
  (tmp_path / name).write_bytes(content[:-1])
  assert folder.whole_rounds() == 2


@pytest.mark.parametrize("change", [{"accurracy": 1}, {"accuracy": ...}])
def test_summary_with_other_keys_raises(tmp_path, change):
  values = {**SUMMARY, **change}
  values = {k: v for k, v in values.items() if v is not ...}
  with pytest.raises(ValueError, match="keys must be SUMMARY_KEYS.*accur"):
    claim(tmp_path).write_summary(values)


def test_client_rows_take_trust_for_the_weight():
  malicious = np.array([False, True, False, True])
  measured = {"trust": np.array([0.75, 0.0]), "votes": np.array([2, 0])}
  norms = np.array([0.1, 1e30], np.float32)
  rows = records.client_rows(4, [0, 3], malicious, measured, norms)
  assert rows.to_dict("list") == {
    "round": [4, 4],
    "client_index": [0, 3],
    "malicious": [False, True],
    "weight": [0.75, 0.0],
    "selected": [True, False],
    "flagged": [False, True],
    "votes": [2, 0],
    "update_norm": norms.tolist(),
  }


def test_client_rows_keep_what_the_rule_selected():
  measured = {"weight": np.array([0.5, 0.5]), "selected": np.array([True, False])}
  rows = records.client_rows(1, [0, 1], np.array([False, False]), measured)
  assert rows["selected"].tolist() == [True, False]
  assert rows[["votes", "update_norm"]].isna().all(axis=None)


@pytest.mark.parametrize("method", ["rows", "keep", "savez", "summary"])
def test_full_disk_is_an_output_error(tmp_path, monkeypatch, method):
  folder = claim(tmp_path)
  add_rounds(folder, 1, 2)

  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pd.DataFrame, "to_csv", full)
  monkeypatch.setattr(os, "fsync", full)
  calls = {
    "rows": lambda: add_rounds(folder, 3, 3),
    "keep": lambda: folder.keep_rounds(1),
    "savez": lambda: folder.write_arrays({}),
    "summary": lambda: folder.write_summary(SUMMARY),
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


DATA = {"clients": "ab", "test": "cd", "backdoor": None}


def test_rounds_are_added_to_with_the_same_data_only(tmp_path):
  folder = claim(tmp_path)
  folder.keep_data(DATA, begun=False)
  folder.keep_data(DATA, begun=True)
  before = (tmp_path / "data.json").read_bytes()
  with pytest.raises(DataError, match=r"got other images or labels \(test\)"):
    folder.keep_data(DATA | {"test": "ef"}, begun=True)
  assert (tmp_path / "data.json").read_bytes() == before
  folder.keep_data(DATA | {"test": "ef"}, begun=False)  # nothing is lost
  assert json.loads((tmp_path / "data.json").read_text())["test"] == "ef"


def test_a_run_from_before_data_were_noted_goes_on(tmp_path):
  folder = claim(tmp_path)
  folder.keep_data(DATA, begun=True)
  assert json.loads((tmp_path / "data.json").read_text()) == DATA
