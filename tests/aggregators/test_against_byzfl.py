r"""The rules against ByzFL's, where the definitions agree; the difference where not.

ByzFL brings PyTorch along, so it is not installed with the rest. With it, for once:

  uv run --exclude-newer-package byzfl=2025-12-31 --with byzfl --with 'numpy<2' \
    pytest tests/aggregators/test_against_byzfl.py
"""

import numpy as np
import pytest

byzfl = pytest.importorskip("byzfl", reason="not installed; see the top of this file")

from tff_defenses.aggregators import (  # noqa: E402
  geometric_median,
  krum,
  median,
  trimmed_mean,
)

SIZES = [(7, 2), (10, 1), (11, 3)]


def updates_of(rng, n):
  return rng.normal(size=(n, 30)).astype(np.float32)


@pytest.mark.parametrize("n", [7, 10, 25])
def test_median_agrees(n, rng):
  updates = updates_of(rng, n)
  np.testing.assert_allclose(
    median.aggregate(updates), byzfl.Median()(updates), rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize(("n", "f"), SIZES)
def test_trimmed_mean_agrees(n, f, rng):
  updates = updates_of(rng, n)
  found = trimmed_mean.aggregate(updates, f)
  np.testing.assert_allclose(found, byzfl.TrMean(f)(updates), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "f"), SIZES)
def test_krum_agrees_with_one_malicious_client_less(n, f, rng):
  """ByzFL counts n - f - 1 others, the paper n - f - 2: our f is one smaller."""
  updates = updates_of(rng, n)
  found = krum.aggregate(updates, f - 1)
  np.testing.assert_allclose(found, byzfl.Krum(f)(updates), rtol=1e-5)


def test_krum_differs_at_the_same_number_of_malicious_clients():
  # f = 1, n = 5. Two others: 0, 1, 4 are 1 + 16, 1 + 9, 9 + 9 (7 is 3 off): picks 1
  # (10). Three others: 17 + 49, 10 + 36, 18 + 16, ...: picks 4 (34).
  updates = np.float32([[0], [1], [4], [7], [90]])
  assert krum.aggregate(updates, 1).numpy().tolist() == [1]
  assert byzfl.Krum(1)(updates).tolist() == [4]


@pytest.mark.parametrize(("n", "f"), SIZES)
def test_multi_krum_agrees_with_one_malicious_client_less(n, f, rng):
  """ByzFL averages the n - f best by n - f - 1 others."""
  updates = updates_of(rng, n)
  found = krum.aggregate(updates, f - 1, num_selected=n - f)
  np.testing.assert_allclose(found, byzfl.MultiKrum(f)(updates), rtol=1e-4, atol=1e-5)


def test_geometric_median_agrees(rng):
  """Both stop short of the minimum: a loose tolerance."""
  updates = updates_of(rng, 9)
  expected = byzfl.GeometricMedian(nu=1e-6, T=300)(updates)
  np.testing.assert_allclose(
    geometric_median.aggregate(updates), expected, rtol=1e-2, atol=1e-2
  )
