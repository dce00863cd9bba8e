"""Several processes that share pretended runs: killed, ended, interrupted."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.experiments import pretended_runs
from tests.runtime.process_probe import children_of, ends_within
from tff_defenses.experiments import claims, jobs, progress
from tff_defenses.runtime import WorkerError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "experiments" / "pretended_runs.py"


@pytest.fixture
def arguments(tmp_path, monkeypatch):
  """Command line of the processes: two runs, and what happens to the first process."""
  monkeypatch.setenv("PYTHONPATH", str(ROOT))

  def make(number, happens="nothing"):
    return [str(SCRIPT), str(tmp_path), str(number), str(tmp_path / "log"), happens]

  return make


def test_processes_share_the_runs(arguments, tmp_path):
  configs = pretended_runs.configs(tmp_path, 6)
  result = jobs.run(configs, 2, arguments(6))
  assert result.ok and len(result.table.splitlines()) == 7
  made = (tmp_path / "log").read_text().split()
  assert sorted(made) == [f"run{k}" for k in range(6)]
  logs = sorted(path.name for path in (tmp_path / ".jobs").iterdir())
  assert logs == [f"{os.getpid()}-1.log", f"{os.getpid()}-2.log"]


def test_process_that_was_killed_is_replaced(arguments, tmp_path, caplog):
  result = jobs.run(pretended_runs.configs(tmp_path, 2), 1, arguments(2, "killed"))
  assert result.ok
  assert caplog.text.count("was ended by SIGKILL and is replaced") == 1


def test_process_that_gives_up_is_not_replaced_and_its_words_are_told(
  arguments, tmp_path
):
  configs = pretended_runs.configs(tmp_path, 2)
  with pytest.raises(
    WorkerError, match=r"2 left \(run0, run1\).*the process cannot go on"
  ):
    jobs.run(configs, 1, arguments(2, "ends"))


def test_runs_that_another_command_still_works_on_are_not_passed_over(tmp_path):
  configs = pretended_runs.configs(tmp_path, 6)
  words = (
    r"not all runs are done: 5 left \(run1, run2, run3, \.\.\.\), "
    r"1 running in another process \(run0\)\..* none of the processes failed"
  )
  with claims.claim(configs[0].output_dir), pytest.raises(WorkerError, match=words):
    jobs.run(configs, 1, ["-c", "pass"])
  for config in configs[1:]:
    pretended_runs.finish(config)
  with claims.claim(configs[0].output_dir), pytest.raises(WorkerError, match="1 runn"):
    jobs.run(configs, 1, ["-c", "pass"])


# Processes 1, 3, 2, 4 end in this order, each once the end of the one before was seen:
# a process stays in /proc until its parent asks for its exit code. 4 does not fail.
ONE_BY_ONE = """
import os, pathlib, sys, time
number, folder = int(os.environ[sys.argv[1]]), pathlib.Path(sys.argv[2])
print("number", number)
(folder / f"pid{number}").symlink_to(f"/proc/{os.getpid()}")
follows = {3: 1, 2: 3, 4: 2}
if number in follows:
  before = folder / f"pid{follows[number]}"
  while not before.is_symlink() or before.exists():
    time.sleep(0.02)
sys.exit([3, 4, 5, 0][number - 1])
"""


def test_last_process_that_failed_is_cited(tmp_path):
  words = rf"{os.getpid()}-2\.log \(exit code 4\): number 2$"
  argv = ["-c", ONE_BY_ONE, jobs.CHILD_VARIABLE, str(tmp_path)]
  with pytest.raises(WorkerError, match=words):
    jobs.run(pretended_runs.configs(tmp_path, 4), 4, argv)


def test_logs_of_another_command_are_left_alone(tmp_path):
  logs = tmp_path / "run0" / ".jobs"
  logs.mkdir(parents=True)
  (logs / "1-1.log").write_text("of process 1")
  with pytest.raises(WorkerError):
    jobs.run(pretended_runs.configs(tmp_path, 1), 1, ["-c", "pass"])
  assert (logs / "1-1.log").read_text() == "of process 1"


def test_interrupted_parent_ends_its_processes(arguments, tmp_path):
  configs = pretended_runs.configs(tmp_path, 1)
  pids = []

  def interrupt():
    while not progress.claims.is_held(configs[0].output_dir):
      time.sleep(0.05)
    pids.extend(children_of(os.getpid(), "pretended"))
    os.kill(os.getpid(), signal.SIGINT)

  threading.Thread(target=interrupt, daemon=True).start()
  with pytest.raises(KeyboardInterrupt):
    jobs.run(configs, 1, arguments(1, "waits"))
  assert pids and all(ends_within(pid, 5) for pid in pids)
  assert progress.status(configs[0]) == "left"


def test_killed_parent_takes_its_processes_along(arguments, tmp_path):
  config = pretended_runs.configs(tmp_path, 1)[0]
  script = (
    "from tests.experiments import pretended_runs\n"
    "from tff_defenses.experiments import jobs\n"
    f"configs = pretended_runs.configs({str(tmp_path)!r}, 1)\n"
    f"jobs.run(configs, 1, {arguments(1, 'waits')!r})\n"
  )
  parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
  deadline = time.monotonic() + 30
  while progress.status(config) != "running" and time.monotonic() < deadline:
    time.sleep(0.05)
  pids = children_of(parent.pid, "pretended")
  parent.kill()
  parent.wait()
  assert pids and all(ends_within(pid, 5) for pid in pids)
