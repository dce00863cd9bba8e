"""Files of the attacks: where they are looked for, and what is said without them."""

import numpy as np
import pytest

from attacks.data import files


def test_folder_itself_comes_before_backdoor_below(tmp_path):
  below = tmp_path / "backdoor"
  below.mkdir()
  (below / "a.npy").touch()
  assert files.find(tmp_path, "a.npy") == below / "a.npy"
  (tmp_path / "a.npy").touch()
  assert files.find(tmp_path, "a.npy") == tmp_path / "a.npy"
  assert files.find(str(tmp_path), "b.npy") is None and files.find(None, "a") is None


def test_home_folder_may_be_abbreviated(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "a.npy").touch()
  assert files.find("~", "a.npy") == tmp_path / "a.npy"


def test_all_missing_files_are_named_at_once(tmp_path):
  (tmp_path / "b").touch()
  with pytest.raises(FileNotFoundError) as raised:
    files.require("Who", tmp_path, ("a", "b", "c"), "Make them.")
  assert str(raised.value) == (
    "Who: `data_dir` must hold a, b, c; missing: a, c. "
    f"Looked in {tmp_path}, {tmp_path / 'backdoor'}. Make them."
  )


def test_found_files_come_in_the_order_of_their_names(tmp_path):
  for name in ("a", "b"):
    (tmp_path / name).touch()
  found = files.require("Who", tmp_path, ("b", "a"), "")
  assert [path.name for path in found] == ["b", "a"]


def test_pickled_objects_are_not_loaded(tmp_path):
  np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
  with pytest.raises(ValueError, match=r"Who: .*a\.npy must be a NumPy file"):
    files.load_images("Who", tmp_path / "a.npy", (2, 2, 1), "Make it.")


def test_empty_file_raises_with_its_name(tmp_path):
  (tmp_path / "a.npy").touch()
  with pytest.raises(ValueError, match=r"Who: .*a\.npy must be a NumPy file.*Make it"):
    files.load_images("Who", tmp_path / "a.npy", (2, 2, 1), "Make it.")
