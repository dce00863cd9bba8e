"""The reversed mean by hand, and what it does to the mean of all."""

import numpy as np
import pytest

from attacks.updates import inner_product
from tests.attacks import rounds


def test_by_hand():
  deltas = [[1, 0], [7, 7], [3, -2]]
  changed, _ = rounds.craft(
    inner_product.InnerProductAttack(), deltas, [False, True, False]
  )
  assert changed.tolist() == [[1, 0], [-1.0, 0.5], [3, -2]]


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 10.0])
def test_mean_of_ten_with_three_malicious(epsilon):
  # (7 mu - 3 epsilon mu) / 10.
  deltas, malicious = rounds.drawn(0)
  attack = inner_product.InnerProductAttack(epsilon=epsilon)
  changed, _ = rounds.craft(attack, deltas, malicious)
  mu = deltas[~malicious].astype(float).mean(axis=0)
  expected = (0.7 - 0.3 * epsilon) * mu
  np.testing.assert_allclose(changed.mean(axis=0), expected, rtol=1e-4, atol=1e-6)


def test_partial_knowledge_reverses_the_attackers_mean():
  deltas, malicious = rounds.drawn(1)
  attack = inner_product.InnerProductAttack(knowledge="partial")
  changed, _ = rounds.craft(attack, deltas, malicious)
  expected = np.stack([-0.5 * deltas[malicious].mean(axis=0)] * 3)
  np.testing.assert_allclose(changed[malicious], expected, atol=1e-6)


@pytest.mark.parametrize("epsilon", [0, -1.0, np.inf])
def test_bad_epsilon_raises_with_its_name(epsilon):
  with pytest.raises(ValueError, match=r"`epsilon` \(eps\) must be > 0"):
    inner_product.InnerProductAttack(epsilon=epsilon)
