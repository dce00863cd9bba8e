"""Small raw files in the published formats, for tests of the data sets."""

import gzip
import struct

import numpy as np
from PIL import Image

from tff_defenses.experiments.datasets import DATASETS

CIFAR10_FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
TILE_FOLDERS = DATASETS["kather"].files


def idx(array):
  """An IDX file of unsigned bytes."""
  header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
  return header + array.tobytes()


def put_idx(folder, num_train=6, num_test=3, zipped=True, labels=None):
  """The four IDX files with random pixels and labels 0, 1, 2, ..."""
  folder.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(0)
  for name, count in (("train", num_train), ("t10k", num_test)):
    images = rng.integers(0, 256, (count, 28, 28), np.uint8)
    digits = np.arange(count, dtype=np.uint8) % 10
    if labels is not None and name == "train":
      digits = np.array(labels, np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", digits)):
      path = folder / f"{name}-{kind}-ubyte{'.gz' if zipped else ''}"
      path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
  return folder


def put_cifar(folder, names, label_bytes):
  """CIFAR batches of two images; pixel value = 10 * channel + image."""
  folder.mkdir(parents=True, exist_ok=True)
  planes = [[np.full(1024, 10 * c + i, np.uint8) for c in range(3)] for i in range(2)]
  for name in names:
    rows = [bytes(label_bytes[i]) + b"".join(planes[i]) for i in range(2)]
    (folder / name).write_bytes(b"".join(rows))
  return folder


def put_tiles(folder, per_class=5, size=(150, 150)):
  """Class folders of TIFF tiles; red = 10 * class, green = number of the tile."""
  for label, name in enumerate(TILE_FOLDERS):
    (folder / name).mkdir(parents=True)
    for i in range(per_class):
      tile = Image.new("RGB", size, (10 * label, i, 200))
      tile.save(folder / name / f"tile_{i}.tif")
  return folder
