"""plr.npz: the clients' representations of one round, kept for the figures.

Reference: FLARE Sec. 4.3.
Symbols: n clients, k images, o PLR width, c classes.
"""

import dataclasses
import pathlib

import numpy as np

from tff_defenses.experiments import whole_files

NAME = "plr.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class Plrs:
  """Representations that all clients' models give the same images.

  Attributes:
    plrs: [n, k, o].
    labels: [k], true classes of the images.
    kernel: [o, c], of the classifier of the global model.
    malicious: [n] bool, who attacked in this round.
    class_names: [c].
    round: In which the models were trained.
  """

  plrs: np.ndarray
  labels: np.ndarray
  kernel: np.ndarray
  malicious: np.ndarray
  class_names: np.ndarray
  round: int


def write(plrs: Plrs, folder: pathlib.Path) -> pathlib.Path:
  """Writes plr.npz whole or not at all; the same bytes for the same content."""
  fields = {f.name: getattr(plrs, f.name) for f in dataclasses.fields(Plrs)}
  with whole_files.replacing(folder / NAME) as file:
    np.savez_compressed(file, **fields)
  return folder / NAME


def read(folder: pathlib.Path) -> Plrs | None:
  """The run's plr.npz; None if it has none."""
  if not (folder / NAME).exists():
    return None
  with np.load(folder / NAME) as arrays:
    fields = {f.name: arrays[f.name] for f in dataclasses.fields(Plrs)}
  return Plrs(**{**fields, "round": int(fields["round"])})
