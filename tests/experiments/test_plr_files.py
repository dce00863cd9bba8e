"""plr.npz: what is written is read, whole or not at all, with the same bytes."""

import time

import numpy as np
import pytest

from tff_defenses.experiments import plr_files


def made(rng):
  return plr_files.Plrs(
    plrs=rng.normal(size=(2, 3, 4)).astype(np.float32),
    labels=np.array([0, 1, 1], np.int32),
    kernel=rng.normal(size=(4, 2)).astype(np.float32),
    malicious=np.array([False, True]),
    class_names=np.array(["cat", "dog"]),
    round=21,
  )


def test_what_was_written_is_read(rng, tmp_path):
  plrs = made(rng)
  assert plr_files.write(plrs, tmp_path) == tmp_path / "plr.npz"
  found = plr_files.read(tmp_path)
  for name in ("plrs", "labels", "kernel", "malicious", "class_names"):
    np.testing.assert_array_equal(getattr(found, name), getattr(plrs, name))
  assert found.round == 21 and isinstance(found.round, int)


def test_bytes_do_not_depend_on_the_time(rng, tmp_path, monkeypatch):
  plrs = made(rng)
  first = plr_files.write(plrs, tmp_path).read_bytes()
  monkeypatch.setattr(time, "time", lambda: 2e9)
  monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2_000_000_000))
  assert plr_files.write(plrs, tmp_path).read_bytes() == first


def test_a_folder_without_the_file_has_none(tmp_path):
  assert plr_files.read(tmp_path) is None


def test_failed_write_leaves_the_old_file_and_nothing_else(rng, tmp_path, monkeypatch):
  path = plr_files.write(made(rng), tmp_path)
  before = path.read_bytes()

  def fail(file, **arrays):
    file.write(b"half")
    raise OSError("disk full")

  monkeypatch.setattr(np, "savez_compressed", fail)
  with pytest.raises(OSError, match="disk full"):
    plr_files.write(made(rng), tmp_path)
  assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
