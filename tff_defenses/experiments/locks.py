"""What only one process at a time does: the others wait for it."""

import contextlib
import fcntl
import logging
import os
import pathlib
from collections.abc import Iterator

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def alone(lock_file: str | os.PathLike, what: str) -> Iterator[None]:
  """Holds an advisory lock (flock) for the duration of a `with` statement.

  The kernel drops it with the process that holds it, however that ends. The file stays,
  empty: removing it would let two processes lock two files of one name.

  Args:
    lock_file: Made if missing, with its folder; on a network file system its flock must
      work (NFS since Linux 2.6.12).
    what: What is done under the lock, for the warning of those who wait: "makes x".

  Raises:
    OSError: the file cannot be written.
  """
  file = pathlib.Path(lock_file)
  file.parent.mkdir(parents=True, exist_ok=True)
  lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)  # NFS locks only what is writable
  try:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      _logger.warning("Another process %s; waiting.", what)
      fcntl.flock(lock, fcntl.LOCK_EX)
    yield
  finally:
    os.close(lock)  # drops the lock
