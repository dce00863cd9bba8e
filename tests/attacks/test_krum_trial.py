"""The distances that the search relies on, against those of rows really made."""

import numpy as np
import pytest
import tensorflow as tf

from attacks.updates import krum_trial
from tff_defenses.aggregators import krum


def test_distances_by_hand():
  # Rows 3, and -2, -2 in its place order: 25 between, 0 among the crafted.
  trial = krum_trial.KrumTrial(tf.constant([[3.0]]), tf.constant([1.0]))
  found = trial.squared_distances(2.0, tf.constant([1, 0, 1])).numpy()
  assert found.tolist() == [[0, 25, 0], [25, 0, 25], [0, 25, 0]]


@pytest.mark.parametrize("step", [1e-4, 0.3, 40.0])
def test_distances_and_scores_equal_those_of_real_rows(step, rng):
  known = rng.normal(0.2, 1, (6, 500)).astype(np.float32)
  sign = np.sign(known.sum(axis=0))
  place = np.int32([6, 0, 1, 6, 2, 3, 4, 6, 5])
  trial = krum_trial.KrumTrial(tf.constant(known), tf.constant(sign))
  rows = np.concatenate([known, [-step * sign]])[place].astype(np.float32)
  found = trial.squared_distances(step, place).numpy()
  expected = ((rows[:, None].astype(float) - rows) ** 2).sum(axis=2)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  for variant in krum.VARIANTS:
    scores = krum.scores_of(found, 3, variant=variant).numpy()
    real = krum.krum_scores(rows, 3, variant=variant).numpy()
    np.testing.assert_allclose(scores, real, rtol=1e-4, atol=1e-2)


def test_overflow_is_infinitely_far():
  trial = krum_trial.KrumTrial(tf.constant([[1e30], [1.0]]), tf.constant([1.0]))
  found = trial.squared_distances(1e25, tf.constant([0, 1, 2])).numpy()
  assert np.isinf(found[np.triu_indices(3, 1)]).all() and not np.isnan(found).any()


def test_copies_decide_where_they_are_all_neighbours_that_count():
  """Told c of 4 + c rows Krum counts 2 neighbours, in its variant "authors" 1 + c."""
  trial = krum_trial.KrumTrial(tf.zeros([4, 1]), tf.ones([1]))
  assert trial.places_before(2).numpy().tolist() == [4, 4, 0, 1, 2, 3]

  def decided(count, variant, num_selected=1):
    settings = {"variant": variant, "num_selected": num_selected}
    return bool(trial.copies_decide(count, count, **settings))

  assert [decided(c, "paper") for c in (1, 2, 3, 4)] == [False, False, True, True]
  assert not any(decided(c, "authors") for c in (1, 2, 3, 4))
  # Of five selected one is crafted, whatever the scores.
  assert not decided(1, "paper", 4) and decided(1, "paper", 5)


def test_kernels_leave_biases_out():
  sign, known = tf.constant([1.0, 2, 3]), tf.constant([[4.0, 5, 6]])
  kept = krum_trial.kernels(sign, known, ((1, 2), (1,)))
  assert [x.numpy().tolist() for x in kept] == [[1, 2], [[4, 5]]]
  assert krum_trial.sizes(((1, 2), (1,), ())) == [2, 1, 1]
