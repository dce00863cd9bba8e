"""The state of a run between rounds, kept by TFF's program state manager."""

import asyncio
import os
import pathlib
import shutil
from typing import Any

import tensorflow_federated as tff

from tff_defenses.experiments.errors import writing


class Checkpoints:
  """Saves and loads what the next round needs.

  Everything random is drawn from (seed, round), so the states are all there is.

  Args:
    folder: Made at the first save.
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
        str(self._folder), prefix="round_", keep_total=2, keep_first=False
      )

  def save(self, round_number: int, server_state: Any, client_states: Any) -> None:
    """Saves the state after a round."""
    program_state = (server_state, client_states)
    with writing(self._folder):
      asyncio.run(self._manager.save(program_state, round_number))

  def load(self, server_state: Any, client_states: Any) -> tuple[int, Any, Any]:
    """Loads the newest state, given states of the same structure.

    Returns:
      (last finished round, server state, client states); the arguments and round 0 if
      nothing was saved.
    """
    versions = asyncio.run(self._manager.get_versions())
    if not versions:
      return 0, server_state, client_states
    newest = max(versions)
    structure = (server_state, client_states)
    server_state, client_states = asyncio.run(self._manager.load(newest, structure))
    return newest, server_state, client_states
