"""Several runs: shared with other processes, marked when they fail, tabled."""

import dataclasses
import json
import threading
import time

import pytest

from tests.experiments import pretended_runs
from tests.experiments.toy_runs import toy
from tff_defenses.experiments import (
  claims,
  figures,
  grid,
  loop,
  progress,
  records,
  run_record,
)
from tff_defenses.experiments import jobs as jobs_lib
from tff_defenses.experiments.config import ConfigError
from tff_defenses.experiments.errors import OutputError


@pytest.fixture
def pretend(monkeypatch, tmp_path):
  """Makes runs pretended; returns a setter of what happens in each, and the log."""
  log, hooks = tmp_path / "log", []

  def run(config, runtime, *, round_seconds=None, tensorboard=False):
    for hook in hooks:
      hook(config)
    pretended_runs.finish(config, seconds=0.01, log=log)

  def draw(path, *, into):
    assert into.parent == path
    (into / "drawn").open("a").write("once")

  monkeypatch.setattr(loop, "run", run)
  monkeypatch.setattr(figures, "draw_folder", draw)
  monkeypatch.setattr(grid, "_POLL_SECONDS", 0.02)
  log.touch()
  return hooks.append, lambda: log.read_text().split()


def test_each_run_is_run_drawn_and_tabled(pretend, tmp_path):
  configs = [
    toy(tmp_path / d, tmp_path, defense=d, attack="trigger", malicious_fraction=0.34)
    for d in ("fedavg", "flare")
  ]
  result = grid.run(configs, None)
  assert result.ok and set(result.states.values()) == {"done"}
  assert (tmp_path / "flare" / "figures" / "drawn").read_text() == "once"
  header, *rows = (line.split() for line in str(result).splitlines())
  assert rows[1] == [
    *("mnist5k", "flare", "trigger", "34", "0", "yes", "50.0", "25.0", "0.5", "3.0")
  ]
  assert "ASR" not in header  # nobody measured it


def test_runs_on_all_data_are_not_called_reduced(pretend, tmp_path):
  config = toy(tmp_path / "a", tmp_path, max_train_images=None, max_test_images=None)
  row = grid.run([config], None).table.splitlines()[1].split()
  assert row[:6] == ["mnist5k", "fedavg", "none", "0", "0", "no"]


def test_settings_reach_every_run(monkeypatch, tmp_path):
  found = []

  def run(config, runtime, **settings):
    found.append((runtime, settings))
    pretended_runs.finish(config)

  monkeypatch.setattr(loop, "run", run)
  monkeypatch.setattr(figures, "draw_folder", lambda path, into: None)
  configs = pretended_runs.configs(tmp_path, 2)
  grid.run(configs, "runtime", round_seconds=9.0, tensorboard=True)
  assert found == [("runtime", {"round_seconds": 9.0, "tensorboard": True})] * 2


def test_complete_runs_are_not_repeated_unless_asked(pretend, tmp_path):
  configs, (_, log) = pretended_runs.configs(tmp_path, 2), pretend
  grid.run(configs, None)
  grid.run(configs, None)
  assert log() == ["run0", "run1"]
  grid.run(configs, None, reuse=False)
  assert log() == ["run0", "run1"] * 2


def test_process_of_a_parent_leaves_repeating_to_it(pretend, tmp_path, monkeypatch):
  configs, (_, log) = pretended_runs.configs(tmp_path, 2), pretend
  grid.run(configs, None)
  monkeypatch.setenv(jobs_lib.CHILD_VARIABLE, "1")
  grid.run(configs, None, reuse=False)
  assert log() == ["run0", "run1"]


def test_failed_run_is_told_and_the_next_one_is_run(pretend, tmp_path):
  configs, (each, log) = pretended_runs.configs(tmp_path, 3), pretend
  failing = ["run1"]

  def fail(config):
    if progress.folder(config).name in failing:
      raise ValueError("the second\n  run is bad")

  each(fail)
  result = grid.run(configs, None)
  assert log() == ["run0", "run2"] and not result.ok
  assert list(result.states.values()) == ["done", "failed", "done"]
  assert "run1: ValueError: the second run is bad" in str(result)
  assert "1 of 3 runs failed" in str(result)
  failing.clear()
  assert grid.run(configs, None).ok  # the next call tries it again
  assert log() == ["run0", "run2", "run1"]


@pytest.mark.parametrize("text", ["", '{"accuracy": 0.'])
def test_run_with_a_damaged_summary_is_no_result(pretend, tmp_path, text):
  configs, (_, log) = pretended_runs.configs(tmp_path, 2), pretend
  grid.run(configs, None)
  mark = progress.folder(configs[1]) / "summary.json"
  mark.write_text(text)
  result = grid.run(configs, None)
  assert not result.ok and list(result.states.values()) == ["done", "failed"]
  assert f"{mark} must hold the results of a run, but it is damaged" in str(result)
  assert len(result.table.splitlines()) == 2  # the header and the other run
  assert "tries them again" not in str(result)  # it calls the run finished
  mark.unlink()  # as the sentence says
  assert grid.run(configs, None).ok and log() == ["run0", "run1", "run1"]


