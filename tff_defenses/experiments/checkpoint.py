"""The state of a run between rounds, kept by TFF's program state manager.

Each saved state has a file of its SHA-256 beside it, written after it: a state without
one, or with another one, was broken off or damaged, and the one before it is used. The
state is on the disk by then, so that a power cut damages the newest one at most.
"""

import asyncio
import collections
import hashlib
import json
import logging
import math
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.experiments import whole_files
from tff_defenses.experiments.errors import writing

_PREFIX = "round_"
_KEPT = 2  # the newest may be damaged

_logger = logging.getLogger(__name__)


class Checkpoints:
  """Saves and loads what the next round needs; the last two states are kept.

  Everything random is drawn from (seed, round), so the states are all there is.

  Args:
    folder: Made if absent.
    fresh: Remove what an earlier run saved there.

  Raises:
    OutputError: the folder cannot be written, now or at a save.
  """

  def __init__(self, folder: str | os.PathLike, *, fresh: bool = False):
    if fresh:
      shutil.rmtree(folder, ignore_errors=True)
    self._folder = pathlib.Path(folder)
    with writing(self._folder):
      self._manager = tff.program.FileProgramStateManager(
        str(self._folder), prefix=_PREFIX, keep_total=_KEPT, keep_first=False
      )

  def save(self, round_number: int, server_state: Any, client_states: Any) -> None:
    """Saves the state after a round; broken off, it leaves the one before."""
    packed = _pack((server_state, client_states))
    with writing(self._folder):
      asyncio.run(self._manager.save(packed, round_number))
      saved = self._folder / f"{_PREFIX}{round_number}"
      for path in (*saved.rglob("*"), saved, self._folder):
        whole_files.sync(path)
      whole_files.write_text(_checksum_file(saved), _checksum(saved))
      self._remove_strays()

  def load(
    self, server_state: Any, client_states: Any, *, at_most: float = math.inf
  ) -> tuple[int, Any, Any]:
    """Loads the newest sound state, given states of the same structure.

    Later ones are removed: they are damaged, or nobody wants them.

    Args:
      server_state, client_states: As before the first round.
      at_most: Take no state of a later round.

    Returns:
      (last finished round, server state, client states); the arguments and round 0 if
      nothing was saved.
    """
    structure = (server_state, client_states)
    with writing(self._folder):
      for version in sorted(self._versions(), reverse=True):
        found = self._read(version, structure) if version <= at_most else None
        if found is not None:
          return version, *found
        shutil.rmtree(self._folder / f"{_PREFIX}{version}")
        self._remove_strays()
    return 0, server_state, client_states

  def _versions(self):
    return asyncio.run(self._manager.get_versions()) or []

  def _read(self, version, structure):
    """A saved state, or None where it is damaged."""
    saved = self._folder / f"{_PREFIX}{version}"
    try:
      sound = _checksum_file(saved).read_text() == _checksum(saved)
    except (OSError, ValueError):
      sound = False
    if not sound:
      _logger.warning(
        "the checkpoint %s is incomplete or damaged; the one before it is used.", saved
      )
      return None
    return _unpack(asyncio.run(self._manager.load(version, _EMPTY)), structure)

  def _remove_strays(self):
    """Removes what belongs to no saved state: old checksums, saves broken off."""
    kept = {f"{_PREFIX}{version}" for version in self._versions()}
    for path in self._folder.iterdir():
      if path.is_dir() and path.name not in kept:
        shutil.rmtree(path)
      elif path.is_file() and path.stem not in kept:
        path.unlink()


_EMPTY = collections.OrderedDict(layout=np.uint8([]), values=np.uint8([]))


def _pack(states):
  """All values in one array of bytes.

  TFF's manager makes a variable of each: a hundred clients' states took seconds.
  """
  leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(states)]
  layout = json.dumps([[leaf.dtype.str, leaf.shape] for leaf in leaves])
  values = b"".join(leaf.tobytes() for leaf in leaves)
  return collections.OrderedDict(
    layout=np.frombuffer(layout.encode(), np.uint8),
    values=np.frombuffer(values, np.uint8),
  )


def _unpack(packed, structure):
  content, leaves, at = packed["values"].tobytes(), [], 0
  for name, shape in json.loads(packed["layout"].tobytes()):
    dtype, size = np.dtype(name), math.prod(shape)
    leaf = np.frombuffer(content, dtype, size, at).reshape(shape) if size else None
    leaves.append(np.zeros(shape, dtype) if leaf is None else leaf[()])
    at += size * dtype.itemsize
  return tf.nest.pack_sequence_as(structure, leaves)


def _checksum_file(saved):
  return saved.with_name(f"{saved.name}.sha256")


def _checksum(saved):
  """SHA-256 over names, sizes and contents of all files of a saved state."""
  found = hashlib.sha256()
  for file in sorted(path for path in saved.rglob("*") if path.is_file()):
    content = file.read_bytes()
    found.update(f"{file.relative_to(saved).as_posix()} {len(content)}\n".encode())
    found.update(content)
  return found.hexdigest()
