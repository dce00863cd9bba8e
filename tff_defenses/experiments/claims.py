"""Who works on a run, and how its last attempt ended: the marks in its folder.

A claim is an advisory lock (flock) on the file `.claim`. The kernel drops it with the
process that holds it, however that ends, so no claim outlives a kill. The file stays,
empty: removing it would let two processes lock two files of one name. Folders on a
network file system work where its flock does (NFS since Linux 2.6.12).
"""

import contextlib
import fcntl
import json
import os
import pathlib
import time
import traceback
from collections.abc import Iterator

from tff_defenses.experiments.errors import OutputError, writing
from tff_defenses.experiments.whole_files import write_json, write_text

CLAIM, FAILED, FAILED_LOG = ".claim", "failed.json", "failed.log"
_TRIES, _PAUSE_SECONDS = 5, 0.02  # `is_held` holds the lock itself for microseconds
_LONGEST = 600  # characters of an error's sentence


class ClaimedError(OutputError):
  """Another process works on this run now."""


@contextlib.contextmanager
def claim(folder: str | os.PathLike) -> Iterator[None]:
  """Holds a run's folder for the duration of a `with` statement; makes the folder.

  Raises:
    ClaimedError: another process holds it. OutputError: the folder cannot be written.
  """
  folder = pathlib.Path(folder)
  with writing(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / CLAIM, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    if not _locked(lock):
      raise ClaimedError(
        f"`output_dir` {folder} is being filled by another process. Wait for it, or "
        "choose another folder."
      )
    yield
  finally:
    os.close(lock)  # drops the lock


def is_held(folder: str | os.PathLike) -> bool:
  """Whether a living process works on the run in a folder."""
  try:
    lock = os.open(pathlib.Path(folder) / CLAIM, os.O_RDONLY)
  except OSError:
    return False
  try:
    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return False
  except OSError:
    return True
  finally:
    os.close(lock)


def mark_failed(folder: str | os.PathLike, error: Exception) -> None:
  """Writes failed.log, then failed.json; call it while the folder is claimed."""
  folder = pathlib.Path(folder)
  with writing(folder):
    write_text(folder / FAILED_LOG, "".join(traceback.format_exception(error)))
    found = {"error": sentence(error), "type": type(error).__name__}
    write_json(folder / FAILED, found)


def forget_failure(folder: str | os.PathLike) -> None:
  """Removes the marks of a failed attempt."""
  with writing(folder):
    for name in (FAILED, FAILED_LOG):
      (pathlib.Path(folder) / name).unlink(missing_ok=True)


def failure(folder: str | os.PathLike) -> str | None:
  """The error of the last attempt in one line; None if it did not fail."""
  try:
    found = json.loads((pathlib.Path(folder) / FAILED).read_text())
    return f"{found['type']}: {found['error']}"
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, ValueError, KeyError, TypeError):
    return "failed.json cannot be read"


def sentence(error: BaseException) -> str:
  """An error's message on one line.

  >>> sentence(ValueError("2 faults:\\n  - one\\n  - two"))
  '2 faults: - one - two'
  """
  text = " ".join(str(error).split()) or type(error).__name__
  return text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ..."


def _locked(lock) -> bool:
  """Whether the lock was free; tries again, since someone may just be looking."""
  for attempt in range(_TRIES):
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return True
    except BlockingIOError:
      time.sleep(_PAUSE_SECONDS * (attempt < _TRIES - 1))
  return False
