"""Noise: its moments, its independence, and where it is added."""

import numpy as np
import pytest
import scipy.stats

from attacks.updates import gaussian
from tests.attacks import rounds

WIDE = rounds.drawn(0, num_columns=4000)


def test_rows_are_normal_with_the_given_deviation():
  deltas, malicious = WIDE
  changed, _ = rounds.craft(gaussian.GaussianAttack(std=2.5), deltas, malicious)
  for row in changed[malicious]:
    assert scipy.stats.kstest(row / 2.5, "norm").pvalue > 1e-3


def test_each_client_draws_for_itself():
  deltas, malicious = WIDE
  rows = rounds.craft(gaussian.GaussianAttack(), deltas, malicious)[0][malicious]
  correlations = np.corrcoef(rows)[np.triu_indices(3, 1)]
  assert np.all(np.abs(correlations) < 0.08)  # five standard errors


def test_deviation_zero_sends_zeros():
  deltas, malicious = rounds.drawn(1)
  changed, _ = rounds.craft(gaussian.GaussianAttack(std=0.0), deltas, malicious)
  assert not changed[malicious].any()
  added, _ = rounds.craft(gaussian.GaussianAttack(std=0, add=True), deltas, malicious)
  assert np.array_equal(added, deltas)


def test_added_noise_is_the_noise_that_is_sent_without():
  deltas, malicious = WIDE
  sent, _ = rounds.craft(gaussian.GaussianAttack(), deltas, malicious)
  added, _ = rounds.craft(gaussian.GaussianAttack(add=True), deltas, malicious)
  expected = deltas[malicious] + sent[malicious]
  np.testing.assert_allclose(added[malicious], expected, atol=1e-6)


@pytest.mark.parametrize("std", [-1.0, np.nan, "1"])
def test_bad_deviation_raises_with_its_name(std):
  with pytest.raises(ValueError, match="GaussianAttack: `std` must be >= 0"):
    gaussian.GaussianAttack(std=std)
