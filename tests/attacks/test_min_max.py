"""Min-max and min-sum by hand and against a search by bisection."""

import numpy as np
import pytest

from attacks.updates import min_max
from tests.attacks import rounds

CORNER = np.float32([[0, 0], [2, 0], [0, 2]])
KINDS = {"max": min_max.MinMaxAttack, "sum": min_max.MinSumAttack}


def reach(kind, benign, point):
  """What must not exceed the same number within the benign rows."""
  distances = np.linalg.norm(benign - point, axis=1)
  return distances.max() if kind == "max" else (distances**2).sum()


def searched(kind, benign, p):
  """Largest gamma by doubling and bisection, in float64."""
  benign, mean = benign.astype(float), benign.astype(float).mean(axis=0)
  limit = max(reach(kind, benign, row) for row in benign)
  low, high = 0.0, 1.0
  while reach(kind, benign, mean + high * p) <= limit:
    high *= 2
  for _ in range(60):
    middle = (low + high) / 2
    fits = reach(kind, benign, mean + middle * p) <= limit
    low, high = (middle, high) if fits else (low, middle)
  return low


def direction_of(name, benign):
  benign = benign.astype(float)
  mean = benign.mean(axis=0)
  return {
    "inverse_std": -benign.std(axis=0),
    "inverse_unit": -mean / np.linalg.norm(mean),
    "inverse_sign": -np.sign(mean),
  }[name]


@pytest.mark.parametrize(
  ("kind", "gamma", "value"), [("max", 1.48356, -0.73205), ("sum", 1.11803, -0.38743)]
)
def test_corner_by_hand(kind, gamma, value):
  # mu = 2/3 (1, 1), sd = 0.9428 (1, 1). Sum: 12 - 16/3 = gamma^2 * 3 * 16/9.
  deltas = np.concatenate([CORNER, [[9, 9]]])
  changed, measured = rounds.craft(KINDS[kind](), deltas, [0, 0, 0, 1])
  assert measured["gamma"] == pytest.approx(gamma, abs=5e-6)
  assert changed[3].tolist() == pytest.approx([value, value], abs=5e-6)


@pytest.mark.parametrize("knowledge", ["full", "partial"])
@pytest.mark.parametrize("direction", min_max.DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_gamma_and_row_equal_the_search(kind, direction, knowledge):
  for seed in range(3):
    deltas, malicious = rounds.drawn(seed)
    benign = deltas[malicious if knowledge == "partial" else ~malicious]
    attack = KINDS[kind](direction=direction, knowledge=knowledge)
    changed, measured = rounds.craft(attack, deltas, malicious)
    p = direction_of(direction, benign)
    gamma = searched(kind, benign, p)
    assert gamma > 0 and measured["gamma"] == pytest.approx(gamma, rel=1e-4)
    expected = np.stack([benign.mean(axis=0) + gamma * p] * 3)
    np.testing.assert_allclose(changed[malicious], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_benign_client_looks_farther_out_than_the_attack(kind):
  deltas, malicious = rounds.drawn(7, num_clients=30, num_columns=300)
  changed, _ = rounds.craft(KINDS[kind](), deltas, malicious)
  benign = deltas[~malicious].astype(float)
  limit = max(reach(kind, benign, row) for row in benign)
  found = reach(kind, benign, changed[1])
  assert 0.999 * limit < found < limit * (1 + 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nowhere_to_go_is_gamma_zero(kind):
  for direction in min_max.DIRECTIONS:
    one = np.float32([[1, 2], [5, 5]])
    changed, measured = rounds.craft(KINDS[kind](direction=direction), one, [0, 1])
    assert measured["gamma"] == 0 and changed[1].tolist() == [1, 2]
    equal = np.float32([[1, 2]] * 3)
    measured = rounds.craft(KINDS[kind](direction=direction), equal, [0, 0, 1])[1]
    assert measured["gamma"] == pytest.approx(0, abs=1e-3)
    zeros = rounds.craft(KINDS[kind](direction=direction), 0 * equal, [0, 0, 1])[0]
    assert not zeros.any()


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_direction_raises_with_its_name(kind):
  with pytest.raises(ValueError, match="`direction` must be one of 'inverse_std'"):
    KINDS[kind](direction="std")
