"""Centered clipping by hand, and its memory from round to round."""

import numpy as np
import pytest

from tests import doubles
from tff_defenses.aggregators import centered_clipping

FACTORY = centered_clipping.CenteredClippingFactory


def in_numpy(rows, center, radius, iterations):
  for _ in range(iterations):
    steps = rows.astype(float) - center
    lengths = np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-300)
    center = center + (steps * np.minimum(1, radius / lengths)).mean(0)
  return center


def test_steps_from_the_centre_by_hand():
  # From (1, 0): steps (0, 0) and (-1, 0) stay, (2, 0) is halved to (1, 0).
  rows = np.float32([[1, 0], [0, 0], [3, 0]])
  found = centered_clipping.aggregate(rows, center=np.float32([1, 0]), radius=1.0)
  np.testing.assert_allclose(found, [1 + (0 - 1 + 1) / 3, 0], atol=1e-7)


@pytest.mark.parametrize("iterations", [1, 3])
def test_equals_numpy(rng, iterations):
  rows = (5 * rng.normal(size=(9, 40))).astype(np.float32)
  center = rng.normal(size=40).astype(np.float32)
  found = centered_clipping.aggregate(
    rows, center=center, radius=20.0, num_iterations=iterations
  )
  np.testing.assert_allclose(
    found, in_numpy(rows, center, 20.0, iterations), rtol=1e-4, atol=1e-5
  )


def test_a_huge_client_moves_the_centre_by_its_share_of_tau(rng):
  rows = rng.normal(size=(10, 5)).astype(np.float32)
  center = np.zeros(5, np.float32)
  calm = centered_clipping.aggregate(rows[1:], center=center, radius=3.0) * 9 / 10
  rows[0] = [1e30, 0, 0, 0, 0]
  found = centered_clipping.aggregate(rows, center=center, radius=3.0)
  np.testing.assert_allclose(found - calm, [0.3, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.usefixtures("runtime")
def test_the_next_round_starts_where_the_last_one_ended():
  process = FACTORY(2.0).create(doubles.UPDATE_TYPE)
  updates = [doubles.update(3, 0, 0, 0, 0, 0, 0)] * 2
  first = process.next(process.initialize(), updates)
  assert doubles.flat(first.result)[0] == pytest.approx(2)
  second = process.next(first.state, updates)
  assert doubles.flat(second.result)[0] == pytest.approx(3)
  np.testing.assert_allclose(first.measurements["clip_factor"], [2 / 3] * 2, rtol=1e-6)
  np.testing.assert_allclose(second.measurements["clip_factor"], [1, 1])


@pytest.mark.parametrize(
  ("settings", "name"), [({"radius": 0}, "radius"), ({"num_iterations": 0}, "num_iter")]
)
def test_setting_outside_its_range_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"CenteredClippingFactory: `{name}"):
    FACTORY(**settings)
