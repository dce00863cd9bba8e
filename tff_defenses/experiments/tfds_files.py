"""Data sets from TensorFlow Datasets (TFDS): a prepared copy or a download.

TFDS, and with it TensorFlow, is imported only when one of the two is at hand.
"""

import os
import pathlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable

import numpy as np

from tff_defenses.experiments import locks, raw_files
from tff_defenses.experiments.dataset_specs import DatasetSpec
from tff_defenses.experiments.errors import DataError

TFDS_HOST = "storage.googleapis.com"  # public bucket of prepared TFDS data sets
CONNECT_SECONDS = 3.0  # ours: TFDS alone retries for minutes without a network


def read(
  spec: DatasetSpec,
  data_dir: str | os.PathLike | None,
  searched: Iterable[pathlib.Path],
) -> tuple[raw_files.Arrays, str]:
  """The four arrays and their source, from a prepared copy or a download.

  Args:
    spec: the data set.
    data_dir: folder of prepared copies and downloads; TFDS's own default when None.
    searched: folders without raw files, for the message.

  Raises:
    DataError: no copy and no network, or TFDS fails.
  """
  home, prepared = check(spec, data_dir, searched)
  try:
    builder = _tfds_builder(spec, home, prepared)
    parts = _tfds_arrays(spec, builder)
  except Exception as error:  # TFDS raises what its many parts raise
    raise DataError(
      f"load: TFDS must deliver {spec.tfds_name} in {home}, got "
      f"{type(error).__name__}: {error}. {spec.how_to_get}"
    ) from error
  return parts, f"TFDS {builder.info.full_name} in {home}"


def check(
  spec: DatasetSpec,
  data_dir: str | os.PathLike | None,
  searched: Iterable[pathlib.Path],
) -> tuple[pathlib.Path, list[pathlib.Path]]:
  """TFDS's folder and the prepared copies in it; none: a download can be tried.

  Args:
    spec, data_dir, searched: see `read`.

  Raises:
    DataError: no copy and no network.
  """
  default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
  home = pathlib.Path(data_dir or default).expanduser()
  copies = home.glob(f"{spec.tfds_name}/*.*.*/dataset_info.json")
  prepared = sorted(p.parent for p in copies if "incomplete" not in p.parent.name)
  if not prepared and not can_reach(TFDS_HOST):
    raise DataError(
      f"load: {spec.description}, must be on disk or on the network, got neither. "
      f"Files looked for: {', '.join(spec.files)} (also .gz). Folders searched: "
      f"{', '.join(map(str, searched))}. TFDS: no prepared {spec.tfds_name} in {home}, "
      f"and {TFDS_HOST} does not answer. {spec.how_to_get} Then pass its parent folder "
      "as `data_dir`."
    )
  return home, prepared


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
  lock = home / f".{spec.tfds_name.replace('/', '-')}.lock"
  with locks.alone(lock, f"prepares {spec.tfds_name} in {home}"):  # TFDS has no lock
    builder = tfds.builder(spec.tfds_name, data_dir=home)
    builder.download_and_prepare()  # does nothing for who had to wait
  return builder


def _tfds_arrays(spec, builder):
  import tensorflow_datasets as tfds

  def arrays(split):
    rows = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    return rows["image"], rows["label"]

  if spec.layout != "tiles":
    return *arrays("train"), *arrays("test")
  tiles, labels = arrays("train")
  images = [raw_files.fit_tile(tile, spec.image_shape) for tile in tiles]
  return raw_files.split(np.stack(images), labels, stratified=False)
