"""Files that are there as a whole or not at all, whenever the writer is stopped."""

import contextlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

_ASIDE = ".partial"
_LITTER_SECONDS = 24 * 3600  # ours: nothing here takes a day to write


@contextlib.contextmanager
def replacing(file: str | os.PathLike) -> Iterator[IO[bytes]]:
  """Opens a file aside that takes the place of `file` when the `with` body ends well.

  The name aside holds the process id, so two writers do not disturb each other.
  """
  file = pathlib.Path(file)
  aside = file.with_name(f"{file.name}.{os.getpid()}{_ASIDE}")
  try:
    with aside.open("wb") as stream:
      yield stream
      stream.flush()
      os.fsync(stream.fileno())  # else a power cut may leave the new name, empty
    aside.replace(file)
  except BaseException:
    with contextlib.suppress(OSError):
      aside.unlink(missing_ok=True)
    raise


def write_bytes(file: str | os.PathLike, content: bytes) -> None:
  """Writes a file."""
  with replacing(file) as stream:
    stream.write(content)


def write_text(file: str | os.PathLike, text: str) -> None:
  """Writes a text file in UTF-8."""
  write_bytes(file, text.encode())


def write_json(file: str | os.PathLike, values: Mapping[str, Any]) -> None:
  """Writes a mapping, keys in their order; NumPy numbers become numbers."""
  write_text(file, json.dumps(values, indent=2, default=_plain) + "\n")


def read_object(file: pathlib.Path) -> dict[str, Any]:
  """What a JSON file holds; {} if it is damaged, or no object."""
  try:
    found = json.loads(file.read_text())
  except ValueError:
    return {}
  return found if isinstance(found, dict) else {}


def sync(path: str | os.PathLike) -> None:
  """Waits until a file, or a folder's names, are on the disk; if there are any."""
  try:
    found = os.open(path, os.O_RDONLY)
  except FileNotFoundError:
    return
  try:
    os.fsync(found)
  finally:
    os.close(found)


def remove_asides(folder: str | os.PathLike) -> None:
  """Removes what writers left that were stopped; TFF's CSV writer included."""
  for pattern in (f"*{_ASIDE}", "*.csv_temp*"):
    for file in pathlib.Path(folder).glob(pattern):
      file.unlink(missing_ok=True)


def remove_litter(folder: str | os.PathLike, pattern: str = f"*{_ASIDE}") -> None:
  """Removes what killed writers left in a folder that processes share, a day later.

  What is younger may still be written, and what belongs to somebody else stays.
  """
  for path in pathlib.Path(folder).glob(pattern):
    with contextlib.suppress(OSError):
      if time.time() - path.stat().st_mtime < _LITTER_SECONDS:
        continue
      if path.is_dir():
        shutil.rmtree(path)
      else:
        path.unlink()


def _plain(value):
  return value.item() if isinstance(value, np.generic) else str(value)
