"""Weiszfeld against numbers by hand, plain NumPy and SciPy's minimiser."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from tests import doubles
from tff_defenses.aggregators import geometric_median

LINE = tf.constant([[0.0], [0.0], [0.0], [100.0]])
MANY = {"max_iterations": 1000, "tolerance": 1e-12}


def weiszfeld_by_numpy(rows, iterations, nu=1e-5, tolerance=1e-6):
  """Loops over rows in float64; returns the point after the last iteration."""
  rows = [row.astype(float) for row in rows]
  point = sum(rows) / len(rows)

  def objective(z):
    return sum(np.linalg.norm(z - row) for row in rows) / len(rows)

  for _ in range(iterations):
    before = objective(point)
    shares = [1 / max(nu, np.linalg.norm(point - row)) for row in rows]
    point = sum(b * row for b, row in zip(shares, rows, strict=True)) / sum(shares)
    if abs(before - objective(point)) <= tolerance * objective(point):
      break
  return point


def test_first_iteration_by_hand():
  # From the mean, 25: b = 1/25 three times and 1/75; z = (100/75) / (10/75) = 10.
  row, measured = geometric_median.weiszfeld(LINE, max_iterations=1)
  np.testing.assert_allclose(row, [10.0], rtol=1e-6)
  np.testing.assert_allclose(measured["weight"], [0.3, 0.3, 0.3, 0.1], rtol=1e-6)
  np.testing.assert_allclose(measured["distance"], [10, 10, 10, 90], rtol=1e-6)
  assert float(measured["objective"]) == pytest.approx(30)


def test_many_iterations_find_the_median_of_a_line():
  assert abs(float(geometric_median.aggregate(LINE, max_iterations=100)[0])) < 1e-3


def test_corners_of_an_equilateral_triangle_give_the_centroid():
  corners = tf.constant([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
  row, measured = geometric_median.weiszfeld(corners)
  np.testing.assert_allclose(row, [0.5, 0.75**0.5 / 3], rtol=1e-6)
  assert int(measured["num_iterations"]) == 1  # the objective does not change


@pytest.mark.parametrize("iterations", [1, 2, 4, 9])
def test_iterations_equal_numpy(iterations, rng):
  rows = rng.normal(size=(9, 30)).astype(np.float32)
  rows[:3] += 5
  found = geometric_median.aggregate(tf.constant(rows), max_iterations=iterations)
  expected = weiszfeld_by_numpy(rows, iterations)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("start", geometric_median.STARTS)
@pytest.mark.parametrize("seed", range(3))
def test_many_iterations_reach_the_minimum_of_the_distances(seed, start):
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(7, 3)).astype(np.float32)
  rows[:2] += 20

  def distances(z):
    return np.linalg.norm(rows.astype(float) - z, axis=1).sum()

  best = optimize.minimize(
    distances,
    np.median(rows, axis=0),
    method="Nelder-Mead",
    options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 5000},
  )
  found = geometric_median.aggregate(tf.constant(rows), start=start, **MANY)
  np.testing.assert_allclose(found, best.x, atol=1e-4)
  assert distances(found.numpy()) <= best.fun * (1 + 1e-6)


def test_a_coarse_tolerance_ends_early():
  _, measured = geometric_median.weiszfeld(LINE, max_iterations=50, tolerance=0.5)
  assert int(measured["num_iterations"]) == 1  # 37.5 -> 30


def test_clipped_mean_by_hand():
  # Norms 5, 1, 10: the median is 5, so (0, 10) counts as (0, 5).
  rows = tf.constant([[3.0, 4.0], [1.0, 0.0], [0.0, 10.0]])
  np.testing.assert_allclose(geometric_median.clipped_mean(rows), [4 / 3, 3], rtol=1e-6)
  # Of two norms the lower one: half of the rows may be huge.
  rows = tf.constant([[3.0], [100.0]])
  assert geometric_median.clipped_mean(rows).numpy().tolist() == [3.0]


@pytest.mark.parametrize("huge", [1e30, -1e30, 3.4e38])
@pytest.mark.parametrize("start", geometric_median.STARTS)
def test_huge_updates_give_a_finite_result(huge, start, rng):
  rows = rng.normal(size=(6, 5)).astype(np.float32)
  rows[:2] = huge
  row, measured = geometric_median.weiszfeld(tf.constant(rows), start=start)
  assert np.isfinite(row).all()
  assert all(np.isfinite(value).all() for value in measured.values())


def test_few_iterations_from_the_mean_do_not_come_back_from_a_huge_update(rng):
  """What Deviations says: about R / (n (n - 1)^4), here 1e30 / (6 * 5^4)."""
  rows = (0.3 + 0.1 * rng.normal(size=(6, 4))).astype(np.float32)
  rows[4] = 1e30
  dragged = geometric_median.aggregate(tf.constant(rows)).numpy()
  assert (dragged > 1e26).all() and (dragged < 1e27).all()


@pytest.mark.parametrize("huge", [1e6, 1e30, 3.4e38])
def test_from_the_clipped_mean_huge_updates_pull_a_little(huge, rng):
  honest = (0.3 + 0.1 * rng.normal(size=(8, 40))).astype(np.float32)
  rows = np.concatenate([np.full((2, 40), huge, np.float32), honest])
  found = geometric_median.aggregate(tf.constant(rows), start="clipped_mean").numpy()
  spread = np.linalg.norm(honest - honest.mean(0), axis=1).max()
  assert np.linalg.norm(found - honest.mean(0)) < spread


@pytest.mark.parametrize("start", geometric_median.STARTS)
def test_odd_independent_of_order_and_at_home_with_equal_rows(start, rng):
  rows = rng.normal(size=(7, 12)).astype(np.float32)
  row = geometric_median.aggregate(rows, start=start)
  flipped = geometric_median.aggregate(-rows, start=start)
  np.testing.assert_allclose(flipped, -row, rtol=1e-6)
  order = rng.permutation(7)
  again = geometric_median.aggregate(rows[order], start=start)
  np.testing.assert_allclose(again, row, rtol=1e-5, atol=1e-6)
  for equal in (rows[:1], np.repeat(rows[:1], 5, axis=0), np.zeros_like(rows)):
    found = geometric_median.aggregate(equal, start=start)
    np.testing.assert_allclose(found, equal[0], rtol=1e-6)


@pytest.mark.usefixtures("runtime")
def test_through_tff_equals_the_pure_rule(rng):
  rows = rng.normal(size=(5, 7)).astype(np.float32)
  factory = geometric_median.GeometricMedianFactory(start="clipped_mean")
  output = doubles.run_plain(factory, [doubles.update(*row) for row in rows])
  expected = geometric_median.aggregate(rows, start="clipped_mean")
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-5)
  assert output.measurements["weight"].sum() == pytest.approx(1)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("max_iterations", 0),
    ("max_iterations", 1.5),
    ("smoothing", 0.0),
    ("tolerance", -1e-6),
    ("start", "zero"),
  ],
)
def test_bad_setting_raises_with_its_name(name, value):
  with pytest.raises(ValueError, match=f"GeometricMedianFactory: `{name}`"):
    geometric_median.GeometricMedianFactory(**{name: value})
