"""Shards: what is written, reused and repaired."""

import errno
import json
import multiprocessing
import os
import pathlib

import numpy as np
import pytest

from tests.experiments.toy_shards import KEY, SHAPE, client, clients, write
from tff_defenses.experiments import shards
from tff_defenses.experiments.errors import OutputError


def never():
  raise AssertionError("clients must not be computed again")


def records(path):
  return np.fromfile(path, np.uint8).reshape(-1, 1 + 8 * 6 * 3)


def test_files_hold_label_and_pixels(tmp_path):
  found = write(tmp_path)
  images, labels = clients()[1]
  assert found.num_examples == (5, 7, 0) and found.image_shape == SHAPE
  assert np.array_equal(records(found.path(1))[:, 0], labels)
  assert np.array_equal(records(found.path(1))[:, 1:], images.reshape(7, -1))


def test_index_tells_counts_key_and_digests(tmp_path):
  index = json.loads((write(tmp_path).folder / "index.json").read_text())
  assert index["key"] == KEY and index["num_examples"] == [5, 7, 0]
  assert all(len(text) == 64 for text in index["sha256"])


def test_path_of_no_client_raises(tmp_path):
  found = write(tmp_path)
  for index in (-1, 3):
    with pytest.raises(IndexError, match="client_index"):
      found.path(index)


def test_complete_folder_is_reused_without_computing(tmp_path):
  assert write(tmp_path) == write(tmp_path, clients=never)


def test_clients_may_be_a_plain_iterable(tmp_path):
  assert write(tmp_path, clients=iter(clients())).num_examples == (5, 7, 0)


def test_key_decides_the_folder_and_its_order_does_not(tmp_path):
  first = write(tmp_path)
  same = write(tmp_path, key=dict(reversed(KEY.items())), clients=never)
  numpy_seed = write(tmp_path, key=KEY | {"seed": np.int64(1)}, clients=never)
  other = write(tmp_path, key=KEY | {"seed": 2})
  assert first.folder == same.folder == numpy_seed.folder != other.folder
  assert len(first.folder.name) == 16


@pytest.mark.parametrize(
  "damage", ["short", "long", "missing", "index", "garbled", "changed", "no digests"]
)
def test_damaged_folder_is_repaired_with_a_warning(tmp_path, caplog, damage):
  found = write(tmp_path)
  path, index = pathlib.Path(found.path(0)), found.folder / "index.json"
  whole = path.read_bytes()
  if damage == "short":
    path.write_bytes(whole[:-1])
  elif damage == "long":
    path.write_bytes(whole + b"x")
  elif damage == "changed":  # of the same size
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
  elif damage == "garbled":
    index.write_text('{"num_examples": 3')
  elif damage == "no digests":
    index.write_text(index.read_text().replace('"sha256"', '"other"'))
  else:
    (path if damage == "missing" else index).unlink()
  assert write(tmp_path) == found and path.read_bytes() == whole
  assert "damaged" in caplog.text
  assert write(tmp_path, clients=never) == found


def test_nothing_is_left_beside_the_folder(tmp_path):
  found = write(tmp_path)
  with pytest.raises(ValueError, match="labels of client 0"):
    write(tmp_path, key={"bad": 1}, clients=[client(2, start=255)])
  assert list(tmp_path.iterdir()) == [found.folder]


def test_what_killed_writers_left_is_removed_a_day_later(tmp_path):
  killed, at_work = (tmp_path / f".{'0' * 16}-{c * 32}" for c in "ab")
  for folder in (killed, at_work, tmp_path / ".other"):
    folder.mkdir()
    (folder / "client_00000.bin").write_bytes(b"half")
    if folder != at_work:
      os.utime(folder, (0, 0))
  found = write(tmp_path)
  assert set(tmp_path.iterdir()) == {found.folder, at_work, tmp_path / ".other"}


def test_processes_that_write_the_same_key_at_once_agree(tmp_path):
  with multiprocessing.get_context("spawn").Pool(2) as pool:
    found = pool.map(write, [tmp_path] * 4)
  assert len({each.folder for each in found}) == 1
  assert list(tmp_path.iterdir()) == [found[0].folder]
  assert write(tmp_path, clients=never) == found[0]


def test_slower_process_accepts_the_folder_of_the_faster(tmp_path):
  def slow():
    write(tmp_path)
    return clients()

  assert write(tmp_path, clients=slow) == write(tmp_path, clients=never)


def test_full_disk_is_the_caches_fault(tmp_path, monkeypatch):
  def full(self, data):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_bytes", full)
  with pytest.raises(OutputError, match=r"`cache_dir`.*No space left"):
    write(tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_the_caches_fault(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OutputError, match="`cache_dir`"):
    write(tmp_path / "file")


def test_label_above_one_byte_raises(tmp_path):
  with pytest.raises(ValueError, match=r"0..255 .* got 255..256"):
    write(tmp_path, clients=[client(2, start=255)])


@pytest.mark.parametrize("fault", ["float", "shape", "count"])
def test_images_that_do_not_fit_a_record_raise(tmp_path, fault):
  images, labels = client(4)
  bad = {
    "float": (images / 255, labels),
    "shape": (images[:, :-1], labels),
    "count": (images, labels[:-1]),
  }
  with pytest.raises(ValueError, match="images of client 0 must be uint8"):
    write(tmp_path, clients=[bad[fault]])


def test_key_that_is_not_json_raises(tmp_path):
  with pytest.raises(TypeError, match=r"digest\(array\)"):
    write(tmp_path, key={"labels": np.zeros(3)})


def test_digest_tells_content_type_and_shape_apart():
  arrays = [np.zeros(4, np.uint8), np.zeros((2, 2), np.uint8), np.zeros(4, np.int8)]
  arrays += [np.ones(4, np.uint8), np.zeros(0, np.uint8), np.uint8(0).reshape(())]
  assert len({shards.digest(array) for array in arrays}) == len(arrays)
  swapped = np.asfortranarray(np.arange(6).reshape(2, 3))
  assert shards.digest(swapped) == shards.digest(np.arange(6).reshape(2, 3))
