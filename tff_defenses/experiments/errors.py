"""The errors of data and of the output folder, and how errors are worded."""

import contextlib
import os
from collections.abc import Iterator, Sequence


class OutputError(RuntimeError):
  """The output folder, or the cache, cannot be used."""


class DataError(ValueError):
  """Data is missing, incomplete or damaged."""


def bad_file(path: str | os.PathLike, expected: str, found: str) -> DataError:
  """The error of a file whose content is not as published.

  >>> bad_file("a.bin", "10 bytes", "9")
  DataError('load: a.bin must hold 10 bytes, got 9. Fetch the file again.')
  """
  return DataError(
    f"load: {path} must hold {expected}, got {found}. Fetch the file again."
  )


def fault_list(faults: Sequence[str], where: str = "") -> str:
  """The message of an error that tells several faults, a line each.

  >>> print(fault_list(["`rounds` must be >= 1, got 0."], "in the settings"))
  1 fault(s) in the settings:
    - `rounds` must be >= 1, got 0.
  """
  head = f"{len(faults)} fault(s) {where}".rstrip()
  return "\n".join([f"{head}:", *(f"  - {fault}" for fault in faults)])


@contextlib.contextmanager
def writing(folder: str | os.PathLike) -> Iterator[None]:
  """Turns a failed write, by Python or by TensorFlow, into one clear OutputError.

  Args:
    folder: named in the message.

  Raises:
    OutputError: the disk is full, or the folder cannot be written.
  """
  try:
    yield
  except Exception as error:
    if not _is_about_files(error):
      raise
    raise OutputError(
      f"`output_dir` {folder} cannot be written: {error}. Free some space or choose "
      "another folder; finished rounds are kept."
    ) from error


def _is_about_files(error):
  """Whether it is an OSError, or TensorFlow's, which is not one."""
  if isinstance(error, OSError):
    return True
  from tensorflow import errors  # here: this file is read where TensorFlow is not

  return isinstance(error, errors.OpError)
