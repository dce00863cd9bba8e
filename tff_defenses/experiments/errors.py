"""The error of data that cannot be used, and its sentence for a bad file."""

import os


class OutputError(RuntimeError):
  """The output folder cannot be used."""


class DataError(ValueError):
  """Data is missing, incomplete, damaged, or cannot be stored."""


def bad_file(path: str | os.PathLike, expected: str, found: str) -> DataError:
  """The error of a file whose content is not as published.

  >>> bad_file("a.bin", "10 bytes", "9")
  DataError('load: a.bin must hold 10 bytes, got 9. Fetch the file again.')
  """
  return DataError(
    f"load: {path} must hold {expected}, got {found}. Fetch the file again."
  )
