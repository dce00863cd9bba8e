"""States between rounds: what was saved comes back, two are kept."""

import collections
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.experiments import whole_files
from tff_defenses.experiments.checkpoint import Checkpoints
from tff_defenses.experiments.errors import OutputError


def states(number):
  """A server state and two client states of the kinds that the processes have."""
  weights = tff.learning.models.ModelWeights(
    [np.full([2, 2], number, np.float32)], [np.zeros(0, np.float32)]
  )
  server = tff.learning.templates.LearningAlgorithmState(
    weights, (), np.int32(number), (), ()
  )
  client = collections.OrderedDict(
    private=[np.float32([number])], statistics=[np.float32([0.1])]
  )
  return server, [client, client]


def assert_equal(found, expected):
  tf.nest.assert_same_structure(found, expected)
  for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
    assert np.asarray(one).dtype == np.asarray(other).dtype
    np.testing.assert_array_equal(one, other)


def test_nothing_saved_gives_the_arguments_and_round_0(tmp_path):
  first = states(1)
  done, server, clients = Checkpoints(tmp_path / "c").load(*first)
  assert done == 0 and server is first[0] and clients is first[1]


def test_newest_state_comes_back_with_its_structure(tmp_path):
  for number in (1, 2, 10):
    Checkpoints(tmp_path).save(number, *states(number))
  done, *found = Checkpoints(tmp_path).load(*states(0))
  assert done == 10
  assert_equal(tuple(found), states(10))


def test_global_training_has_no_client_states(tmp_path):
  Checkpoints(tmp_path).save(3, states(3)[0], [])
  done, server, clients = Checkpoints(tmp_path).load(states(0)[0], [])
  assert done == 3 and clients == []
  assert_equal(server, states(3)[0])


def test_two_states_are_kept(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  for number in range(1, 5):
    checkpoints.save(number, *states(number))
  found = sorted(p.name for p in tmp_path.iterdir())
  assert found == ["round_3", "round_3.sha256", "round_4", "round_4.sha256"]


def test_save_that_was_broken_off_does_not_count(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, *states(1))
  (tmp_path / "round_2_temp1234").mkdir()
  assert checkpoints.load(*states(0))[0] == 1

  checkpoints.save(2, *states(2))
  assert not list(tmp_path.glob("*temp*"))


def flip(file):
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


DAMAGES = {
  "flipped": flip,
  "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
  "emptied": lambda file: os.truncate(file, 0),
  "removed": lambda file: file.unlink(),
  "renamed": lambda file: file.rename(file.with_name(f"{file.name}x")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state_is_told_and_the_one_before_is_used(tmp_path, caplog, damage):
  saved = Checkpoints(tmp_path / "whole")
  for number in (1, 2):
    saved.save(number, *states(number))
  files = [p for p in (tmp_path / "whole").rglob("*") if p.is_file()]
  of_newest = [p for p in files if "round_2" in str(p)]
  assert len(of_newest) >= 4  # graph, values, index, checksum
  for i, file in enumerate(of_newest):
    if not file.stat().st_size and damage not in ("removed", "renamed"):
      continue
    copy = tmp_path / f"copy{i}"
    shutil.copytree(tmp_path / "whole", copy)
    DAMAGES[damage](copy / file.relative_to(tmp_path / "whole"))
    caplog.clear()
    damaged = Checkpoints(copy)
    done, *found = damaged.load(*states(0))
    assert done == 1, file
    assert_equal(tuple(found), states(1))
    assert "round_2 is incomplete or damaged" in caplog.text
    damaged.save(2, *states(5))  # the damaged one is not in the way
    assert_equal(tuple(Checkpoints(copy).load(*states(0))[1:]), states(5))


def test_state_is_on_the_disk_before_its_checksum_says_that_it_is_whole(
  tmp_path, synced, monkeypatch
):
  unsynced = []

  def look(file, text):
    paths = [tmp_path, *tmp_path.rglob("*")]
    unsynced.extend(p for p in paths if p.stat().st_ino not in synced)
    write_text(file, text)

  write_text = whole_files.write_text
  monkeypatch.setattr(whole_files, "write_text", look)
  Checkpoints(tmp_path).save(1, *states(1))
  assert unsynced == [] and len(synced) >= 4 + 3  # files; folders


def test_all_states_damaged_means_from_the_start(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  for number in (1, 2):
    checkpoints.save(number, *states(number))
  for file in tmp_path.glob("*.sha256"):
    file.unlink()
  assert checkpoints.load(*states(0))[0] == 0
  assert not list(tmp_path.iterdir())


def test_state_of_a_later_round_than_asked_for_is_dropped(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  for number in (1, 2):
    checkpoints.save(number, *states(number))
  done, *found = checkpoints.load(*states(0), at_most=1)
  assert done == 1
  assert_equal(tuple(found), states(1))


def test_states_that_grow_come_back_as_they_were_saved(tmp_path):
  server, clients = states(1)
  grown = server._replace(aggregator=(np.ones([3, 2]), np.zeros([0, 2], bool)))
  Checkpoints(tmp_path).save(1, grown, clients)
  first = server._replace(aggregator=(np.ones([0, 2]), np.zeros([0, 2], bool)))
  _, found, _ = Checkpoints(tmp_path).load(first, clients)
  assert_equal(found, grown)


def test_fresh_removes_what_was_saved(tmp_path):
  Checkpoints(tmp_path).save(1, *states(1))
  assert Checkpoints(tmp_path, fresh=True).load(*states(0))[0] == 0


def test_folder_that_cannot_be_made_raises(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OutputError, match="file/checkpoint cannot be written"):
    Checkpoints(tmp_path / "file" / "checkpoint")


@pytest.mark.parametrize(
  "error",
  [
    OSError(28, "No space left on device"),
    tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
  ],
)
def test_full_disk_is_an_output_error(tmp_path, monkeypatch, error):
  def full(*_, **__):
    raise error

  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, *states(1))
  monkeypatch.setattr(tf.saved_model, "save", full)
  with pytest.raises(OutputError, match=r"cannot be written: .*No space left"):
    checkpoints.save(2, *states(2))
  assert Checkpoints(tmp_path).load(*states(0))[0] == 1
