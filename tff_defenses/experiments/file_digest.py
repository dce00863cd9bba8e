"""What a file holds, in 64 hex digits, read again only when the file has changed."""

import functools
import hashlib
import os


def sha256(file: str | os.PathLike) -> str:
  """SHA-256 (hex) of a file; the same file, time and size are read once a process.

  Raises:
    OSError: the file cannot be read.
  """
  found = os.stat(file)
  # The inode: a file may be replaced twice within the file system's tick of some ms.
  return _sha256(os.fspath(file), found.st_ino, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=4096)  # ours: some forty sets of a hundred clients
def _sha256(file, inode, mtime_ns, size):
  del inode, mtime_ns, size  # only to be told apart
  with open(file, "rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()
