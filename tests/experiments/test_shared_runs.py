"""Runs that a neighbouring output folder has finished are copied, not repeated."""

import dataclasses
import json
import pathlib

import pytest

import tff_defenses
from tests.experiments.toy_runs import toy
from tff_defenses.experiments import (
  claims,
  datasets,
  federation,
  shared_runs,
  whole_files,
)


def place(config, folder):
  return dataclasses.replace(config, output_dir=str(folder / f"run-{config.hash()}"))


def finish(config, **changes):
  """Pretends that a run is complete."""
  folder = pathlib.Path(config.output_dir)
  folder.mkdir(parents=True)
  known = {"config_hash": config.hash(), "version": tff_defenses.__version__}
  (folder / "config.json").write_text(json.dumps({**known, **changes}))
  (folder / "summary.json").write_text("{}")
  (folder / "metrics.csv").write_text("round\n1\n")
  (folder / "checkpoint").mkdir()
  (folder / "checkpoint" / "big").write_text("state")
  return folder


@pytest.fixture
def config(tmp_path):
  return toy("unused", tmp_path / "shards")


def test_a_neighbours_finished_run_is_copied_without_its_checkpoint(config, tmp_path):
  finish(place(config, tmp_path / "table4"))
  mine = place(config, tmp_path / "table5")
  assert shared_runs.adopt([mine]) == 1
  names = sorted(path.name for path in pathlib.Path(mine.output_dir).iterdir())
  assert names == [".claim", "config.json", "metrics.csv", "summary.json"]
  assert [p.name for p in (tmp_path / "table5").iterdir()] == [f"run-{config.hash()}"]


def test_a_run_that_read_other_images_is_not_copied(config, tmp_path, caplog):
  """The hash says which data set, not whose files: `--data_dir` may be another."""
  held = federation.hold_out(config, datasets.load(config.dataset))
  source = finish(place(config, tmp_path / "table4"))
  mine = place(config, tmp_path / "table5")
  (source / "data.json").write_text(json.dumps({"server": "of other files"}))
  assert not shared_runs.is_finished_elsewhere(mine) and not caplog.messages
  assert shared_runs.adopt([mine]) == 0
  assert f"{source} is finished, but read other images" in caplog.text
  digest = federation.server_digest(held)
  (source / "data.json").write_text(json.dumps({"server": digest}))
  assert shared_runs.adopt([mine]) == 1


def test_tables_are_on_the_disk_before_the_mark_of_a_complete_run(
  config, tmp_path, monkeypatch
):
  """A power cut would else leave a run that is done and has empty tables."""
  synced = []

  def sync(file):
    marked = (pathlib.Path(file).parent / "summary.json").exists()
    synced.append((pathlib.Path(file).name, marked))

  monkeypatch.setattr(whole_files, "sync", sync)
  finish(place(config, tmp_path / "table4"))
  assert shared_runs.adopt([place(config, tmp_path / "table5")]) == 1
  assert ("metrics.csv", False) in synced and not any(marked for _, marked in synced)


@pytest.mark.parametrize("changes", [{"version": "0.0.0"}, {"config_hash": "other"}])
def test_another_run_or_version_is_left(changes, config, tmp_path):
  finish(place(config, tmp_path / "table4"), **changes)
  assert shared_runs.adopt([place(config, tmp_path / "table5")]) == 0


def test_an_unfinished_run_is_left(config, tmp_path):
  (finish(place(config, tmp_path / "table4")) / "summary.json").unlink()
  assert shared_runs.adopt([place(config, tmp_path / "table5")]) == 0


def test_a_run_that_has_begun_here_is_not_touched(config, tmp_path):
  finish(place(config, tmp_path / "table4"))
  mine = place(config, tmp_path / "table5")
  begun = finish(mine)
  (begun / "summary.json").unlink()
  assert shared_runs.adopt([mine]) == 0 and not (begun / "summary.json").exists()


def test_a_copy_that_was_stopped_half_way_is_made_again(config, tmp_path, monkeypatch):
  finish(place(config, tmp_path / "table4"))
  mine = place(config, tmp_path / "table5")

  def stop(*_, **__):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(whole_files, "write_bytes", stop)
    shared_runs.adopt([mine])
  target = pathlib.Path(mine.output_dir)
  (target / "config.json").write_text('{"config_h')  # or even in the middle of a file
  assert (target / "metrics.csv").exists() and not (target / "summary.json").exists()
  assert shared_runs.is_finished_elsewhere(mine)
  assert shared_runs.adopt([mine]) == 1
  config_file = (
    pathlib.Path(place(config, tmp_path / "table4").output_dir) / "config.json"
  )
  assert (target / "config.json").read_text() == config_file.read_text()
  assert (target / "summary.json").exists()


def test_a_failure_before_the_first_round_gives_way_to_a_neighbours_run(
  config, tmp_path
):
  finish(place(config, tmp_path / "table4"))
  mine = place(config, tmp_path / "table5")
  with claims.claim(mine.output_dir):
    claims.mark_failed(mine.output_dir, ValueError("no data"))
  assert shared_runs.adopt([mine]) == 1 and claims.failure(mine.output_dir) is None


def test_a_run_that_another_process_has_just_begun_is_not_counted(config, tmp_path):
  finish(place(config, tmp_path / "table4"))
  mine = place(config, tmp_path / "table5")
  with claims.claim(mine.output_dir):
    assert shared_runs.adopt([mine]) == 0
  assert not (pathlib.Path(mine.output_dir) / "summary.json").exists()


def test_the_folder_of_another_version_is_not_overwritten(config, tmp_path):
  finish(place(config, tmp_path / "table4"))
  mine = place(config, tmp_path / "table5")
  target = pathlib.Path(mine.output_dir)
  target.mkdir(parents=True)
  other = json.dumps({"config_hash": config.hash(), "version": "0.0.0"})
  (target / "config.json").write_text(other)
  assert shared_runs.adopt([mine]) == 0
  assert (target / "config.json").read_text() == other


def test_what_would_be_taken_over_is_known_before(config, tmp_path):
  mine = place(config, tmp_path / "table5")
  assert not shared_runs.is_finished_elsewhere(mine)
  mark = finish(place(config, tmp_path / "table4")) / "summary.json"
  assert shared_runs.is_finished_elsewhere(mine)
  assert not pathlib.Path(mine.output_dir).exists()
  mark.unlink()
  assert not shared_runs.is_finished_elsewhere(mine)
  mark.write_text("{}")
  shared_runs.adopt([mine])  # now it is here, and no longer elsewhere only
  assert not shared_runs.is_finished_elsewhere(mine)
