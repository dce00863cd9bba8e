"""Means of the middle values and the shares of rows against the definitions."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import doubles
from tff_defenses.aggregators import (
  median,
  order_statistics,
  ranked_columns,
  trimmed_mean,
)

MANY = 70_000  # columns: enough for networks; no multiple of a block


def shared_places(values, k):
  """By the definition: tied values share their kept places, column by column."""
  n, d = values.shape
  kept = np.zeros(n)
  for column in values.T:
    ordered = np.sort(column)[k : n - k].tolist()
    for i, value in enumerate(column):
      kept[i] += ordered.count(value) / np.count_nonzero(column == value)
  return kept / kept.sum()


def nearest(column, center, num_left_out):
  """Lets the farther end go, one by one; equally far ends as long as both can go."""
  left = sorted(column.astype(np.float64))
  for _ in range(min(num_left_out, len(left) - 1)):
    left.pop(0 if center - left[0] > left[-1] - center else -1)
  return left


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_kept_places_by_the_definition(data):
  n = data.draw(st.integers(1, 9))
  k = data.draw(st.integers(0, (n - 1) // 2))
  seed = data.draw(st.integers(0, 10**6))
  values = np.random.default_rng(seed).integers(-2, 3, size=(n, 6)).astype(np.float32)
  mean = order_statistics.kept_mean(tf.constant(values), k)
  expected = np.sort(values, axis=0)[k : n - k].mean(axis=0)
  np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
  weight = order_statistics.kept_weight(tf.constant(values), k)
  np.testing.assert_allclose(weight, shared_places(values, k), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n", "left_out"), [(1, 2), (4, 2), (7, 2), (8, 4), (9, 8)])
def test_nearest_by_removal_one_by_one(n, left_out, rng):
  values = rng.normal(size=(n, 200)).astype(np.float32)
  found = order_statistics.nearest_mean(tf.constant(values), left_out)
  lists = [nearest(c, np.median(c.astype(np.float64)), left_out) for c in values.T]
  np.testing.assert_allclose(found, np.mean(lists, axis=1), rtol=1e-5, atol=1e-6)
  pairs = zip(values.T.astype(np.float64), lists, strict=True)
  rows = [np.isin(column, kept) for column, kept in pairs]
  weight = order_statistics.nearest_weight(tf.constant(values), left_out)
  np.testing.assert_allclose(weight, np.mean(rows, axis=0) / len(lists[0]), rtol=1e-5)


def test_two_values_equally_near_count_by_half():
  # Median 1; 0 and 2 are equally near: (0 / 2 + 1 + 2 / 2) / 2.
  values = tf.constant([[2.0], [1.0], [0.0]])
  assert order_statistics.nearest_mean(values, 1).numpy().tolist() == [1]
  found = order_statistics.nearest_weight(values, 1)
  assert found.numpy().tolist() == [0.25, 0.5, 0.25]


@pytest.mark.parametrize(("n", "left_out"), [(3, 2), (5, 2), (4, 3), (12, 10), (7, 4)])
def test_what_is_kept_adds_up_however_many_values_are_equal(n, left_out, rng):
  """Shifted by 10, the mean is shifted by 10: its shares sum to 1."""
  values = np.float32(rng.integers(0, 3, size=(n, 500)))
  low = order_statistics.nearest_mean(tf.constant(values), left_out)
  high = order_statistics.nearest_mean(tf.constant(values + 10.0), left_out)
  np.testing.assert_allclose(high - low, 10.0, rtol=1e-5)
  assert (low.numpy() >= 0.0).all() and (low.numpy() <= 2.0).all()


def test_equal_values_of_colluders_are_not_amplified():
  # Three of four equal, so is the median; one value is kept.
  values = tf.constant([[1.0], [1.0], [1.5], [1.0]])
  assert order_statistics.nearest_mean(values, 6).numpy().tolist() == [1]


def test_the_two_middle_values_are_kept_whatever_rounding_does(rng):
  """Four values, two kept: the median lies between them, mostly not exactly."""
  values = rng.uniform(1e-3, 1e3, size=(4, 5000)).astype(np.float32)
  found = order_statistics.nearest_mean(tf.constant(values), 2)
  expected = np.sort(values, axis=0)[1:3].astype(np.float64).mean(axis=0)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_medoid_is_the_middle_value_of_the_lowest_row():
  # 1 and 3 are in the middle of 0, 3, 1, 9; row 1 (3) comes first; nearest to 3: 3, 1.
  values = tf.constant([[0.0], [3.0], [1.0], [9.0]])
  assert order_statistics.nearest_mean(values, 2, medoid=True).numpy().tolist() == [2]
  found = order_statistics.nearest_weight(values, 2, medoid=True)
  assert found.numpy().tolist() == [0, 0.5, 0.5, 0]


RULES = {
  "median": functools.partial(order_statistics.kept_mean, num_dropped=None),
  "trimmed": functools.partial(order_statistics.kept_mean, num_dropped=2),
  "nearest": functools.partial(order_statistics.nearest_mean, num_left_out=3),
  "medoid": functools.partial(
    order_statistics.nearest_mean, num_left_out=3, medoid=True
  ),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@each_rule
def test_huge_values_do_not_overflow(rule):
  values = np.float32([[3e38], [3.2e38], [3.4e38], [3.1e38], [3.3e38], [3e38]])
  found = rule(tf.constant(values)).numpy()
  assert values.min() <= found <= values.max() * (1 + 1e-6)
  spread = rule(tf.constant(np.float32([[3e38], [-3e38], [0], [1], [2], [-3e38]])))
  assert np.isfinite(spread).all()


@each_rule
@pytest.mark.parametrize("n", [5, 6])
def test_odd(rule, n, rng):
  values = rng.normal(size=(n, 300)).astype(np.float32)
  if rule is RULES["medoid"] and n % 2 == 0:
    values[0] = 0.0  # so that -0.0 is met as well
  found, flipped = rule(tf.constant(values)), rule(tf.constant(-values))
  np.testing.assert_allclose(flipped, -found, rtol=1e-5, atol=1e-6)


@each_rule
@pytest.mark.parametrize("n", [6, 11])
def test_many_columns_give_what_few_give(rule, n, rng):
  values = np.round(rng.normal(size=(n, MANY)), 1).astype(np.float32)
  whole = rule(tf.constant(values))
  half = MANY // 2
  parts = [rule(tf.constant(values[:, :half])), rule(tf.constant(values[:, half:]))]
  np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-6, atol=1e-6)


def test_weights_of_many_columns_are_estimated_from_some(rng):
  values = rng.normal(size=(5, MANY)).astype(np.float32)
  values[4] *= 3  # is seldom in the middle
  whole = np.mean(np.argsort(values, axis=0)[2][:, None] == np.arange(5), axis=0)
  found = order_statistics.kept_weight(tf.constant(values), None)
  assert order_statistics.sampled(tf.constant(values)).shape[1] < MANY / 3
  np.testing.assert_allclose(found, whole, atol=0.02)
  assert float(tf.reduce_sum(found)) == pytest.approx(1)


def test_equal_rows_have_equal_weights(rng):
  values = rng.normal(size=(6, 400)).astype(np.float32)
  values[[1, 4]] = values[0]
  for weight in (
    order_statistics.kept_weight(tf.constant(values), 2),
    order_statistics.nearest_weight(tf.constant(values), 3),
  ):
    assert weight[0] == weight[1] == weight[4]


@pytest.mark.usefixtures("runtime")
def test_networks_in_tff(rng, monkeypatch):
  """One process for any number of clients; few networks, so that it is built soon."""
  monkeypatch.setattr(ranked_columns, "SIZES", (10, 20))
  type_of_many = doubles.tff.to_type((np.float32, [MANY]))
  rules = (
    (median.CoordinateMedianFactory(), lambda x: np.median(x, axis=0)),
    (trimmed_mean.TrimmedMeanFactory(1), lambda x: np.sort(x, 0)[1:-1].mean(axis=0)),
  )
  for factory, expected in rules:
    process = factory.create(type_of_many)
    for n in (5, 20):
      updates = rng.normal(size=(n, MANY)).astype(np.float32)
      output = process.next(process.initialize(), list(updates))
      wanted = expected(updates.astype(np.float64))
      np.testing.assert_allclose(output.result, wanted, rtol=1e-5, atol=1e-6)
      assert output.measurements["weight"].shape == (n,)
