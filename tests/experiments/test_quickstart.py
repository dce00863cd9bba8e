"""The quick start with runs that are only pretended: what is run, and the table."""

import pathlib
import types

import pandas as pd
import pytest

from tff_defenses.experiments import figures, loop, presets, quickstart, records

SUMMARY = {**dict.fromkeys(records.SUMMARY_KEYS), "accuracy": 0.5}


@pytest.fixture
def pretended(monkeypatch):
  """Configs that were run and files that were drawn."""
  runs, drawn = [], []

  def run(config, runtime, *, reuse):
    assert not reuse  # its table holds seconds
    runs.append(config)
    folder = types.SimpleNamespace(path=pathlib.Path(config.output_dir))
    folder.path.mkdir(parents=True)
    return types.SimpleNamespace(config=config, summary=SUMMARY, folder=folder)

  def draw_comparison(folders, path, title):
    drawn.append((path.name, list(folders), title))

  def draw_folder(folder, *, into, prefix):
    drawn.append((prefix, folder.name, into.name))

  monkeypatch.setattr(loop, "run", run)
  monkeypatch.setattr(figures, "draw_comparison", draw_comparison)
  monkeypatch.setattr(figures, "draw_folder", draw_folder)
  return runs, drawn


def test_both_parts_are_run_with_each_of_their_defenses(pretended, tmp_path):
  quickstart.run(None, str(tmp_path), seed=3, cache_dir="shards")
  runs, _ = pretended
  expected = [d for part in presets.QUICK_START for d in part.defenses]
  assert [config.defense for config in runs] == expected
  assert {(c.seed, c.cache_dir) for c in runs} == {(3, "shards")}
  assert len({c.output_dir for c in runs}) == len(expected)
  assert runs[0].output_dir == str(tmp_path / "part1_fedavg")


def test_the_runs_that_are_announced_are_those_that_are_run(pretended, tmp_path):
  announced = quickstart.configs(str(tmp_path), seed=3, cache_dir="shards")
  quickstart.run(None, str(tmp_path), seed=3, cache_dir="shards")
  assert [c for runs in announced.values() for c in runs] == pretended[0]
  assert [list(announced), len(announced[1])] == [[1, 2], 3]


def test_table_and_file_hold_the_same_rows(pretended, tmp_path):
  text = quickstart.run(None, str(tmp_path))
  table = pd.read_csv(tmp_path / "summary.csv")
  assert table.columns.tolist() == list(quickstart.COLUMNS)
  assert table["accuracy"].tolist() == [0.5] * 5  # a share in the file,
  assert text.count("50.0") == 5  # percent in the terminal
  assert table["part"].tolist() == [1, 1, 1, 2, 2]


def test_a_part_is_drawn_once_and_flare_with_its_own_figures(pretended, tmp_path):
  quickstart.run(None, str(tmp_path))
  _, drawn = pretended
  assert drawn == [
    ("part1_success.png", ["fedavg", "krum", "flare"], "Part 1: krum_backdoor"),
    ("part1_flare_", "part1_flare", "figures"),
    ("part2_success.png", ["fedavg", "fl_plas"], "Part 2: trigger"),
  ]