def test_damaged_seconds_are_told_and_the_result_stays(pretend, tmp_path, caplog):
  (config,) = configs = pretended_runs.configs(tmp_path, 1)
  grid.run(configs, None)
  (progress.folder(config) / "timing.csv").write_text("round,seconds_round\n1,abc\n")
  assert grid.run(configs, None).ok
  assert "timing.csv is damaged" in caplog.text


def test_failure_of_another_process_is_not_repeated_in_this_call(pretend, tmp_path):
  configs, (each, log) = pretended_runs.configs(tmp_path, 2), pretend

  def meanwhile(config):
    if progress.folder(config).name == "run0":
      other = progress.folder(configs[1])
      with claims.claim(other):
        claims.mark_failed(other, ValueError("there"))

  each(meanwhile)
  result = grid.run(configs, None)
  assert log() == ["run0"]
  assert list(result.failures.values()) == ["ValueError: there"]


def test_full_disk_ends_the_grid(pretend, tmp_path):
  each, log = pretend

  def full(config):
    if config.seed == 1:
      raise OutputError("no space")

  each(full)
  with pytest.raises(OutputError, match="no space"):
    grid.run(pretended_runs.configs(tmp_path, 3), None)
  assert log() == ["run0"]


def test_ctrl_c_is_no_failure(pretend, tmp_path):
  configs, (each, _) = pretended_runs.configs(tmp_path, 1), pretend

  def interrupt(config):
    raise KeyboardInterrupt

  each(interrupt)
  with pytest.raises(KeyboardInterrupt):
    grid.run(configs, None)
  assert progress.status(configs[0]) == "left"


def test_faults_and_foreign_folders_are_told_before_anything_is_run(pretend, tmp_path):
  configs, (_, log) = pretended_runs.configs(tmp_path, 2), pretend
  with pytest.raises(ConfigError, match="rounds"):
    grid.run([configs[0], toy(tmp_path / "x", tmp_path, rounds=0)], None)
  other = {"version": "9.9", "config_hash": configs[1].hash()}
  run = records.RunFolder(configs[1].output_dir, other)
  run.write_summary(pretended_runs.SUMMARY)
  with pytest.raises(OutputError, match=r"run1 holds the run of another version \(9.9"):
    grid.run(configs, None)
  assert log() == []


def test_nothing_is_discarded_for_what_is_then_refused(pretend, tmp_path):
  """Complete runs stay if `--noresume` comes with data that are not there."""
  done = pretended_runs.configs(tmp_path, 2)
  grid.run(done, None)
  lost = [
    dataclasses.replace(c, dataset="mnist", data_dir=str(tmp_path / "none"))
    for c in done
  ]
  for config, other in zip(done, lost, strict=True):  # as if they had been made so
    described = run_record.describe(other)
    file = progress.folder(config) / "config.json"
    file.write_text(json.dumps(described, default=str))
  before = {f: f.read_bytes() for f in tmp_path.glob("run*/*") if f.is_file()}
  with pytest.raises(ConfigError, match="MNIST"):
    grid.run(lost, None, reuse=False)
  with pytest.raises(ConfigError, match="MNIST"):
    jobs_lib.run(lost, 2, ["none.py"], reuse=False)
  assert {f: f.read_bytes() for f in tmp_path.glob("run*/*") if f.is_file()} == before


def test_run_that_another_process_holds_is_waited_for_and_taken_over(pretend, tmp_path):
  configs, (_, log) = pretended_runs.configs(tmp_path, 3), pretend
  with claims.claim(progress.folder(configs[0])):
    thread = threading.Thread(target=grid.run, args=(configs, None))
    thread.start()
    deadline = time.monotonic() + 10
    while len(log()) < 2 and time.monotonic() < deadline:
      time.sleep(0.01)
    time.sleep(0.1)
    assert log() == ["run1", "run2"] and thread.is_alive()
  thread.join(10)
  assert log() == ["run1", "run2", "run0"]


def test_invocations_at_once_run_each_run_once(pretend, tmp_path):
  configs, (_, log) = pretended_runs.configs(tmp_path, 20), pretend
  results = []
  threads = [
    threading.Thread(target=lambda: results.append(grid.run(configs, None)))
    for _ in range(3)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
  assert sorted(log()) == sorted(f"run{k}" for k in range(20))
  assert [result.ok for result in results] == [True] * 3
  for config in configs:
    assert (progress.folder(config) / "figures" / "drawn").read_text() == "once"


def test_figure_that_fails_is_no_failed_run(pretend, tmp_path, monkeypatch, caplog):
  def fail(path, *, into):
    raise ValueError("no font")

  monkeypatch.setattr(figures, "draw_folder", fail)
  assert grid.run(pretended_runs.configs(tmp_path, 1), None).ok
  assert "no font" in caplog.text


def test_figures_that_were_broken_off_are_drawn_again(pretend, tmp_path):
  (config,) = pretended_runs.configs(tmp_path, 1)
  half = progress.folder(config) / ".figures"
  half.mkdir(parents=True)
  (half / "drawn").write_text("half")
  assert grid.run([config], None).ok
  assert (progress.folder(config) / "figures" / "drawn").read_text() == "once"
  assert not half.exists()
