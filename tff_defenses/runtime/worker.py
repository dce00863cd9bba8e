"""One TensorFlow Federated worker process that never outlives its driver.

TFF's own context starts the same binary, but leaves it running after the driver has
ended, with the driver's standard output still open: `run_experiments.py | tee log`
would never return. Here the kernel ends the worker together with the driver, the
worker writes to its own log, and every wait has a limit.
"""

import atexit
import collections
import importlib.util
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

from tff_defenses.runtime import channel, process
from tff_defenses.runtime.errors import WorkerError

# TensorFlow leaves oneDNN off on CPUs without AVX-512 VNNI. On one of them MobileNet
# trained 2.7 times as fast with it (`benchmarks/client_training.py` has the others).
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# The last bits of oneDNN's results depend on the instructions that it uses. "AVX2" here
# gives a CPU with AVX-512 the digits of one without, for a third more time (LeNet).
MAX_ISA = "ONEDNN_MAX_CPU_ISA"
_UNAVAILABLE_SECONDS = 2.0  # ours: a broken connection shows before the dead process
_TAIL_BYTES, _TAIL_LINES = 65536, 20


def worker_binary() -> pathlib.Path | None:
  """Returns where TFF's worker binary should be, or None where TFF is missing."""
  spec = importlib.util.find_spec("tensorflow_federated")  # finds, does not import
  if spec is None or spec.origin is None:
    return None
  return pathlib.Path(spec.origin).parent / "data" / "worker_binary"


def usable_cores() -> int:
  """Returns the number of cores that this process may use."""
  return len(os.sched_getaffinity(0))


