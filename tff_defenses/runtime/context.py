"""Running TFF computations on workers that may die, hang or be interrupted."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tff_defenses.runtime import process
from tff_defenses.runtime.errors import WorkerError, WorkerTimeoutError
from tff_defenses.runtime.remote import RemoteWorkers
from tff_defenses.runtime.worker import LocalWorker

MOST_IDLE_BYTES = 2 * 2**30  # ours: a new worker takes a second or two

_LOGGER = logging.getLogger(__name__)


def use_local_worker(**settings) -> "Runtime":
  """Starts a worker on this machine and makes it TFF's default context.

  Args:
    **settings: of `LocalWorker`.

  Returns:
    The runtime; close it, or use it in a `with` statement.

  Raises:
    ValueError: a setting is outside its range.
    WorkerError: the worker cannot be started.
  """
  return Runtime(LocalWorker(**settings))


def use_remote_workers(
  addresses: Sequence[str], *, connect_seconds: float = 10
) -> "Runtime":
  """Makes running workers TFF's default context.

  Start one on each machine: `TF_ENABLE_ONEDNN_OPTS=1 worker_binary --port=8000
  --max_concurrent_computation_calls=4`, with ONEDNN_MAX_CPU_ISA too where it is set
  here: a worker's kernels are its own environment's. The traffic is not encrypted:
  private networks and tunnels only. Clients are split evenly over the workers and
  partial aggregates merged, so with two or more a computation must contain just one
  aggregation and return nothing of the clients.

  Args:
    addresses: `host:port` of each worker.
    connect_seconds: limit of connecting to all of them.

  Returns:
    The runtime; closing it leaves the workers running.

  Raises:
    ValueError: an address is not `host:port`, or occurs twice.
    WorkerError: a worker does not answer.
  """
  return Runtime(RemoteWorkers(addresses, connect_seconds=connect_seconds))


class Runtime:
  """TFF's default context on one local worker or on several remote ones.

  TFF's default context belongs to a thread: computations called directly run in the
  thread that made the runtime, `call` works from any thread (one call at a time).

  Args:
    worker: a `LocalWorker` or `RemoteWorkers`; it is started here.

  Raises:
    WorkerError: the worker cannot be started or reached.
  """

  def __init__(self, worker: LocalWorker | RemoteWorkers):
    self.worker = worker
    self._context = None
    self._is_closed = False
    try:
      self._start()
    except BaseException:
      worker.stop()
      raise

  def __enter__(self) -> "Runtime":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def call(
    self,
    computation: Callable,
    *args,
    timeout_seconds: float | None = None,
    max_restarts: int = 1,
  ) -> Any:
    """Runs a computation, and survives the death of the worker.

    All state is in the arguments, so a call whose worker died is repeated on a new
    one. A worker that is found dead before the call is started again as well. Ctrl-C
    ends the worker and the call; the next call starts it anew.

    Args:
      computation: a TFF computation, or a function that runs some.
      *args: its arguments; iterators would be used up by the first attempt.
      timeout_seconds: limit of one attempt, > 0, after which a local worker is killed
        and remote ones are disconnected. Default: none.
      max_restarts: how often to start the worker again and repeat, >= 0.

    Returns:
      What the computation returns.

    Raises:
      ValueError: a number is outside its range.
      WorkerTimeoutError: an attempt took too long; it is not repeated.
      WorkerError: the worker died once more than `max_restarts`, cannot be started,
        or the runtime is closed.
      Exception: whatever the computation raises, unchanged; but see
        `RemoteWorkers.has_failed`.
    """
    _check_limits(timeout_seconds, max_restarts)
    for remaining in range(max_restarts, -1, -1):
      self._ensure_worker()
      try:
        return self._attempt(computation, args, timeout_seconds)
      except WorkerTimeoutError:
        raise
      except WorkerError as error:
        if self.worker.is_alive or not remaining:
          raise
        _LOGGER.warning("Repeating a call on a new worker. %s", error)
        self._start()
    raise AssertionError("unreachable: the last attempt returns or raises")

  def make_default(self) -> None:
    """Makes this runtime TFF's default again, after another one was used."""
    self._ensure_worker()
    from tff_defenses.runtime import execution

    execution.set_default_context(self._context)

  def close(self) -> None:
    """Ends a local worker, or leaves remote ones; may be called repeatedly."""
    self._is_closed = True
    self.worker.stop()

  def shrink(self, most_bytes: int = MOST_IDLE_BYTES) -> None:
    """Starts the worker anew if it holds more than `most_bytes`; for between two runs.

    A worker gives little back of what finished computations took: fifteen short runs of
    up to 50 clients left it with more than 20 GB. Remote workers are left alone.

    Raises:
      WorkerError: the worker cannot be started again.
    """
    if self.worker.resident_bytes > most_bytes:
      self.worker.stop()
      self._start()

  def shrink_if_short(self) -> None:
    """Starts the worker anew if it holds more than this machine has left.

    For between two rounds: with 30 clients a round that keep a MobileNet each, a worker
    grew by about 1 GB from round to round, until the machine had no more.

    Raises:
      WorkerError: the worker cannot be started again.
    """
    self.shrink(max(MOST_IDLE_BYTES, process.available_bytes()))

  def peak_memory_bytes(self) -> int:
    """Returns the largest resident size of this process plus that of its worker."""
    driver_bytes = process.status_bytes(os.getpid(), "VmHWM")
    return driver_bytes + self.worker.peak_bytes

  def _start(self) -> None:
    self.worker.start()  # first, since its errors come at once
    from tff_defenses.runtime import execution  # imports TFF, which takes seconds

    self._context = execution.build_context(self.worker)
    execution.set_default_context(self._context)

  def _ensure_worker(self) -> None:
    if self._is_closed:
      raise WorkerError(
        "Runtime: `call` must come before `close`, got a closed runtime. Make a new "
        "one with `use_local_worker` or `use_remote_workers`."
      )
    if not self.worker.is_alive:
      _LOGGER.warning("Starting a new worker. %s", self.worker.describe_end())
      self._start()

  def _attempt(self, computation: Callable, args: tuple, seconds: float | None) -> Any:
    from tff_defenses.runtime import execution

    watchdog = _Watchdog(seconds, self.worker.kill)
    try:
      with watchdog:
        return execution.run(self._context, computation, args)
    except Exception as error:
      if not watchdog.has_fired:
        raise
      raise WorkerTimeoutError(
        f"Runtime: the call must return within {seconds} s (`timeout_seconds`), got no "
        f"result. {self.worker.describe_end()}"
      ) from error
    except BaseException:  # Ctrl-C: without this TFF's thread would wait on
      self.worker.kill()
      raise


class _Watchdog:
  """Context manager that calls a function once if its body takes too long."""

  def __init__(self, seconds: float | None, function: Callable[[], None]):
    self.has_fired = False
    self._function = function
    self._timer = None
    if seconds is not None:
      self._timer = threading.Timer(seconds, self._fire)
      self._timer.daemon = True

  def __enter__(self) -> None:
    if self._timer:
      self._timer.start()

  def __exit__(self, *_) -> None:
    if self._timer:
      self._timer.cancel()
      self._timer.join()  # it must not end the worker of the next call

  def _fire(self) -> None:
    self.has_fired = True
    self._function()


def _check_limits(timeout_seconds: float | None, max_restarts: int) -> None:
  if timeout_seconds is not None and not timeout_seconds > 0:
    raise ValueError(
      f"Runtime.call: `timeout_seconds` must be > 0, got {timeout_seconds!r}. Leave it "
      "out for no limit."
    )
  if max_restarts < 0:
    raise ValueError(
      f"Runtime.call: `max_restarts` must be >= 0, got {max_restarts!r}. 0 never "
      "repeats a call."
    )
