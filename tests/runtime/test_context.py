"""Calls through the runtime: results, lost workers, time limits."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.runtime.process_probe import ends_within, is_running
from tff_defenses.runtime import (
  WorkerError,
  WorkerTimeoutError,
  context,
  process,
  use_local_worker,
)

_LONG = 100_000_000  # steps of `count_to`, 4 microseconds each: minutes
_KILL_SECONDS = 0.4  # into a call


@pytest.fixture(scope="module")
def count_to():
  import tensorflow as tf
  import tensorflow_federated as tff

  @tff.tensorflow.computation(np.int32)
  def count(limit):
    return tf.while_loop(lambda i: i < limit, lambda i: (i + 1,), (tf.constant(0),))[0]

  return count


@pytest.fixture(scope="module")
def steps_of_seconds(own_runtime, count_to):
  """Steps that last about 1.5 seconds on this machine, by the fastest short call."""
  own_runtime.call(count_to, 1)
  short, seconds = 50_000, []
  for _ in range(3):
    started = time.monotonic()
    own_runtime.call(count_to, short)
    seconds.append(time.monotonic() - started)
  return round(1.5 / min(seconds) * short)


@contextlib.contextmanager
def killed_soon(pid, number=signal.SIGKILL):
  """Sends a process a signal while the body runs, never after it."""
  killer = threading.Timer(_KILL_SECONDS, os.kill, (pid, number))
  killer.start()
  try:
    yield
  finally:
    killer.cancel()
    killer.join()


def test_import_is_light():
  script = (
    "import sys, tff_defenses.runtime\n"
    "heavy = {'tensorflow', 'tensorflow_federated', 'jax', 'grpc'} & set(sys.modules)\n"
    "sys.exit(f'imported {heavy}' if heavy else 0)"
  )
  done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_shared_runtime_is_the_default_context(runtime, total):
  assert total([1, 2, 3]) == 6
  assert runtime.call(total, [1, 2]) == 3


def test_worker_that_holds_too_much_is_replaced_and_no_other(
  own_runtime, count_to, caplog
):
  first = own_runtime.worker.pid
  held = own_runtime.worker.resident_bytes
  assert 1e6 < held <= own_runtime.worker.peak_bytes
  own_runtime.shrink(2 * held)
  assert own_runtime.worker.pid == first
  with caplog.at_level(logging.WARNING):
    own_runtime.shrink(held // 2)
  assert own_runtime.worker.pid not in (None, first)
  assert count_to(3) == 3  # the new worker is the default context
  assert not caplog.messages


def test_worker_that_holds_more_than_is_left_is_replaced(own_runtime, monkeypatch):
  first, held = own_runtime.worker.pid, own_runtime.worker.resident_bytes
  monkeypatch.setattr(process, "available_bytes", lambda: held // 2)
  own_runtime.shrink_if_short()
  assert own_runtime.worker.pid == first  # it holds too little to care
  monkeypatch.setattr(context, "MOST_IDLE_BYTES", 0)
  own_runtime.shrink_if_short()
  assert own_runtime.worker.pid not in (None, first)
  monkeypatch.undo()
  second = own_runtime.worker.pid
  own_runtime.shrink_if_short()
  assert own_runtime.worker.pid == second


def test_available_memory_is_read_from_what_linux_says(tmp_path):
  assert 0 < process.available_bytes() < sys.maxsize
  (tmp_path / "info").write_text("MemTotal: 9 kB\nMemAvailable:    5 kB\n")
  assert process.available_bytes(tmp_path / "info") == 5 * 1024
  (tmp_path / "info").write_text("MemTotal: 9 kB\n")
  assert process.available_bytes(tmp_path / "info") == sys.maxsize
  assert process.available_bytes(tmp_path / "absent") == sys.maxsize


def test_worker_killed_during_a_call_is_replaced_and_the_call_repeated(
  own_runtime, count_to, steps_of_seconds, caplog
):
  first = own_runtime.worker.pid
  with caplog.at_level(logging.WARNING), killed_soon(first):
    assert own_runtime.call(count_to, steps_of_seconds) == steps_of_seconds
  assert own_runtime.worker.pid != first
  assert "Repeating a call" in caplog.text and "SIGKILL" in caplog.text
  assert count_to(3) == 3  # the new worker is the default context


def test_worker_killed_more_often_than_allowed_raises(own_runtime, count_to):
  started = time.monotonic()
  with (
    killed_soon(own_runtime.worker.pid),
    pytest.raises(WorkerError, match="SIGKILL") as raised,
  ):
    own_runtime.call(count_to, _LONG, max_restarts=0)
  assert time.monotonic() - started < 5
  assert not isinstance(raised.value, WorkerTimeoutError)
  assert own_runtime.call(count_to, 4) == 4


def test_computation_called_directly_does_not_wait_for_a_dead_worker(
  own_runtime, count_to
):
  started = time.monotonic()
  pid = own_runtime.worker.pid
  with killed_soon(pid), pytest.raises(WorkerError, match="SIGKILL"):
    count_to(_LONG)
  assert time.monotonic() - started < 5
  with pytest.raises(WorkerError, match="no worker"):
    count_to(1)


def test_call_that_takes_too_long_raises_and_the_next_one_works(own_runtime, count_to):
  started = time.monotonic()
  with pytest.raises(WorkerTimeoutError, match="timeout_seconds"):
    own_runtime.call(count_to, _LONG, timeout_seconds=1)
  assert time.monotonic() - started < 4
  assert own_runtime.call(count_to, 5, timeout_seconds=30) == 5


def test_ctrl_c_ends_the_call_and_the_worker(own_runtime, count_to):
  own_runtime.call(count_to, 1)
  pid = own_runtime.worker.pid
  with killed_soon(os.getpid(), signal.SIGINT), pytest.raises(KeyboardInterrupt):
    own_runtime.call(count_to, _LONG)
  assert ends_within(pid, 2)
  assert own_runtime.call(count_to, 6) == 6


def test_call_works_from_another_thread(own_runtime, count_to):
  results = []
  thread = threading.Thread(
    target=lambda: results.append(own_runtime.call(count_to, 7))
  )
  thread.start()
  thread.join(30)
  assert results == [7]


def test_other_errors_pass_through_and_leave_the_worker(own_runtime):
  def fail(message):
    raise KeyError(message)

  own_runtime.call(lambda: None)
  pid = own_runtime.worker.pid
  with pytest.raises(KeyError, match="mine"):
    own_runtime.call(fail, "mine", timeout_seconds=30)
  assert own_runtime.worker.pid == pid


def test_error_with_a_code_that_tff_would_repeat_for_ever_is_raised(own_runtime):
  import grpc
  import tensorflow as tf
  import tensorflow_federated as tff

  @tff.tensorflow.computation
  def read_before_init():
    table = tf.raw_ops.VarHandleOp(dtype=tf.int32, shape=[], shared_name="no_value")
    return tf.raw_ops.ReadVariableOp(resource=table, dtype=tf.int32)

  with pytest.raises(grpc.RpcError) as raised:
    own_runtime.call(read_before_init, timeout_seconds=30)
  assert "no_value" in raised.value.details()


def test_peak_memory_covers_driver_and_worker(own_runtime):
  own_runtime.call(lambda: None)
  peak = own_runtime.peak_memory_bytes()
  assert peak > own_runtime.worker.peak_bytes + 100e6  # TensorFlow alone takes more


def test_closed_runtime_says_so(count_to, own_runtime):
  closed = use_local_worker()
  pid = closed.worker.pid
  closed.close()
  closed.close()
  assert not is_running(pid)
  with pytest.raises(WorkerError, match="`close`"):
    closed.call(count_to, 1)
  with pytest.raises(WorkerError, match="no worker"):
    count_to(1)


@pytest.mark.parametrize("limit", [{"timeout_seconds": 0}, {"max_restarts": -1}])
def test_limit_outside_its_range_raises_with_its_name(own_runtime, limit):
  with pytest.raises(ValueError, match=next(iter(limit))):
    own_runtime.call(int, **limit)
