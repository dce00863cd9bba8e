"""Looking at processes."""

import pathlib
import time


def is_running(pid):
  """Whether a process runs; one that has ended but was not waited for does not."""
  try:
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except OSError:
    return False
  return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def ends_within(pid, seconds):
  """Whether a process ends within a time."""
  deadline = time.monotonic() + seconds
  while is_running(pid) and time.monotonic() < deadline:
    time.sleep(0.05)
  return not is_running(pid)


def children_of(pid, word=""):
  """Processes that a process started and whose command line holds a word."""
  found = []
  for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
      command = (folder / "cmdline").read_text()
    except OSError:
      continue  # it has ended
    if parent == pid and word in command:
      found.append(int(folder.name))
  return found


def environment_of(pid):
  """Environment variables a process was started with."""
  entries = pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0")
  return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def arguments_of(pid):
  """Command line of a process."""
  return pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
