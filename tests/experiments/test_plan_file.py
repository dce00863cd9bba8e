"""plan.json as a file; what a plan keeps in it: test_reproduction."""

import concurrent.futures
import json
import os
import time

import pytest

from tff_defenses.experiments import plan_file, whole_files
from tff_defenses.experiments.errors import OutputError

FIXED = {"name": "flare:table3", "scale": 1.0}


def test_lists_grow_and_nothing_else_is_left_in_the_folder(tmp_path):
  folder = tmp_path / "new" / "folder"
  plan_file.add(folder, FIXED, {"seeds": (2, 0)})
  plan_file.add(folder, FIXED, {"seeds": (1, 2)})
  assert plan_file.read(folder) == {**FIXED, "seeds": [0, 1, 2]}
  assert sorted(os.listdir(folder)) == [".plan", "plan.json"]


def test_file_that_says_the_same_is_not_written_again(tmp_path, monkeypatch):
  plan_file.add(tmp_path, FIXED, {"seeds": (0, 1)})
  monkeypatch.setattr(whole_files, "write_json", lambda *_: pytest.fail("written"))
  plan_file.add(tmp_path, FIXED, {"seeds": (1,)})


def test_commands_of_one_moment_all_add_theirs(tmp_path, monkeypatch):
  write = whole_files.write_json

  def slowly(file, values):
    time.sleep(0.02)  # long enough for the others to read what is there before
    write(file, values)

  monkeypatch.setattr(whole_files, "write_json", slowly)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    done = [
      pool.submit(plan_file.add, tmp_path, FIXED, {"seeds": (seed,)})
      for seed in range(8)
    ]
  assert [future.result() for future in done] == [None] * 8
  assert plan_file.read(tmp_path)["seeds"] == list(range(8))


@pytest.mark.parametrize("lists", [{}, {"seeds": 3}, {"seeds": None}])
def test_file_without_its_lists_is_not_added_to(tmp_path, lists):
  text = json.dumps({**FIXED, **lists})
  (tmp_path / "plan.json").write_text(text)
  with pytest.raises(OutputError, match="`seeds` .*, which is no list"):
    plan_file.add(tmp_path, FIXED, {"seeds": (0,)})
  assert (tmp_path / "plan.json").read_text() == text


def test_file_of_another_table_is_kept(tmp_path):
  plan_file.add(tmp_path, FIXED, {})
  with pytest.raises(OutputError, match="`name` 'other', got 'flare:table3'"):
    plan_file.add(tmp_path, {**FIXED, "name": "other"}, {})
  assert plan_file.read(tmp_path) == FIXED


def test_full_disk_is_told(tmp_path, monkeypatch):
  def fails(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(whole_files, "write_json", fails)
  with pytest.raises(OutputError, match="cannot be written: .*No space left"):
    plan_file.add(tmp_path, FIXED, {})
