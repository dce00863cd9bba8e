"""plan.json: which table an output folder is of, and all that it was ever asked for."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tff_defenses.experiments import locks, whole_files
from tff_defenses.experiments.errors import OutputError, writing


def read(folder: str | os.PathLike) -> dict[str, Any] | None:
  """The object in the file; None without the file.

  Raises:
    OutputError: it cannot be read.
  """
  try:
    found = json.loads(_file(folder).read_text(encoding="utf-8"))
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    raise damaged(folder, error) from error
  return found if isinstance(found, dict) else {}


def list_of(folder: str | os.PathLike, found: Mapping[str, Any], name: str) -> list:
  """One of its lists; raises OutputError if it is none."""
  if not isinstance(found.get(name), list):
    raise damaged(folder, f"`{name}` {found.get(name)!r}, which is no list")
  return found[name]


def add(
  folder: str | os.PathLike,
  fixed: Mapping[str, Any],
  growing: Mapping[str, Sequence],
) -> None:
  """Makes the file, or adds to the lists of one that says the same otherwise.

  Commands given at the same time add one after the other.

  Args:
    folder: Made if it is missing.
    fixed: What a folder has one value of.
    growing: What it has a list of, by name; the file's own entries stay.

  Raises:
    OutputError: the file is another table's, is damaged, or cannot be written.
  """
  lock = _file(folder).with_name(".plan")
  with writing(folder), locks.alone(lock, f"adds to the plan of {folder}"):
    found = read(folder)
    if found is not None:
      _check_same(folder, found, fixed)
    content = dict(fixed)
    for name, values in growing.items():
      before = [] if found is None else list_of(folder, found, name)
      content[name] = sorted({*values, *before})
    if found != content:
      whole_files.write_json(_file(folder), content)


def damaged(folder: str | os.PathLike, found: object) -> OutputError:
  """The error of a file that makes no sense; `found` says why."""
  return OutputError(
    f"`output_dir` {folder} must hold a sound plan.json, got: {found}. Choose another "
    "folder, or remove this one."
  )


def _file(folder) -> pathlib.Path:
  return pathlib.Path(folder).expanduser() / "plan.json"


def _check_same(folder, found, fixed):
  """Raises unless plan.json says what it must."""
  for name, value in fixed.items():
    if found.get(name) != value:
      raise OutputError(
        f"`output_dir` {folder} must hold plan.json with `{name}` {value!r}, got "
        f"{found.get(name)!r}. Choose another folder, or remove this one."
      )
