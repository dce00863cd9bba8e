"""RSA's signs and shrinking steps, by hand."""

import numpy as np
import pytest

from tests import doubles
from tff_defenses.aggregators import rsa


def test_signs_by_hand():
  # Signs (1, -1, 0) and (1, 1, 0): the mean is (1, 0, 0).
  rows = np.float32([[0.3, -2, 0], [1, 1, 0]])
  found = rsa.aggregate(rows, step_size=0.1, decay=1.0)
  np.testing.assert_allclose(found, [0.1, 0, 0], rtol=1e-6)


def test_steps_by_hand():
  # 0.5 * 0.9 and 0.5 * 0.9^3; FL-PLAS's first step is 5e-5 * 0.998.
  assert float(rsa.step(1, step_size=0.5, decay=0.9)) == pytest.approx(0.45)
  assert float(rsa.step(3, step_size=0.5, decay=0.9)) == pytest.approx(0.3645)
  assert float(rsa.step(1)) == pytest.approx(4.99e-5)
  assert float(rsa.step(200)) == pytest.approx(5e-5 * 0.998**200, rel=1e-6)


def test_equals_numpy_counting_votes(rng):
  rows = rng.normal(size=(9, 40)).astype(np.float32)
  rows[rng.random(rows.shape) < 0.2] = 0
  votes = (rows > 0).sum(0) - (rows < 0).sum(0)
  found = rsa.aggregate(rows, step_size=0.01, round_number=5)
  np.testing.assert_allclose(found, 0.01 * 0.998**5 * votes / 9, rtol=1e-5)


def test_a_huge_update_moves_a_parameter_by_one_vote(rng):
  rows = rng.normal(size=(5, 20)).astype(np.float32)
  moved = rows.copy()
  moved[2] = 1e30
  found, before = rsa.aggregate(moved), rsa.aggregate(rows)
  assert np.abs(found - before).max() <= 2 * 5e-5 / 5 * (1 + 1e-6)


@pytest.mark.usefixtures("runtime")
def test_the_step_shrinks_from_round_to_round_in_tff():
  process = rsa.RsaFactory(0.1, decay=0.5).create(doubles.UPDATE_TYPE)
  state = process.initialize()
  for expected in (0.05, 0.025, 0.0125):
    output = process.next(state, [doubles.update(x) for x in (-3.0, 1.0, 0.2)])
    state = output.state
    np.testing.assert_allclose(doubles.flat(output.result), expected / 3, rtol=1e-6)
    assert output.measurements["step"] == pytest.approx(expected)
    np.testing.assert_allclose(output.measurements["weight"], [1 / 3] * 3)
  output = process.next(state, [doubles.update(float("nan"))])
  assert doubles.flat(output.result).tolist() == [0.0] * 7
  assert output.state == 4  # the round counts


@pytest.mark.parametrize(
  ("settings", "name"),
  [({"step_size": 0}, "step_size"), ({"decay": 1.1}, "decay"), ({"decay": 0}, "decay")],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"RsaFactory: `{name}`"):
    rsa.RsaFactory(**settings)
