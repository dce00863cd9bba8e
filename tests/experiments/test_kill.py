"""Processes that are really killed: the same command goes on to the same bytes."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.experiments import toy_grid
from tests.runtime.process_probe import children_of, ends_within, is_running
from tff_defenses.experiments import progress

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIFFERS = ("timing.csv",)
FOLDERS = ("checkpoint", "figures")  # of states, and drawn from the files
KILLS = 6
SECONDS = 300  # of one attempt, at most; machines may be busy


def start(output, cache, names, log):
  """The grid in a process of its own; its output goes to a file."""
  command = [sys.executable, "-m", "tests.experiments.toy_grid", str(output)]
  with log.open("ab") as stream:
    return subprocess.Popen(
      [*command, str(cache), *names],
      cwd=ROOT,
      stdin=subprocess.DEVNULL,
      stdout=stream,
      stderr=stream,
    )


def worker_of(driver):
  """Process id of a driver's TFF worker, or None."""
  return next(iter(children_of(driver, "worker_binary")), None)


def rounds_of(configs):
  """Rounds that all runs have finished; 99 for one that is complete."""
  done = {True: 99}
  return sum(
    done.get(progress.status(config) == "done") or progress.rounds_done(config)
    for config in configs
  )


def wait_for_rounds(process, configs, number):
  """Waits until so many rounds are finished; False: the process has ended before."""
  deadline = time.monotonic() + SECONDS
  while rounds_of(configs) < number:
    assert time.monotonic() < deadline, "no round was finished in time"
    if process.poll() is not None:
      return False
    time.sleep(0.01)
  return True


def files(folder):
  """Content of all files that must be the same bytes."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
    and path.name not in DIFFERS
    and not set(path.relative_to(folder).parts) & set(FOLDERS)
  }


def assert_same(found, expected):
  assert list(found) == list(expected)
  assert [name for name in found if found[name] != expected[name]] == []


@pytest.mark.slow  # twice the import of TFF
def test_killed_driver_leaves_nothing_running_and_goes_on(
  fedavg_run, tmp_path, shard_cache
):
  log, output = tmp_path / "log", tmp_path / "grid"
  configs = toy_grid.configs(output, shard_cache, ["fedavg"])
  process = start(output, shard_cache, ["fedavg"], log)
  assert wait_for_rounds(process, configs, 1), log.read_text()
  worker = worker_of(process.pid)
  process.kill()
  process.wait()
  assert ends_within(worker, 5) and progress.status(configs[0]) == "left"
  process = start(output, shard_cache, ["fedavg"], log)
  assert process.wait(SECONDS) == 0, log.read_text()
  assert_same(files(output / "fedavg"), files(fedavg_run.folder.path))


@pytest.mark.slow  # six times the import of TFF: 2 to 5 minutes
def test_grid_killed_at_random_moments_ends_with_the_same_bytes(tmp_path):
  rng, names = random.Random(0), list(toy_grid.RUNS)
  cache, log = tmp_path / "cache", tmp_path / "log"
  whole = start(tmp_path / "whole", cache, names, log)
  assert whole.wait(SECONDS) == 0, log.read_text()
  output, kills = tmp_path / "broken", []
  configs = toy_grid.configs(output, cache, names)
  while True:
    process, before = start(output, cache, names, log), len(kills)
    while len(kills) < KILLS and process.poll() is None:
      kill_once(process, configs, rng, kills)
    if process.wait(SECONDS) == 0:
      break
    assert len(kills) > before, log.read_text()
  print("killed:", kills)
  assert len(kills) >= 3
  assert_same(files(output), files(tmp_path / "whole"))


def kill_once(process, configs, rng, kills):
  """Kills the driver, or its worker, a moment after a further round."""
  if not wait_for_rounds(process, configs, rounds_of(configs) + rng.randint(0, 1)):
    return
  deadline = time.monotonic() + SECONDS
  while (worker := worker_of(process.pid)) is None and process.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.05)
  time.sleep(rng.choice([0.0, 0.1, 1.0]) + rng.random())
  victim = rng.choice(["driver", "driver", "worker"])
  kills.append((victim, rounds_of(configs)))
  if worker is not None and is_running(process.pid):
    os.kill(process.pid if victim == "driver" else worker, signal.SIGKILL)
  if victim == "driver":
    process.wait()
    assert worker is None or ends_within(worker, 5)


@pytest.mark.slow
def test_two_invocations_at_once_share_the_work(tmp_path):
  names, cache, log = list(toy_grid.RUNS), tmp_path / "cache", tmp_path / "log"
  both = [start(tmp_path / "grid", cache, names, log) for _ in range(2)]
  assert [process.wait(SECONDS) for process in both] == [0, 0], log.read_text()
  for config in toy_grid.configs(tmp_path / "grid", cache, names):
    assert progress.status(config) == "done"
    assert progress.rounds_done(config) == config.rounds
