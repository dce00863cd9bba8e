"""The server's own data: auxiliary and root images taken out of the training images.

References: FLARE sec. 6.1 (auxiliary data D); FL-PLAS's FLTrust (root data).
Symbols: N images, H x W x C pixels, m auxiliary images.
"""

import dataclasses
import logging

import numpy as np

from tff_defenses.experiments import names
from tff_defenses.experiments.datasets import Dataset
from tff_defenses.experiments.errors import DataError

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
  """Training data without the server's own, and the server's own.

  Attributes:
    train_images, train_labels: what is left for the clients.
    aux_images, aux_labels: FLARE's D, [m, H, W, C] uint8 and [m] int32.
    root_images, root_labels: FLTrust's root data, k images a class.
    kept: which training images are left, [N] bool.
  """

  train_images: np.ndarray
  train_labels: np.ndarray
  aux_images: np.ndarray
  aux_labels: np.ndarray
  root_images: np.ndarray
  root_labels: np.ndarray
  kept: np.ndarray


def hold_out(
  dataset: Dataset,
  *,
  aux_class: int | None = 1,
  aux_size: int = 10,
  root_per_class: int = 0,
  aux_source: str = "train_holdout",
) -> HeldOut:
  """Takes the server's auxiliary and root data out of the training images.

  Root data is chosen after the auxiliary data, so the two never share an image.

  Args:
    dataset: where the images come from.
    aux_class: class of D; authors' code: 1. None: no auxiliary data.
    aux_size: m >= 2; FLARE sec. 6.1: 10.
    root_per_class: FLTrust's images a class; 0: no root data. FL-PLAS: 100 in all.
    aux_source: "train_holdout" (the first m training images of the class) or
      "authors" (the first m *test* images, as in the authors' code).

  Raises:
    ValueError: a setting is out of range. DataError: the data set has not enough
      images of a class.

  Deviations: the default takes training images; the authors' code takes test images,
    which leaks scored data and is logged.
  """
  names.check_known("hold_out", "aux_source", aux_source, ("train_holdout", "authors"))
  _check_held_out(dataset, aux_class, aux_size, root_per_class)
  leaking = aux_source == "authors" and aux_class is not None
  images, labels = dataset.train_images, dataset.train_labels
  if leaking:
    _logger.warning("hold_out: auxiliary data are test images that are also scored.")
    images, labels = dataset.test_images, dataset.test_labels
  aux_classes = [] if aux_class is None else [aux_class]
  aux = _first(labels, aux_classes, aux_size, "aux_size")
  kept = np.ones(len(dataset.train_labels), bool)
  if not leaking:
    kept[aux] = False
  free = np.where(kept, dataset.train_labels, -1)
  root = _first(free, range(dataset.num_classes), root_per_class, "root_per_class")
  kept[root] = False
  train = (dataset.train_images, dataset.train_labels)
  return HeldOut(
    *(part[kept] for part in train),
    *(images[aux], labels[aux]),
    *(part[root] for part in train),
    kept,
  )


def _first(labels, classes, count, field):
  """Positions of the first `count` images of each class."""
  chosen = [np.zeros(0, np.int64)]
  for k in classes:
    chosen.append(np.flatnonzero(labels == k)[:count])
    if len(chosen[-1]) < count:
      raise DataError(
        f"hold_out: `{field}` must be at most {len(chosen[-1])}, the images of class "
        f"{k} at hand, got {count}. Lower it or choose another class."
      )
  return np.concatenate(chosen)


def _check_held_out(dataset, aux_class, aux_size, root_per_class):
  if aux_class is not None and aux_class not in range(dataset.num_classes):
    raise ValueError(
      f"hold_out: `aux_class` must be in 0..{dataset.num_classes - 1} "
      f"({dataset.name}), got {aux_class}. The authors use 1."
    )
  if aux_class is not None and aux_size < 2:
    raise ValueError(
      "hold_out: `aux_size` (m, Eq. 4) must be >= 2, because m - 1 divides, got "
      f"{aux_size}. The paper uses 10."
    )
  if root_per_class < 0:
    raise ValueError(
      f"hold_out: `root_per_class` must be >= 0, got {root_per_class}. "
      "FL-PLAS's FLTrust has 100 images in all: 10 a class."
    )
