"""TensorFlow Datasets: prepared copies, downloads and no network, with a stand-in."""

import concurrent.futures
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request

import numpy as np
import pytest

from tff_defenses.experiments import tfds_files
from tff_defenses.experiments.datasets import DataError, load

can_reach = tfds_files.can_reach  # the real one, before `isolated` hides it

pytestmark = pytest.mark.usefixtures("isolated")


def test_offline_failure_takes_seconds_without_importing_tensorflow(tmp_path):
  """The true connection test, to a host that no network has."""
  script = (
    "import sys, pathlib\n"
    "from tff_defenses.experiments import datasets as d, raw_files, tfds_files\n"
    "raw_files.SYSTEM_FOLDER = pathlib.Path('nowhere')\n"
    "tfds_files.TFDS_HOST = 'host.invalid'\n"
    "try:\n  d.load('mnist', sys.argv[1])\n"
    "except d.DataError:\n  sys.exit(3 if 'tensorflow' not in sys.modules else 4)\n"
  )
  start = time.monotonic()
  done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
  assert done.returncode == 3 and time.monotonic() - start < 15


def test_connection_test_gives_up_in_time(monkeypatch):
  monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: time.sleep(30))
  start = time.monotonic()
  assert not can_reach("host.invalid", seconds=0.2)
  assert time.monotonic() - start < 5


def test_connection_test_counts_any_http_answer(monkeypatch):
  def forbidden(url, timeout):
    raise urllib.error.HTTPError(url, 403, "Forbidden", None, None)

  monkeypatch.setattr(urllib.request, "urlopen", forbidden)
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
  found = load("mnist", tmp_path)
  assert fake.calls == ["3.0.1"] and found.source.startswith("TFDS fake/1.0.0")
  assert len(found.train_labels) == 40 and found.test_labels.dtype == np.int32


def test_download_where_there_is_a_network(tmp_path, monkeypatch):
  monkeypatch.setattr(tfds_files, "can_reach", lambda host: True)
  fake = use_fake(monkeypatch, (150, 150, 3))
  found = load("kather", tmp_path)
  assert fake.calls == ["colorectal_histology", "download"]
  assert found.train_images.shape == (32, 128, 128, 3)
  assert found.test_images.shape[0] == 8


def test_one_process_downloads_while_the_others_wait(tmp_path, monkeypatch):
  monkeypatch.setattr(tfds_files, "can_reach", lambda host: True)
  fake = use_fake(monkeypatch, (32, 32, 3))
  running = []

  def download():
    running.append(1)
    fake.calls.append(len(running))  # how many are at it
    time.sleep(0.1)
    running.pop()

  fake.download_and_prepare = download
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    list(pool.map(lambda _: load("cifar10", tmp_path), range(3)))
  assert fake.calls == ["cifar10", 1] * 3


def test_failing_tfds_becomes_a_data_error(tmp_path, monkeypatch):
  monkeypatch.setattr(tfds_files, "can_reach", lambda host: True)
  use_fake(monkeypatch, (32, 32, 3), fails=True)
  with pytest.raises(DataError, match="TFDS must deliver cifar10.*checksum differs"):
    load("cifar10", tmp_path)
