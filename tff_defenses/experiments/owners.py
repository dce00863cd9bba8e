"""Whose run a folder holds: config.json says; another's is never written over."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tff_defenses.experiments import claims, round_tables, whole_files
from tff_defenses.experiments.errors import OutputError, writing

_OWNER = {"version": "version", "config_hash": "config"}  # key -> in words
_FOLLOWS = ("version", "config_hash", "reduced", "threat_model")  # from the settings
_NAMED = 3  # ours: settings that a message names


def check(folder: str | os.PathLike, config: Mapping[str, Any]) -> None:
  """Raises OutputError if a folder holds the run of another config or version.

  One without a whole round, such as one that was refused, gives way, unless a process
  works on it.
  """
  folder = pathlib.Path(folder).expanduser()
  _check(folder, config, gives_way=not claims.is_held(folder))


def check_held(folder: str | os.PathLike, config: Mapping[str, Any]) -> None:
  """The same for the process that holds the folder's claim."""
  _check(pathlib.Path(folder).expanduser(), config, gives_way=True)


def is_owner(folder: pathlib.Path, config: Mapping[str, Any]) -> bool:
  """Whether a folder's config.json is there and says what `config` does."""
  file = folder / "config.json"
  found = whole_files.read_object(file) if file.exists() else {}
  return all(found.get(key) == config.get(key) for key in _OWNER)


def _check(folder, config, *, gives_way):
  file = folder / "config.json"
  with writing(folder):
    if not file.exists():
      return
    found = whole_files.read_object(file)
    is_a_run = set(_OWNER) <= set(found)
    if gives_way and is_a_run and _has_only_begun(folder):
      return
  for key, what in _OWNER.items():
    if found.get(key) != config.get(key):
      settings = _differences(found, config) if key == "config_hash" else ""
      raise OutputError(
        f"`output_dir` {file.parent} holds the run of another {what} "
        f"({found.get(key, 'none stated')}, this one has {config.get(key)}){settings}. "
        "Choose another folder or remove it."
      )


def _has_only_begun(folder) -> bool:
  """Whether the run in a folder has neither a whole round nor an end."""
  tables = [folder / name for name in round_tables.NAMES]
  return not (folder / "summary.json").exists() and not any(
    round_tables.whole_rounds(table) for table in tables
  )


def _differences(found, config) -> str:
  """Some of the settings in which a config differs from the one in a folder."""
  ours = json.loads(json.dumps(config, default=str))  # tuples become lists
  names = [n for n in {**ours, **found} if found.get(n) != ours.get(n)]
  names = [n for n in names if n not in _FOLLOWS]
  parts = [
    f"; `{n}` is {_stated(found, n)} there and {_stated(ours, n)} here"
    for n in names[:_NAMED]
  ]
  if len(names) > _NAMED:
    parts.append(f"; {len(names) - _NAMED} more differ")
  return "".join(parts)


def _stated(config, name):
  return json.dumps(config[name]) if name in config else "not stated"
