"""Client shards: one file of uint8 records a client, written once, read inside TFF.

A record is one label byte and H*W*C pixel bytes (the layout of CIFAR's binary
version), so a round sends client ids instead of images. The folder of a shard set is
named after a digest of everything that determines its content.
"""

import dataclasses
import hashlib
import json
import logging
import math
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tff_defenses.experiments import file_digest, whole_files
from tff_defenses.experiments.errors import OutputError
from tff_defenses.experiments.shard_reader import read, record_bytes

__all__ = ["INDEX", "ShardSet", "digest", "read", "write"]

INDEX = "index.json"
_ASIDE = "." + "[0-9a-f]" * 16 + "-" + "[0-9a-f]" * 32  # folders that are being written

_logger = logging.getLogger(__name__)

Clients = Iterable[tuple[np.ndarray, np.ndarray]]  # images, labels


@dataclasses.dataclass(frozen=True)
class ShardSet:
  """A complete folder of shards.

  Attributes:
    folder: where the files are.
    image_shape: (H, W, C).
    num_examples: images of each client.
  """

  folder: pathlib.Path
  image_shape: tuple[int, ...]
  num_examples: tuple[int, ...]

  def path(self, client_index: int) -> str:
    """File of one client; raises IndexError where there is no such client."""
    if not 0 <= client_index < len(self.num_examples):
      raise IndexError(
        "ShardSet.path: `client_index` must be in "
        f"0..{len(self.num_examples) - 1}, got {client_index}. Count from 0."
      )
    return str(self.folder / _file_name(client_index))

  def content(self) -> str:
    """Digest (hex) of all clients' images and labels, as the index has it."""
    index = json.loads((self.folder / INDEX).read_text())
    return hashlib.sha256(" ".join(index["sha256"]).encode()).hexdigest()


def digest(array: np.ndarray) -> str:
  """SHA-256 (hex) of an array's type, shape and content, for use in keys."""
  found = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
  found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return found.hexdigest()


def write(
  cache_dir: str | os.PathLike,
  key: Mapping,
  clients: Clients | Callable[[], Clients],
  image_shape: tuple[int, ...],
) -> ShardSet:
  """Writes the shards of all clients, or finds them written before.

  A complete folder is reused without touching `clients`; a damaged one, in which a
  file is not what its SHA-256 says, is rewritten, with a warning. Files are written
  aside and renamed, so processes that write the same key at once do not disturb each
  other.

  Args:
    cache_dir: parent of all shard folders; made if absent.
    key: JSON-like mapping of everything that determines the content: data set,
      partition, seed, poisoning. Put arrays in as `digest(array)`.
    clients: (images [N, H, W, C] uint8, labels [N] in 0..255) of each client, or a
      function that gives them, called only when needed.
    image_shape: (H, W, C).

  Raises:
    OutputError: the folder cannot be written. ValueError: images or labels do not fit a
      record. TypeError: the key is not JSON.
  """
  name = hashlib.sha256(_canonical(key).encode()).hexdigest()[:16]
  folder = pathlib.Path(cache_dir).expanduser() / name
  image_shape = tuple(int(size) for size in image_shape)
  found = _complete(folder, image_shape)
  if found is not None:
    return found
  if folder.exists():
    _logger.warning("shards.write: %s is damaged and is written again.", folder)
  try:
    counts = _write_folder(folder, key, clients, image_shape)
  except OSError as error:
    raise OutputError(
      f"shards.write: `cache_dir` must be writable and have room, got {cache_dir}: "
      f"{error}. Free space there or choose another folder."
    ) from error
  return ShardSet(folder, image_shape, counts)


def _file_name(client_index):
  return f"client_{client_index:05d}.bin"


def _canonical(key):
  """JSON that is equal for equal keys: sorted, no spaces, NumPy numbers as numbers."""

  def plain(value):
    if isinstance(value, np.generic):
      return value.item()
    raise TypeError(
      f"shards.write: `key` must hold JSON values, got {type(value).__name__}. "
      "Put arrays in as digest(array)."
    )

  return json.dumps(key, sort_keys=True, separators=(",", ":"), default=plain)


def _complete(folder, image_shape):
  """The shard set in `folder`, or None where anything is missing or not as written.

  Every client of every later run would train on what is wrong here, so the contents
  are compared too, once a process.
  """
  try:
    index = json.loads((folder / INDEX).read_text())
    counts = tuple(index["num_examples"])
    files = [folder / _file_name(i) for i in range(len(counts))]
    sizes = [os.path.getsize(file) for file in files]
    known = tuple(index["image_shape"]) == image_shape
    whole = sizes == [count * record_bytes(image_shape) for count in counts]
    sound = known and whole and [*map(file_digest.sha256, files)] == index["sha256"]
  except (OSError, ValueError, KeyError, TypeError):
    return None
  return ShardSet(folder, image_shape, counts) if sound else None


def _write_folder(folder, key, clients, image_shape):
  """Writes a complete folder aside and installs it; returns the counts."""
  aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
  whole_files.remove_litter(folder.parent, _ASIDE)
  try:
    aside.mkdir(parents=True)
    clients = clients() if callable(clients) else clients
    index = _write_files(aside, clients, image_shape)
    index["key"] = json.loads(_canonical(key))  # for people who look into the folder
    (aside / INDEX).write_text(json.dumps(index, indent=1))
    _install(aside, folder)
  finally:
    shutil.rmtree(aside, ignore_errors=True)
  return tuple(index["num_examples"])


def _write_files(folder, clients, image_shape):
  """Writes one file a client; returns the index."""
  index = {"image_shape": list(image_shape), "num_examples": [], "sha256": []}
  for i, (images, labels) in enumerate(clients):
    labels = np.asarray(labels)
    _check_client(i, images, labels, image_shape)
    pixels = images.reshape(len(labels), math.prod(image_shape))
    content = np.column_stack([labels.astype(np.uint8), pixels]).tobytes()
    (folder / _file_name(i)).write_bytes(content)
    index["num_examples"].append(len(labels))
    index["sha256"].append(hashlib.sha256(content).hexdigest())
  return index


def _install(aside, folder):
  """Renames the new folder into place, or its files where the folder exists.

  (A repair, or a faster process.) One key has one content, so replacing files one by
  one disturbs no reader.
  """
  try:
    aside.rename(folder)
  except OSError:
    if not folder.is_dir():
      raise
    for path in sorted(aside.glob("*.bin")):
      path.replace(folder / path.name)
    (aside / INDEX).replace(folder / INDEX)  # last: it declares the folder complete


def _check_client(client, images, labels, image_shape):
  if images.dtype != np.uint8 or images.shape != (len(labels), *image_shape):
    raise ValueError(
      f"shards.write: images of client {client} must be uint8 "
      f"{[len(labels), *image_shape]}, got {images.dtype} {list(images.shape)}. "
      "Keep pixels as they come from the data set."
    )
  if len(labels) and not 0 <= labels.min() <= labels.max() <= 255:
    raise ValueError(
      f"shards.write: labels of client {client} must be in 0..255 (one byte), got "
      f"{labels.min()}..{labels.max()}. Use at most 256 classes."
    )
