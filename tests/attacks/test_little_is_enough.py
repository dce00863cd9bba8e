"""z against SciPy and the paper's tables, the shift against plain NumPy."""

import numpy as np
import pytest
import scipy.stats

from attacks.updates import little_is_enough
from tests.attacks import rounds


@pytest.mark.parametrize(
  ("n", "f", "z"), [(10, 3, 0.1800), (50, 24, 1.4261), (30, 9, 0.4307)]
)
def test_z_by_hand(n, f, z):
  # (10, 3): q = 5 + 1 - 3, Phi^-1(4 / 7). (50, 24): Phi^-1(24 / 26).
  found = float(little_is_enough.largest_shift(n, f))
  assert found == pytest.approx(z, abs=5e-5)


def test_z_equals_scipy():
  for n in range(3, 60):
    for f in range(1, n // 2 + 1):
      q = n // 2 + 1 - f
      share = (n - f - q) / (n - f)
      found = float(little_is_enough.largest_shift(n, f))
      assert found == pytest.approx(scipy.stats.norm.ppf(share), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("settings", [{}, {"z": 1.3}, {"knowledge": "partial"}])
def test_row_equals_numpy(settings):
  deltas, malicious = rounds.drawn(0)
  attack = little_is_enough.LittleIsEnoughAttack(**settings)
  changed, measured = rounds.craft(attack, deltas, malicious)
  seen = malicious if "knowledge" in settings else ~malicious
  own = deltas.astype(float)[seen]
  mean = np.sum(own, axis=0) / len(own)
  deviation = np.sqrt(np.sum((own - mean) ** 2, axis=0) / len(own))
  z = settings.get("z", scipy.stats.norm.ppf(4 / 7))
  expected = np.stack([mean - z * deviation] * 3)
  np.testing.assert_allclose(changed[malicious], expected, rtol=1e-4, atol=1e-5)
  assert measured["z"] == pytest.approx(z, rel=1e-5)
  assert measured["z_was_negative"] == 0
  assert np.all(changed[malicious] <= mean + 1e-6)  # downwards, never up


def test_negative_z_is_zero_and_flagged():
  # n = 10, f = 1: q = 5, Phi^-1(4 / 9) < 0.
  deltas, malicious = rounds.drawn(1, malicious=(2,))
  changed, measured = rounds.craft(
    little_is_enough.LittleIsEnoughAttack(), deltas, malicious
  )
  assert measured == {"z": 0.0, "z_was_negative": 1.0, "no_attack": 0.0}
  mean = deltas[~malicious].mean(axis=0)
  np.testing.assert_allclose(changed[2], mean, atol=1e-6)


def test_rows_that_rules_reject_do_not_count_in_n():
  deltas, malicious = rounds.drawn(2, num_clients=12)
  deltas[[0, 11]] = np.nan
  attack = little_is_enough.LittleIsEnoughAttack()
  assert rounds.craft(attack, deltas, malicious)[1]["z"] == pytest.approx(
    0.18, abs=1e-3
  )


def test_attackers_whose_own_training_failed_count_in_n():
  deltas, malicious = rounds.drawn(0)
  attack = little_is_enough.LittleIsEnoughAttack()
  whole = rounds.craft(attack, deltas, malicious)[1]["z"]
  deltas[np.flatnonzero(malicious)[:2]] = np.nan
  assert rounds.craft(attack, deltas, malicious)[1]["z"] == whole


def test_no_shift_is_no_negative_one():
  # n = 10, f = 2: q = 4, Phi^-1(4 / 8) = 0.
  deltas, malicious = rounds.drawn(1, malicious=(2, 5))
  attack = little_is_enough.LittleIsEnoughAttack()
  measured = rounds.craft(attack, deltas, malicious)[1]
  assert measured == {"z": 0.0, "z_was_negative": 0.0, "no_attack": 0.0}


def test_a_malicious_majority_has_a_finite_z():
  deltas, malicious = rounds.drawn(3, malicious=range(8))
  changed, measured = rounds.craft(
    little_is_enough.LittleIsEnoughAttack(), deltas, malicious
  )
  assert np.isfinite(changed).all() and measured["z"] == 0  # Phi^-1(1 / 2)


@pytest.mark.parametrize("z", [-0.1, np.inf, "1"])
def test_bad_z_raises_with_its_name(z):
  with pytest.raises(
    ValueError, match="LittleIsEnoughAttack: `z` must be None or >= 0"
  ):
    little_is_enough.LittleIsEnoughAttack(z=z)
