"""Order statistics of columns against NumPy, in every way they are computed."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_defenses.aggregators import order_statistics

WAYS = {
  "sorting": order_statistics._by_sorting,
  "network of 32": functools.partial(order_statistics._by_network, size=32),
  "bits": order_statistics._by_bits,
}


def shared_places(values, k):
  """By the definition: tied values share their kept places, column by column."""
  n, d = values.shape
  kept = np.zeros(n)
  for column in values.T:
    ordered = np.sort(column)[k : n - k].tolist()
    for i, value in enumerate(column):
      kept[i] += ordered.count(value) / np.count_nonzero(column == value)
  return kept


@pytest.mark.parametrize("num_rows", range(1, 40))
def test_exchanges_sort(num_rows, rng):
  values = rng.integers(0, 9, size=(num_rows, 20))
  found = values.copy()
  for i, j in order_statistics.exchanges(num_rows):
    pair = found[[i, j]]
    found[[i, j]] = pair.min(axis=0), pair.max(axis=0)
  np.testing.assert_array_equal(found, np.sort(values, axis=0))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", [1, 2, 7, 8, 30])
def test_every_way_finds_the_same_ranks(way, n, rng):
  values = rng.choice(np.float32([-1e38, -2, -0.5, 0, 1e-40, 3, 1e38]), size=(n, 60))
  keys = order_statistics._keys(tf.constant(values))
  ordered = np.sort(keys.numpy(), axis=0)
  for low, high in {(0, n - 1), ((n - 1) // 2, n // 2), (n // 3, n - 1 - n // 3)}:
    found = WAYS[way](keys, low, high)
    np.testing.assert_array_equal(found[0], ordered[low])
    np.testing.assert_array_equal(found[1], ordered[high])


def test_keys_keep_the_order_of_floats(rng):
  values = np.sort(
    rng.normal(size=200).astype(np.float32) * 10.0 ** rng.integers(-30, 30, 200)
  )
  values = np.sort(values.astype(np.float32))
  keys = order_statistics._keys(tf.constant(values))
  assert (np.diff(keys.numpy()) >= 0).all()
  np.testing.assert_array_equal(order_statistics._floats(keys), values)


@pytest.mark.parametrize("n", [9, 20, 35])
def test_compiled_blocks_equal_sorting(n, rng):
  """d is no multiple of a block: the last block overlaps the one before it."""
  values = tf.constant(np.round(rng.normal(size=(n, 2500)), 1).astype(np.float32))
  for rule in (
    functools.partial(order_statistics.kept_mean, num_dropped=2),
    functools.partial(order_statistics.nearest_mean, num_left_out=5),
  ):
    plain, plain_kept = rule(values, compiled=False)
    fast, fast_kept = rule(values, compiled=True)
    np.testing.assert_allclose(fast, plain, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fast_kept, plain_kept, rtol=1e-5)
  alone = order_statistics.median(values, compiled=True)
  np.testing.assert_allclose(alone, np.median(values, axis=0), rtol=1e-6, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_kept_places_by_the_definition(data):
  n = data.draw(st.integers(1, 9))
  k = data.draw(st.integers(0, (n - 1) // 2))
  seed = data.draw(st.integers(0, 10**6))
  values = np.random.default_rng(seed).integers(-2, 3, size=(n, 6)).astype(np.float32)
  mean, kept = order_statistics.kept_mean(tf.constant(values), k)
  expected = np.sort(values, axis=0)[k : n - k].mean(axis=0)
  np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(kept, shared_places(values, k), rtol=1e-3, atol=1e-3)


def test_means_of_huge_values_do_not_overflow():
  values = tf.constant(np.float32([[3e38], [3e38], [2e38], [-1e38]]))
  mean, _ = order_statistics.kept_mean(values, 0)
  np.testing.assert_allclose(mean, [1.75e38], rtol=1e-5)


def test_ties_of_distance_go_to_the_lowest_row():
  # Median 1; 0 and 2 are equally near, row 0 is kept with the 1.
  mean, kept = order_statistics.nearest_mean(tf.constant([[2.0], [1.0], [0.0]]), 1)
  assert mean.numpy().tolist() == [1.5] and kept.numpy().tolist() == [1, 1, 0]


def test_medoid_is_the_middle_value_of_the_lowest_row():
  # 1 and 3 are in the middle of 0, 3, 1, 9; row 1 (3) comes first; nearest to 3: 3, 1.
  values = tf.constant([[0.0], [3.0], [1.0], [9.0]])
  mean, kept = order_statistics.nearest_mean(values, 2, medoid=True)
  assert mean.numpy().tolist() == [2.0] and kept.numpy().tolist() == [0, 1, 1, 0]
