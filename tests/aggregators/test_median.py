"""Coordinate median against numbers by hand and NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tests import doubles
from tff_defenses.aggregators import median


def weights_of(updates):
  updates = tf.constant(np.float32(updates))
  specs = [tf.TensorSpec([updates.shape[1]])]
  return median.CoordinateMedianFactory()._rule(updates, specs)[1]


def test_even_number_by_hand():
  # The middle values of 0, 1, 2, 100 are 1 and 2.
  assert median.aggregate(np.float32([[100], [0], [2], [1]])).numpy().tolist() == [1.5]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 17, 40])
def test_equals_numpy(n, rng):
  updates = rng.normal(size=(n, 300)).astype(np.float32)
  expected = np.median(updates.astype(np.float64), axis=0)
  np.testing.assert_allclose(median.aggregate(updates), expected, rtol=1e-6, atol=1e-7)


def test_middle_values_near_the_largest_float_do_not_overflow():
  updates = np.float32([[2e38], [3e38]])
  np.testing.assert_allclose(median.aggregate(updates), [2.5e38], rtol=1e-6)


def test_a_minority_of_huge_updates_moves_nothing_out_of_the_span(rng):
  updates = rng.normal(size=(9, 20)).astype(np.float32)
  updates[[0, 3, 5, 8]] = [[1e30], [-1e30], [3e38], [3e38]]
  honest = updates[[1, 2, 4, 6, 7]]
  found = median.aggregate(updates).numpy()
  assert (found >= honest.min(axis=0)).all() and (found <= honest.max(axis=0)).all()


def test_weight_is_the_share_of_middle_values_by_hand():
  # Column 1: 1 is the middle (row 1); column 2: 0 (row 0). The extreme row 2: nothing.
  measured = weights_of([[0, 0], [1, -1], [9, 9]])
  assert measured["weight"].numpy().tolist() == [0.5, 0.5, 0]
  assert measured["selected"].numpy().tolist() == [True, True, False]


def test_equal_clients_weigh_the_same():
  np.testing.assert_allclose(weights_of(np.ones([5, 3]))["weight"], 0.2, rtol=1e-4)


@pytest.mark.usefixtures("runtime")
def test_in_tff_without_the_client_that_is_not_finite():
  updates = [doubles.update(x) for x in (0, 1, np.nan, 5)]
  output = doubles.run_plain(median.CoordinateMedianFactory(), updates)
  assert (doubles.flat(output.result) == 1).all()
  assert output.measurements["weight"].tolist() == [0, 1, 0, 0]
  assert output.measurements["num_rejected"] == 1
