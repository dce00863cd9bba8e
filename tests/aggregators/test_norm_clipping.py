"""Norm clipping against numbers by hand and plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import doubles
from tff_defenses.aggregators import norm_clipping

# Norms 1 and 3.
ROWS = np.float32([[1, 0], [0, 3]])


def clip_by_numpy(rows, max_norm):
  rows = rows.astype(float)
  norms = np.linalg.norm(rows, axis=1)
  limit = norms.mean() if max_norm is None else max_norm
  return np.mean([r / max(1, x / limit) for r, x in zip(rows, norms, strict=True)], 0)


def test_mean_norm_by_hand():
  # M = 2: the rows enter with norms 1 and 2, factors 1 and 2/3.
  row, measured = norm_clipping._clip(tf.constant(ROWS), None)
  np.testing.assert_allclose(row, [0.5, 1.0], rtol=1e-6)
  assert float(measured["max_norm"]) == 2.0
  np.testing.assert_allclose(measured["clip_factor"], [1, 2 / 3], rtol=1e-6)
  np.testing.assert_allclose(measured["weight"], [0.6, 0.4], rtol=1e-6)
  assert measured["clipped"].numpy().tolist() == [False, True]
  assert measured["norm"].numpy().tolist() == [1.0, 3.0]


def test_fixed_norm_by_hand():
  # M = 0.5: both rows are shortened to it.
  np.testing.assert_allclose(
    norm_clipping.aggregate(ROWS, max_norm=0.5), [0.25, 0.25], rtol=1e-6
  )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([None, 0.1, 2.0, 1e9]))
def test_equals_numpy(seed, max_norm):
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(rng.integers(1, 9), 20)).astype(np.float32)
  rows *= 10.0 ** rng.integers(-3, 3, size=(len(rows), 1))
  found = norm_clipping.aggregate(rows, max_norm=max_norm)
  np.testing.assert_allclose(
    found, clip_by_numpy(rows, max_norm), rtol=1e-4, atol=1e-5 * np.abs(rows).max()
  )


@pytest.mark.parametrize("huge", [1e30, -1e30, 3.4e38])
def test_a_fixed_norm_bounds_what_a_huge_update_does(huge, rng):
  rows = rng.normal(size=(5, 10)).astype(np.float32)
  rows[2] = huge
  found = norm_clipping.aggregate(rows, max_norm=1.0).numpy()
  assert np.linalg.norm(found) <= 1 + 1e-6
  without = norm_clipping.aggregate(np.delete(rows, 2, 0), max_norm=1.0).numpy()
  # Factors below 1e-38 are zero in float32: the largest updates do nothing at all.
  own = 0 if huge > 1e38 else 1
  assert np.linalg.norm(found * 5 - without * 4) == pytest.approx(own, abs=1e-4)


@pytest.mark.parametrize("huge", [1e30, 3.4e38])
def test_the_mean_norm_is_lifted_by_a_huge_update(huge, rng):
  """What Deviations says: M = R sqrt(d) / n, so R / n^2 stays in each number."""
  rows = rng.normal(size=(5, 10)).astype(np.float32)
  rows[2] = huge
  row, measured = norm_clipping._clip(tf.constant(rows), None)
  np.testing.assert_allclose(row, np.full(10, huge / 25), rtol=1e-5)
  assert all(np.isfinite(value).all() for value in measured.values())


def test_rows_of_zeros_give_zero():
  row, measured = norm_clipping._clip(tf.zeros([3, 4]), None)
  assert row.numpy().tolist() == [0.0] * 4
  np.testing.assert_allclose(measured["weight"], [1 / 3] * 3)


def test_the_mean_norm_leaves_equal_rows_and_one_row_as_they_are(rng):
  rows = rng.normal(size=(1, 50)).astype(np.float32)
  for count in (1, 6):
    found = norm_clipping.aggregate(np.repeat(rows, count, axis=0))
    np.testing.assert_allclose(found, rows[0], rtol=1e-6)


@pytest.mark.usefixtures("runtime")
def test_through_tff_equals_the_pure_rule(rng):
  rows = rng.normal(size=(5, 7)).astype(np.float32)
  for max_norm in (None, 1.0):
    factory = norm_clipping.NormClippingFactory(max_norm)
    output = doubles.run_plain(factory, [doubles.update(*row) for row in rows])
    expected = norm_clipping.aggregate(rows, max_norm=max_norm)
    found = doubles.flat(output.result)  # sums of numbers near 1: float32 has 1e-7
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), "2", True])
def test_bad_max_norm_raises_with_its_name(value):
  with pytest.raises(ValueError, match="NormClippingFactory: `max_norm` .*None"):
    norm_clipping.NormClippingFactory(value)
