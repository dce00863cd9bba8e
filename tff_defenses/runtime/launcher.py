"""Turns itself into a program that the kernel ends together with its parent.

Run as a script: `python launcher.py <parent pid> <program> <argument>...`. Code between
fork and exec (`preexec_fn`) could do the same, but is unsafe in a process with threads
such as TensorFlow's, and runs gRPC's fork handlers.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


def main(parent_pid: int, command: list[str]) -> None:
  """Asks for SIGKILL at the parent's end, then becomes the program.

  Args:
    parent_pid: process that started this one.
    command: path of the program, and its arguments.

  Raises:
    SystemExit: the parent has ended already, or the program cannot be executed.
  """
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
  if os.getppid() != parent_pid:  # it ended before prctl: no signal will come
    sys.exit("launcher: the parent has ended")
  for number in _SIGNALS:  # ignored and blocked signals would be inherited
    signal.signal(number, signal.SIG_DFL)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
  try:
    os.execv(command[0], command)
  except OSError as error:
    sys.exit(f"launcher: {command[0]} must be a program for this machine: {error}")


if __name__ == "__main__":
  main(int(sys.argv[1]), sys.argv[2:])