class LocalWorker:
  """TFF's worker binary as a child process, ready for gRPC calls.

  The worker ends with the driver in each case: `stop`, normal end, exception, Ctrl-C,
  SIGTERM and SIGKILL. Like TFF's own, it serves unencrypted on every network interface
  of the machine, on a port that changes with each start. It computes with oneDNN unless
  the environment has TF_ENABLE_ONEDNN_OPTS=0, and with the CPU's best instructions
  unless ONEDNN_MAX_CPU_ISA names others.

  Args:
    num_cores: cores the worker may count on, >= 1. Default: all usable ones.
    concurrency: clients computed at once, >= 1. Default: `num_cores`.
    intra_op_threads: threads of one TensorFlow operation, >= 0; 0 leaves the choice to
      TensorFlow. Ours: 2, a fixed number, since the last bits of a client's result
      depend on it. On two cores the median round took 0.78 to 0.94 of the time it took
      with 1 (cifar_cnn, four runs of `benchmarks/client_training.py`).
    inter_op_threads: operations of all clients that run at once, >= 0; 0 leaves the
      choice to TensorFlow, one a core.
    log_path: file the worker's output is appended to, and kept. Default: a temporary
      file without a name, gone with the last process that has it open.
    start_seconds: limit of the start, > 0; it takes about one second.
    binary: path of another worker binary. Default: the one in TFF's package.

  Raises:
    ValueError: a number is outside its range.
  """

  def __init__(
    self,
    *,
    num_cores: int | None = None,
    concurrency: int | None = None,
    intra_op_threads: int = 2,
    inter_op_threads: int = 0,
    log_path: str | os.PathLike | None = None,
    start_seconds: float = 30,
    binary: str | os.PathLike | None = None,
  ):
    self.num_cores = usable_cores() if num_cores is None else num_cores
    self.concurrency = self.num_cores if concurrency is None else concurrency
    self.intra_op_threads = intra_op_threads
    self.inter_op_threads = inter_op_threads
    self.log_path = None if log_path is None else pathlib.Path(log_path)
    self.start_seconds = start_seconds
    self.binary = worker_binary() if binary is None else pathlib.Path(binary)
    self.channels: list = []
    self._process: subprocess.Popen | None = None
    self._log = None
    self._reservation: socket.socket | None = None
    self._owner_pid: int | None = None
    self._peak_bytes = 0
    self._check_settings()

  def __repr__(self) -> str:
    return (
      f"LocalWorker(pid={self.pid}, concurrency={self.concurrency}, "
      f"intra_op_threads={self.intra_op_threads}, "
      f"inter_op_threads={self.inter_op_threads})"
    )

  def start(self) -> None:
    """Starts the process and waits until it answers; does nothing if it runs.

    Raises:
      WorkerError: the binary is missing or cannot be executed, ends at once, or does
        not answer within `start_seconds`. The message holds the end of its log.
    """
    if self.is_alive:
      return
    self.stop()
    self._check_binary()
    self._owner_pid = os.getpid()
    atexit.register(self.stop)
    try:
      self._log = self._open_log()
      self._reservation = process.reserve_port()
      self._process = self._spawn()
      self._connect()
    except BaseException:
      self.stop()
      raise

  def stop(self) -> None:
    """Ends the process (SIGTERM, a short wait, SIGKILL) and closes what it used."""
    if self._owner_pid not in (None, os.getpid()):
      return  # a forked copy of the driver does not own the worker
    atexit.unregister(self.stop)
    if self._process is not None:
      self._note_peak()
      process.end(self._process)
    open_things = [*self.channels, self._reservation, self._log]
    self.channels, self._reservation, self._log = [], None, None
    for thing in open_things:
      if thing is not None:
        thing.close()

  def kill(self) -> None:
    """Sends SIGKILL, from any thread; a call that waits for the worker returns."""
    self._note_peak()
    if self._process is not None:
      self._process.kill()
      self._process.wait()

  @property
  def is_alive(self) -> bool:
    """Whether the process runs."""
    return self._process is not None and self._process.poll() is None

  @property
  def pid(self) -> int | None:
    """Process id, or None if no process runs."""
    return self._process.pid if self.is_alive else None

  @property
  def address(self) -> str | None:
    """`host:port` on this machine, or None before `start` and after `stop`."""
    if self._reservation is None:
      return None
    return f"127.0.0.1:{self._reservation.getsockname()[1]}"

  @property
  def peak_bytes(self) -> int:
    """The most memory that a process of this worker was seen to hold."""
    self._note_peak()
    return self._peak_bytes

  @property
  def resident_bytes(self) -> int:
    """The memory that the process holds now; 0 if none runs."""
    return process.status_bytes(self.pid, "VmRSS")

  def log_tail(self) -> str:
    """Returns the last lines of the worker's output, indented."""
    text = ""
    if self._log is not None:
      size = os.fstat(self._log.fileno()).st_size
      start = max(0, size - _TAIL_BYTES)
      text = os.pread(self._log.fileno(), _TAIL_BYTES, start).decode(errors="replace")
    tail = collections.deque(text.splitlines(), maxlen=_TAIL_LINES)
    return "\n".join(f"  {line}" for line in tail) or "  (empty)"

  def describe_end(self) -> str:
    """Returns in words how the process ended, and the end of its log."""
    code = None if self._process is None else self._process.poll()
    if code is None:
      how = "was not started" if self._process is None else "runs"
    elif code < 0:
      how = f"was ended by {signal.Signals(-code).name}"
    else:
      how = f"ended with exit code {code}"
    return f"The worker process {how}. The end of its log:\n{self.log_tail()}"

  def has_failed(self, error) -> bool:
    """Returns whether a gRPC error means that the process is gone.

    A computation may itself fail with any gRPC code, so the process is asked.
    """
    import grpc

    unavailable = error.code() is grpc.StatusCode.UNAVAILABLE
    deadline = time.monotonic() + _UNAVAILABLE_SECONDS * unavailable
    while self.is_alive and time.monotonic() < deadline:
      time.sleep(0.02)
    return not self.is_alive

  def _check_settings(self) -> None:
    threads = {"intra_op_threads": 0, "inter_op_threads": 0}
    least = {"num_cores": 1, "concurrency": 1, **threads}
    for name, minimum in least.items():
      value = getattr(self, name)
      if not isinstance(value, int) or value < minimum:
        raise ValueError(
          f"LocalWorker: `{name}` must be an integer >= {minimum}, got {value!r}. "
          "Leave it out to take the default."
        )
    if not self.start_seconds > 0:
      raise ValueError(
        f"LocalWorker: `start_seconds` must be > 0, got {self.start_seconds!r}. "
        "Leave it out to take the default of 30."
      )

  def _check_binary(self) -> None:
    if self.binary is None or not self.binary.is_file():
      raise WorkerError(
        f"LocalWorker: TFF's worker binary must exist, got {self.binary}. It comes "
        "with tensorflow-federated 0.87.0 on Linux x86-64: install as in README.md."
      )
    if not os.access(self.binary, os.X_OK):
      raise WorkerError(
        f"LocalWorker: TFF's worker binary must be executable, got {self.binary}. "
        f"Run `chmod +x {self.binary}`."
      )

  def _open_log(self):
    if self.log_path is None:
      return tempfile.TemporaryFile(mode="a+b", buffering=0)
    return open(self.log_path, "a+b", buffering=0)

  def _spawn(self) -> subprocess.Popen:
    environment = dict(os.environ)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings and errors
    environment.setdefault(ONEDNN, "1")
    environment["TF_NUM_INTRAOP_THREADS"] = str(self.intra_op_threads)
    environment["TF_NUM_INTEROP_THREADS"] = str(self.inter_op_threads)
    command = [
      str(self.binary),
      f"--port={self.address.rpartition(':')[2]}",
      f"--max_concurrent_computation_calls={self.concurrency}",
    ]
    return process.spawn(command, environment, self._log)

  def _connect(self) -> None:
    """Waits until the process answers on its port."""
    self.channels = [channel.open_channel(self.address, use_proxy=False)]
    deadline = time.monotonic() + self.start_seconds
    if channel.wait_until_ready(self.channels[0], deadline, lambda: self.is_alive):
      return
    raise WorkerError(
      f"LocalWorker: the worker must answer within {self.start_seconds} s of its "
      f"start, got no answer. {self.describe_end()}\nOn a busy machine raise "
      "`start_seconds`."
    )

  def _note_peak(self) -> None:
    seen = process.status_bytes(self.pid, "VmHWM")
    self._peak_bytes = max(self._peak_bytes, seen)
