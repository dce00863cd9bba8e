"""A child process that ends with its parent, the port it serves on, its memory."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from tff_defenses.runtime import launcher

_TERMINATE_SECONDS = 3.0  # ours: TFF's worker ends within milliseconds of SIGTERM


def spawn(
  command: Sequence[str], environment: Mapping[str, str], output
) -> subprocess.Popen:
  """Starts a process that the kernel ends with SIGKILL when this one is gone.

  The kernel watches the *thread* that started it. The main thread lives as long as
  the process; called from any other thread, a helper thread starts the program, and
  stays until that ends.

  Args:
    command: program and arguments.
    environment: all environment variables of the process.
    output: open file for standard output and error; standard input is empty.

  Returns:
    The process, in a session of its own: Ctrl-C in the terminal does not reach it.

    A program that cannot be executed ends with exit code 1 and says why.
  """
  launch = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid())]

  def popen() -> subprocess.Popen:
    return subprocess.Popen(
      [*launch, *command],
      env=environment,
      stdin=subprocess.DEVNULL,
      stdout=output,
      stderr=output,
      start_new_session=True,
    )

  if threading.current_thread() is threading.main_thread():
    return popen()
  return _run_in_staying_thread(popen)


def end(process: subprocess.Popen) -> None:
  """Ends a process: SIGTERM, a short wait, SIGKILL; returns once it is gone."""
  if process.poll() is not None:
    return
  process.terminate()
  try:
    process.wait(_TERMINATE_SECONDS)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


def reserve_port() -> socket.socket:
  """Finds a free port and holds it for a gRPC server that starts later.

  gRPC servers bind with SO_REUSEPORT, so two workers that were given the same port by
  two parallel runs would both start and take each other's calls. While this socket is
  open no other process gets the port; it never listens, so it takes no connection.

  Returns:
    A bound socket; its port is `getsockname()[1]`. Close it when the server has ended.
  """
  reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
  reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
  reservation.bind(("", 0))
  return reservation


def status_bytes(pid: int | None, field: str) -> int:
  """Reads a memory field of a process in bytes.

  Args:
    pid: process id, or None.
    field: `VmRSS` (held now) or `VmHWM` (largest so far).

  Returns:
    The value, or 0 if there is no such process or it has ended.
  """
  try:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
  except OSError:
    return 0
  match = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
  return 1024 * int(match.group(1)) if match else 0


def available_bytes(memory_info: str = "/proc/meminfo") -> int:
  """Reads how much memory this machine can still give, without swapping.

  Args:
    memory_info: a file as Linux has it.

  Returns:
    The bytes; `sys.maxsize` if it does not say.
  """
  try:
    text = pathlib.Path(memory_info).read_text()
  except OSError:
    return sys.maxsize
  match = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
  return 1024 * int(match.group(1)) if match else sys.maxsize


def _run_in_staying_thread(popen: Callable[[], subprocess.Popen]) -> subprocess.Popen:
  outcome: list[subprocess.Popen | Exception] = []
  done = threading.Event()

  def start_and_stay() -> None:
    try:
      outcome.append(popen())
    except Exception as error:
      outcome.append(error)
    done.set()
    if isinstance(outcome[0], subprocess.Popen):
      outcome[0].wait()

  threading.Thread(target=start_and_stay, name="worker-parent", daemon=True).start()
  done.wait()
  if isinstance(outcome[0], Exception):
    raise outcome[0]
  return outcome[0]
