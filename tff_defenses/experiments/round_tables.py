"""CSV files with rows of rounds, cut back to whole rounds after a stop.

A process killed while it appends leaves half a line; lines are therefore read as bytes
and counted only with their line end and all their fields.
"""

import asyncio
import csv
import os
import pathlib

import pandas as pd

from tff_defenses.experiments import whole_files

NAMES = ("metrics.csv", "clients.csv", "timing.csv")


def metrics_manager(file: str | os.PathLike):
  """TFF's release manager of metrics.csv."""
  import tensorflow_federated as tff  # here: a report needs none

  return tff.program.CSVFileReleaseManager(str(file), key_fieldname="round")


def tensorboard_manager(folder: str | os.PathLike):
  """TFF's release manager of the folder `tensorboard` of a run."""
  import tensorflow_federated as tff

  return tff.program.TensorBoardReleaseManager(pathlib.Path(folder) / "tensorboard")


def release(manager, values, round_number: int) -> None:
  """Hands a round's values to one of TFF's release managers."""
  asyncio.run(manager.release(values, round_number))


def append(file: pathlib.Path, table: pd.DataFrame) -> None:
  """Appends rows, the first ones below a header, in a single write.

  A file that has begun keeps its columns: those of an earlier version stay readable.
  """
  if file.exists():
    table = table.reindex(columns=pd.read_csv(file, nrows=0).columns)
  text = table.to_csv(index=False, header=not file.exists(), lineterminator="\n")
  with file.open("ab") as stream:
    stream.write(text.encode())


def whole_rounds(file: str | os.PathLike) -> int:
  """The last round up to which rows of every round are there; 0 if none is."""
  found, last = set(_rounds(_whole_lines(pathlib.Path(file))[1:])), 0
  while last + 1 in found:
    last += 1
  return last


def cut(file: pathlib.Path, last: int) -> None:
  """Drops the rows after round `last` and what is half-written; 0: the whole file."""
  if last == 0:
    file.unlink(missing_ok=True)
    return
  header, *rows = _whole_lines(file)
  kept = [row for row, r in zip(rows, _rounds(rows), strict=True) if 0 < r <= last]
  content = b"".join([header, *kept])
  if content != file.read_bytes():
    whole_files.write_bytes(file, content)


def _whole_lines(file):
  """Header and rows with their line ends; the last is left out if it is broken off."""
  if not file.exists():
    return []
  lines = file.read_bytes().splitlines(keepends=True)
  if not lines:
    return []
  end = b"\r\n" if lines[0].endswith(b"\r\n") else b"\n"
  width = _width(lines[0])
  return [line for line in lines if line.endswith(end) and _width(line) == width]


def _width(line):
  return len(next(csv.reader([line.decode(errors="replace")]), []))


def _rounds(rows):
  """The rounds of rows; 0 where it is not a number."""
  first = [row.partition(b",")[0] for row in rows]
  return [int(text) if text.isdigit() else 0 for text in first]
