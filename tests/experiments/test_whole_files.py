"""A file is the old one or the new one, whatever happens in between."""

import json
import os
import pathlib
import time

import numpy as np
import pytest

from tff_defenses.experiments import whole_files


def test_file_takes_the_place_of_the_old_one(tmp_path):
  file = tmp_path / "a.json"
  whole_files.write_json(file, {"b": np.float32(0.5), "a": tmp_path})
  assert json.loads(file.read_text()) == {"b": 0.5, "a": str(tmp_path)}
  assert file.read_text().startswith('{\n  "b"')
  assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, function):
  file = tmp_path / "a"
  whole_files.write_text(file, "old")

  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, function, full)
  with pytest.raises(OSError, match="No space left"):
    whole_files.write_text(file, "new")
  assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_files_and_folders_are_synced_and_absent_ones_are_not_missed(tmp_path, synced):
  whole_files.write_text(tmp_path / "a", "text")
  synced.clear()
  for path in (tmp_path / "a", tmp_path, tmp_path / "absent"):
    whole_files.sync(path)
  assert synced == [os.stat(path).st_ino for path in (tmp_path / "a", tmp_path)]


def test_what_stopped_writers_left_is_removed(tmp_path):
  for name in ("a.json.7.partial", "metrics.csv_temp1234", "metrics.csv"):
    (tmp_path / name).write_text("")
  whole_files.remove_asides(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def aged(path, hours):
  """Makes a file, or a folder with one, look as old as that."""
  if path.suffix:
    path.write_text("")
  else:
    path.mkdir()
    (path / "file").write_text("")
  then = time.time() - hours * 3600
  os.utime(path, (then, then))


def test_litter_is_removed_after_a_day_and_nothing_else(tmp_path):
  aged(tmp_path / "old.npz.7.partial", 25)
  aged(tmp_path / "young.npz.7.partial", 23)
  aged(tmp_path / "old.partial.npz", 25)  # no writer's aside by its name
  aged(tmp_path / ".old-folder", 25)
  aged(tmp_path / ".young-folder", 23)
  whole_files.remove_litter(tmp_path)
  whole_files.remove_litter(tmp_path, ".*-folder")
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {"young.npz.7.partial", "old.partial.npz", ".young-folder"}


def test_litter_of_somebody_else_is_left(tmp_path, monkeypatch):
  def refuse(self):
    raise PermissionError(13, "Permission denied")

  aged(tmp_path / "old.npz.7.partial", 25)
  monkeypatch.setattr(pathlib.Path, "unlink", refuse)
  whole_files.remove_litter(tmp_path)
  whole_files.remove_litter(tmp_path / "absent")
  assert len(list(tmp_path.iterdir())) == 1
