"""States between rounds: what was saved comes back, two are kept."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

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
  assert sorted(p.name for p in tmp_path.iterdir()) == ["round_3", "round_4"]


def test_save_that_was_broken_off_does_not_count(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, *states(1))
  (tmp_path / "round_2_temp1234").mkdir()
  assert checkpoints.load(*states(0))[0] == 1


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
