"""Norms, products and distances against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tff_defenses.aggregators import geometry

LARGEST = np.finfo(np.float32).max


@pytest.fixture(params=[None, 12], ids=["one_block", "many_blocks"])
def blocks(request, monkeypatch):
  """Whole matrices, and blocks of two columns of six rows with one left over."""
  if request.param:
    monkeypatch.setattr(geometry, "BLOCK_SIZE", request.param)


def matrix(rng, columns=7):
  return tf.constant(rng.normal(size=(6, columns)).astype(np.float32))


@pytest.mark.usefixtures("blocks")
def test_norms_products_and_distances_equal_numpy(rng):
  rows = matrix(rng)
  exact = rows.numpy().astype(float)
  apart = exact[:, None] - exact[None]
  np.testing.assert_allclose(
    geometry.row_norms(rows), np.linalg.norm(exact, axis=1), rtol=1e-12
  )
  np.testing.assert_allclose(
    geometry.distances_to(rows, rows[2]), np.linalg.norm(apart[2], axis=1), rtol=1e-12
  )
  np.testing.assert_allclose(geometry.gram(rows), exact @ exact.T, rtol=1e-12)
  np.testing.assert_allclose(
    geometry.squared_distances(rows), (apart**2).sum(2), rtol=1e-9, atol=1e-15
  )


@pytest.mark.usefixtures("blocks")
def test_one_column_and_unknown_sizes(rng):
  norms = tf.function(geometry.row_norms, input_signature=[tf.TensorSpec([None, None])])
  for columns in (1, 2, 5):
    rows = matrix(rng, columns)
    expected = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(norms(rows), expected, rtol=1e-6)


@pytest.mark.parametrize("huge", [1e30, LARGEST])
def test_huge_rows_overflow_nowhere(huge, rng):
  rows = matrix(rng).numpy()
  rows[[1, 4]] = huge
  for found in (geometry.row_norms(rows), geometry.gram(rows)):
    assert np.isfinite(found).all()
  distances = geometry.squared_distances(rows).numpy()
  assert distances[1, 4] == 0.0 and distances[1, 0] == pytest.approx(
    7 * float(huge) ** 2
  )
  assert np.isfinite(geometry.to_float32(geometry.row_norms(rows))).all()
  weights = np.full([1, 6], 1 / 6)
  assert np.isfinite(geometry.combine(weights, np.full_like(rows, huge))).all()


def test_near_equal_rows_far_from_the_origin_keep_their_distances(rng):
  rows = (1000 + 0.01 * rng.normal(size=(8, 400))).astype(np.float32)
  exact = rows.astype(float)
  expected = ((exact[:, None] - exact[None]) ** 2).sum(2)
  found = geometry.squared_distances(tf.constant(rows))
  np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_combine_is_the_weighted_sum(rng):
  rows, weights = matrix(rng), rng.random((2, 6)) / 6
  expected = weights @ rows.numpy().astype(float)
  np.testing.assert_allclose(geometry.combine(weights, rows), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_of_huge_rows_is_finite_and_of_others_tensorflows_own(dtype, rng):
  huge = np.finfo(np.float32).max
  rows = rng.normal(size=(7, 5)).astype(np.float32)
  found = geometry.mean(tf.constant(rows)).numpy()
  np.testing.assert_array_equal(found, tf.reduce_mean(rows, axis=0))
  rows[:, 0], rows[:, 1] = huge, [huge, huge, -huge, -huge, huge, 0, 0]
  mixed = tf.function(geometry.mean)(tf.constant(rows, dtype)).numpy()
  np.testing.assert_allclose(mixed[:2], [huge, huge / 7], rtol=1e-6)
  np.testing.assert_array_equal(mixed[2:], tf.reduce_mean(rows.astype(dtype)[:, 2:], 0))
