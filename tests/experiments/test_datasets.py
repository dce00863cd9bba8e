"""Data sets as a whole: names, what is searched when, checks, and the real files.

Real files are read where the environment variable TFF_DEFENSES_DATA_DIR leads to them
(Fashion-MNIST also from the system's dataset folder); those tests skip otherwise.
"""

import os

import numpy as np
import pytest

from tests.experiments.fabricated import idx, put_idx
from tff_defenses.experiments import raw_files
from tff_defenses.experiments.datasets import DATASETS, DataError, load

REAL = os.environ.get("TFF_DEFENSES_DATA_DIR")
SYSTEM_FOLDER = raw_files.SYSTEM_FOLDER  # the real one, before `isolated` hides it

pytestmark = pytest.mark.usefixtures("isolated")


def test_unknown_name_proposes_the_nearest():
  with pytest.raises(ValueError, match="Did you mean `fashion_mnist`"):
    load("fashion-mnist")


@pytest.mark.parametrize("name", [n for n in DATASETS if n != "mnist5k"])
def test_nothing_found_names_files_folders_and_how_to_get(tmp_path, name):
  with pytest.raises(DataError) as error:
    load(name, tmp_path)
  spec = DATASETS[name]
  for text in (*spec.files, str(tmp_path), "no_system", spec.how_to_get, "TFDS"):
    assert text in str(error.value)


def test_system_folder_is_searched_after_the_data_folder(tmp_path, monkeypatch):
  monkeypatch.setattr(raw_files, "SYSTEM_FOLDER", tmp_path / "system")
  put_idx(tmp_path / "system" / "mnist", num_train=4)
  assert len(load("mnist").train_labels) == 4
  put_idx(tmp_path / "own", num_train=5)
  assert len(load("mnist", tmp_path / "own").train_labels) == 5


def test_label_outside_the_classes_is_refused(tmp_path):
  put_idx(tmp_path, labels=[1, 2, 3, 4, 5, 10])
  with pytest.raises(DataError, match=r"labels of mnist must be in 0\.\.9.*10"):
    load("mnist", tmp_path)


def test_part_of_a_data_set_is_told(tmp_path, caplog):
  """An archive that was unpacked half-way reads like any other."""
  load("mnist", put_idx(tmp_path))
  (said,) = caplog.messages
  assert "mnist must have 60000 training and 10000 test images, got 6 and 3" in said


def test_a_whole_data_set_is_not(caplog):
  load("mnist5k")
  assert not caplog.messages


def test_image_of_another_size_is_refused(tmp_path):
  path = put_idx(tmp_path, zipped=False) / "train-images-idx3-ubyte"
  path.write_bytes(idx(np.zeros((6, 14, 14), np.uint8)))
  with pytest.raises(DataError, match=r"\[6, 28, 28, 1\], got uint8 \[6, 14, 14, 1\]"):
    load("mnist", tmp_path)


# Real files.


def load_real(name, monkeypatch):
  monkeypatch.setattr(raw_files, "SYSTEM_FOLDER", SYSTEM_FOLDER)
  spec = DATASETS[name]
  if raw_files.find_folder(spec, raw_files.search_folders(spec, REAL)) is None:
    pytest.skip(f"TFF_DEFENSES_DATA_DIR = {REAL} does not lead to {name}")
  return load(name, REAL)


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
  assert DATASETS[name].num_images == (num_train, 10_000)
  assert set(np.bincount(found.test_labels)) == {1000} or name == "mnist"
  measured = [found.train_images[..., i].mean() / 255 for i in range(len(mean))]
  assert measured == pytest.approx(mean, abs=1e-4)


def test_real_tiles_can_be_read(monkeypatch):
  found = load_real("kather", monkeypatch)
  assert found.image_shape == (128, 128, 3)
  assert set(found.test_labels.tolist()) == set(range(8))
