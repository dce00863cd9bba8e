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
from tests.runtime.process_probe import ends_within
from tff_defenses.experiments import jobs, progress
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
  assert sorted(p.name for p in (tmp_path / ".jobs").iterdir()) == ["1.log", "2.log"]


def test_process_that_was_killed_is_replaced(arguments, tmp_path, caplog):
  result = jobs.run(pretended_runs.configs(tmp_path, 2), 1, arguments(2, "killed"))
  assert result.ok
  assert caplog.text.count("was ended by SIGKILL and is replaced") == 1


def test_process_that_gives_up_is_not_replaced_and_its_words_are_told(
  arguments, tmp_path
):
  configs = pretended_runs.configs(tmp_path, 2)
  with pytest.raises(WorkerError, match="2 runs are left.*the process cannot go on"):
    jobs.run(configs, 1, arguments(2, "ends"))


def test_interrupted_parent_ends_its_processes(arguments, tmp_path):
  configs = pretended_runs.configs(tmp_path, 1)
  pids = []

  def interrupt():
    while not progress.claims.is_held(configs[0].output_dir):
      time.sleep(0.05)
    pids.extend(children_of(os.getpid()))
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
  pids = children_of(parent.pid)
  parent.kill()
  parent.wait()
  assert pids and all(ends_within(pid, 5) for pid in pids)


def children_of(pid):
  """Processes started by a process."""
  found = []
  for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
      parent = int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
      continue
    if parent == pid and "pretended" in (stat.parent / "cmdline").read_text():
      found.append(int(stat.parent.name))
  return found
