"""The worker process: starts, settings, errors, and that nothing is left of it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.runtime.process_probe import (
  arguments_of,
  ends_within,
  environment_of,
  is_running,
)
from tff_defenses.runtime import ONEDNN, LocalWorker, WorkerError, process

_DRIVER = pathlib.Path(__file__).with_name("driver_script.py")


@pytest.fixture(scope="module")
def worker():
  running = LocalWorker()
  running.start()
  yield running
  running.stop()


def start_driver(ending, **settings):
  return subprocess.Popen(
    [sys.executable, str(_DRIVER), ending],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **settings,
  )


def fake_binary(folder, script):
  path = folder / "fake_worker"
  path.write_text(f"#!/bin/sh\n{script}\n")
  path.chmod(0o755)
  return path


@pytest.mark.parametrize("ending", ["return", "raise"])
def test_no_worker_is_left_when_the_driver_ends(ending):
  driver = start_driver(ending)
  stdout, stderr = driver.communicate(timeout=30)  # returns: the worker holds no pipe
  assert ends_within(int(stdout), 5)
  assert ("the driver fails" in stderr) == (ending == "raise")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_is_left_when_the_driver_gets(number):
  driver = start_driver("wait")
  pid = int(driver.stdout.readline())
  assert is_running(pid)
  driver.send_signal(number)
  driver.communicate(timeout=30)
  assert ends_within(pid, 5)


def test_ctrl_c_reaches_the_driver_alone():
  driver = start_driver("wait", start_new_session=True)
  pid = int(driver.stdout.readline())
  assert os.getpgid(pid) != os.getpgid(driver.pid)
  os.killpg(driver.pid, signal.SIGINT)  # what a terminal does
  _, stderr = driver.communicate(timeout=30)
  assert stderr.rstrip().endswith("KeyboardInterrupt")
  assert stderr.count("Traceback") == 1
  assert ends_within(pid, 5)


def test_worker_started_in_a_thread_outlives_the_thread_but_not_the_driver():
  driver = start_driver("thread")
  pid = int(driver.stdout.readline())  # "dead" if it ended with the thread
  driver.kill()
  driver.communicate(timeout=30)
  assert ends_within(pid, 5)


def test_worker_ends_with_a_driver_that_ignores_and_blocks_its_signals():
  def deafen():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

  driver = start_driver("wait", preexec_fn=deafen)
  pid = int(driver.stdout.readline())
  os.kill(pid, signal.SIGTERM)
  assert ends_within(pid, 5)
  driver.kill()
  driver.communicate(timeout=30)


def test_pipe_of_the_driver_closes():
  command = f"{sys.executable} {_DRIVER} return | cat"
  done = subprocess.run(command, shell=True, capture_output=True, timeout=30, text=True)
  assert ends_within(int(done.stdout), 5)


def test_launcher_gives_up_when_its_parent_has_ended():
  command = [sys.executable, process.launcher.__file__, "1", "/bin/echo", "started"]
  done = subprocess.run(command, capture_output=True, timeout=30, text=True)
  assert done.returncode == 1
  assert done.stdout == ""


def test_threads_and_concurrency_follow_the_cores(worker):
  cores = len(os.sched_getaffinity(0))
  assert f"--max_concurrent_computation_calls={cores}" in arguments_of(worker.pid)
  assert environment_of(worker.pid)["TF_NUM_INTRAOP_THREADS"] == "2"


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("0", "0")])
def test_onednn_is_on_unless_the_environment_says_otherwise(
  monkeypatch, tmp_path, given, found
):
  monkeypatch.delenv(ONEDNN, raising=False)
  if given is not None:
    monkeypatch.setenv(ONEDNN, given)
  worker = LocalWorker(log_path=tmp_path / "log")
  worker.start()
  assert environment_of(worker.pid)["TF_ENABLE_ONEDNN_OPTS"] == found
  worker.stop()


def test_given_settings_reach_the_process(tmp_path):
  worker = LocalWorker(num_cores=3, intra_op_threads=2, log_path=tmp_path / "log")
  worker.start()
  assert "--max_concurrent_computation_calls=3" in arguments_of(worker.pid)
  assert environment_of(worker.pid)["TF_NUM_INTRAOP_THREADS"] == "2"
  assert repr(worker) == (
    f"LocalWorker(pid={worker.pid}, concurrency=3, intra_op_threads=2, "
    "inter_op_threads=0)"
  )
  worker.stop()
  assert (tmp_path / "log").exists()


def test_memory_is_read_from_the_process(worker):
  resident = process.status_bytes(worker.pid, "VmRSS")
  assert 10e6 < resident <= worker.peak_bytes < 1e9


def test_start_of_a_running_worker_changes_nothing(worker):
  pid = worker.pid
  worker.start()
  assert worker.pid == pid


def test_stopped_worker_starts_anew():
  worker = LocalWorker()
  worker.start()
  first = worker.pid
  worker.stop()
  worker.start()
  assert worker.pid not in (None, first)
  assert not is_running(first)
  worker.stop()
  worker.stop()
  assert (worker.pid, worker.address, worker.is_alive) == (None, None, False)


def test_port_of_a_worker_is_given_to_no_other(worker):
  addresses = [process.reserve_port() for _ in range(20)]
  ports = {reserved.getsockname()[1] for reserved in addresses}
  for reserved in addresses:
    reserved.close()
  assert len(ports) == 20
  assert int(worker.address.split(":")[1]) not in ports


def test_proxy_settings_do_not_reach_the_local_worker(monkeypatch):
  monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
  worker = LocalWorker(start_seconds=10)
  worker.start()
  worker.stop()


def test_worker_that_never_answers_raises_with_its_log(tmp_path):
  binary = fake_binary(tmp_path, "echo loading; exec sleep 60")
  worker = LocalWorker(binary=binary, start_seconds=1)
  started = time.monotonic()
  with pytest.raises(WorkerError, match=r"within 1 s(.|\n)*loading"):
    worker.start()
  assert time.monotonic() - started < 5
  assert not worker.is_alive


def test_worker_that_ends_at_once_raises_with_exit_code_and_log(tmp_path):
  worker = LocalWorker(binary=fake_binary(tmp_path, "echo no memory >&2; exit 7"))
  with pytest.raises(WorkerError, match=r"exit code 7(.|\n)*no memory"):
    worker.start()


def test_worker_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
  monkeypatch.setattr(process, "_TERMINATE_SECONDS", 0.2)
  script = "trap '' TERM; echo $$; while true; do sleep 0.1; done"
  worker = LocalWorker(binary=fake_binary(tmp_path, script), start_seconds=1)
  with pytest.raises(WorkerError) as raised:
    worker.start()
  assert ends_within(int(str(raised.value).splitlines()[1]), 5)


def test_binary_of_another_machine_raises(tmp_path):
  path = tmp_path / "worker"
  path.write_bytes(b"\x7fELF of another machine")
  path.chmod(0o755)
  with pytest.raises(WorkerError, match="must be a program for this machine"):
    LocalWorker(binary=path).start()


def test_missing_binary_raises_with_the_remedy(tmp_path):
  with pytest.raises(WorkerError, match="must exist.*README"):
    LocalWorker(binary=tmp_path / "none").start()


def test_binary_that_is_not_executable_raises_with_the_remedy(tmp_path):
  path = tmp_path / "worker"
  path.touch()
  with pytest.raises(WorkerError, match="chmod"):
    LocalWorker(binary=path).start()


@pytest.mark.parametrize(
  "setting",
  [
    {"num_cores": 0},
    {"concurrency": 0},
    {"intra_op_threads": -1},
    {"inter_op_threads": -1},
    {"start_seconds": 0},
  ],
)
def test_setting_outside_its_range_raises_with_its_name(setting):
  with pytest.raises(ValueError, match=next(iter(setting))):
    LocalWorker(**setting)
