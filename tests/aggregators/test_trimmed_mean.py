"""Trimmed mean against numbers by hand and SciPy's definition in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tests import doubles
from tff_defenses.aggregators import trimmed_mean

LINE = np.float32([[0], [1], [2], [4], [100]])


def by_removal(column, k):
  """Takes the smallest and the largest away, k times."""
  left = [float(x) for x in column]
  for _ in range(k):
    left.remove(min(left))
    left.remove(max(left))
  return sum(left) / len(left)


def measured(updates, k):
  updates = tf.constant(np.float32(updates))
  factory = trimmed_mean.TrimmedMeanFactory(k)
  return factory._rule(updates, [tf.TensorSpec([updates.shape[1]])])


def test_by_hand():
  # (1 + 2 + 4) / 3
  np.testing.assert_allclose(trimmed_mean.aggregate(LINE, 1), [7 / 3], rtol=1e-6)


def test_nothing_trimmed_is_the_mean():
  np.testing.assert_allclose(trimmed_mean.aggregate(LINE, 0), [107 / 5], rtol=1e-6)


@pytest.mark.parametrize(
  ("n", "k"), [(1, 0), (3, 1), (10, 1), (10, 3), (30, 9), (40, 4)]
)
def test_equals_removal_one_by_one(n, k, rng):
  updates = rng.normal(size=(n, 25)).astype(np.float32)
  expected = [by_removal(column, k) for column in updates.T]
  found = trimmed_mean.aggregate(updates, k)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_trimmed_values_leave_no_rounding_behind():
  """1e30 must not pass through a sum from which it is subtracted again."""
  updates = np.float32([[1], [2], [3], [1e30], [-1e30]])
  np.testing.assert_allclose(trimmed_mean.aggregate(updates, 1), [2], rtol=1e-6)


def test_always_extreme_weighs_nothing():
  # Rows 1, 2, 3 are kept in both columns.
  weight = measured([[-5, 9], [1, 1], [2, 2], [3, 3], [9, -5]], 1)[1]["weight"]
  np.testing.assert_allclose(weight, [0, 1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-4)


def test_too_few_rows_give_the_median_and_say_so():
  row, measurements = measured([[0], [1], [5], [9]], 2)
  assert row.numpy().tolist() == [3] and not measurements["guarantee_holds"]
  assert measured(LINE, 2)[1]["guarantee_holds"]


def test_trimming_all_raises():
  with pytest.raises(ValueError, match="`num_trimmed` .* below n / 2 = 2.5, got 3"):
    trimmed_mean.aggregate(LINE, 3)


@pytest.mark.parametrize("bad", [-1, 1.5, True])
def test_bad_setting_raises_with_its_name(bad):
  with pytest.raises(ValueError, match="TrimmedMeanFactory: `num_trimmed`"):
    trimmed_mean.TrimmedMeanFactory(bad)


@pytest.mark.usefixtures("runtime")
def test_in_tff():
  updates = [doubles.update(x) for x in (0, 1, 2, 4, 100)]
  output = doubles.run_plain(trimmed_mean.TrimmedMeanFactory(1), updates)
  np.testing.assert_allclose(doubles.flat(output.result), 7 / 3, rtol=1e-6)
  assert output.measurements["selected"].tolist() == [False, True, True, True, False]
