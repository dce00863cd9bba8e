"""How far runs are, from their folders alone."""

import os

import pytest

from tests.experiments import pretended_runs
from tff_defenses.experiments import claims, progress


@pytest.fixture
def configs(tmp_path):
  """Done, running in round 2, failed, left."""
  found = pretended_runs.configs(tmp_path, 4)
  pretended_runs.finish(found[0])
  with claims.claim(progress.folder(found[2])):
    claims.mark_failed(progress.folder(found[2]), ValueError("bad"))
  with claims.claim(progress.folder(found[1])) as _:
    (progress.folder(found[1]) / "metrics.csv").write_bytes(b"round,a\r\n1,2\r\n2,")
    yield found


def test_status_is_read_from_the_folder(configs):
  found = [progress.status(config) for config in configs]
  assert found == ["done", "running", "failed", "left"]
  assert progress.count(configs) == {"done": 1, "running": 1, "failed": 1, "left": 1}
  assert [progress.rounds_done(config) for config in configs] == [1, 1, 0, 0]


def test_looking_makes_no_folder(configs):
  progress.status(configs[3])
  assert not os.path.exists(configs[3].output_dir)


def test_done_run_of_another_config_is_not_this_one(configs):
  import dataclasses

  other = dataclasses.replace(configs[0], seed=99)
  assert progress.status(other) == "left"


def test_time_left_by_hand(configs):
  # One run took 3 s; one is left and two of three rounds of another: 3 * (1 + 2/3).
  assert progress.seconds_left(configs) == pytest.approx(5)
  assert progress.seconds_left(configs, jobs=2) == pytest.approx(2.5)
  assert progress.seconds_left(configs[1:]) is None


def test_no_more_processes_work_than_there_are_runs_to_do(configs):
  assert progress.seconds_left(configs, jobs=8) == pytest.approx(2.5)  # two are to do
  assert progress.seconds_left(configs[:1], jobs=8) == 0


def test_log_file_gets_a_line_when_something_has_changed(configs, capsys):
  with progress.Display(configs) as display:
    display.update()
    pretended_runs.finish(configs[3])
    display.update()
  lines = capsys.readouterr().err.splitlines()
  assert lines == [
    "runs: 1 done, 1 running, 1 failed, 1 left; about 00:05 to go",
    "runs: 2 done, 1 running, 1 failed, 0 left; about 00:02 to go",
  ]


def test_terminal_gets_a_bar(configs, capsys, monkeypatch):
  monkeypatch.setattr("sys.stderr.isatty", lambda: True)
  with progress.Display(configs):
    pass
  shown = capsys.readouterr().err
  assert "2/4" in shown and "1 running, 1 failed, 1 left" in shown


def test_bar_of_rounds_counts_those_done_before(capsys):
  assert list(progress.rounds_bar(2, 4, shown=True, desc="rounds")) == [3, 4]
  assert "4/4" in capsys.readouterr().err
  assert list(progress.rounds_bar(2, 4, shown=False)) == [3, 4]
  assert capsys.readouterr().err == ""


def test_logs_lie_beside_the_runs_of_a_grid_and_in_a_single_run(configs, tmp_path):
  assert progress.log_folder(configs) == tmp_path / ".jobs"
  assert progress.log_folder(configs[:1]) == tmp_path / "run0" / ".jobs"
