"""Paired tests: by hand, against SciPy, and where nothing can be said."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tff_defenses.experiments import statistics


def by_seed(values):
  return dict(enumerate(values))


def test_three_pairs_by_hand():
  # d = 1, 2, 3: mean 2, std 1, t = 2 / (1 / sqrt 3) = 3.4641. With two degrees of
  # freedom P(|T| > t) = 1 - t / sqrt(2 + t^2) = 1 - 3.4641 / sqrt 14 = 0.07418.
  found = statistics.paired(by_seed([2, 4, 6]), by_seed([1, 2, 3]))
  assert (found.count, found.mean, found.std) == (3, 2.0, 1.0)
  assert found.p_t == pytest.approx(0.07418, abs=1e-5)
  assert found.p_exact == 0.25  # 2 of 2^3 sign patterns are as extreme
  assert not found.is_larger


def test_many_pairs_with_one_sign_show_which_is_larger():
  a, b = by_seed([0.9, 0.92, 0.95, 0.91]), by_seed([0.5, 0.51, 0.56, 0.5])
  assert statistics.paired(a, b).is_larger and statistics.paired(b, a).is_smaller
  assert not statistics.paired(b, a).is_larger


@pytest.mark.parametrize("n", [3, 4, 8, 20])
def test_agrees_with_scipy(n):
  rng = np.random.default_rng(n)
  a, b = rng.normal(size=(2, n))
  found = statistics.paired(by_seed(a), by_seed(b))
  assert found.p_t == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
  exact = stats.wilcoxon(a, b, mode="exact").pvalue
  assert found.p_exact == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
  "differences", [[1, 1, 2, -2, 3], [0.1, 0.1, 0.1, 0.1], [0, 1, -1, 2, 2, 2], [-5, 1]]
)
def test_equal_sizes_and_zeros_against_all_sign_patterns(differences):
  values = np.array([d for d in differences if d], float)
  ranks = stats.rankdata(np.abs(values))
  middle = ranks.sum() / 2
  seen = abs(ranks[values > 0].sum() - middle)
  sums = [
    sum(r for r, positive in zip(ranks, signs, strict=True) if positive)
    for signs in itertools.product([False, True], repeat=len(values))
  ]
  expected = np.mean([abs(s - middle) >= seen - 1e-9 for s in sums])
  assert statistics.signed_rank(differences) == pytest.approx(expected)


def test_only_seeds_of_both_count_and_only_finite_values():
  found = statistics.paired(
    {3: 1.0, 1: 2.0, 7: 9.0, 2: math.nan}, {1: 1.0, 3: 1.0, 2: 5.0, 8: 0.0}
  )
  assert found.seeds == (1, 3) and found.mean == 0.5


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_pairs_test_nothing(n):
  found = statistics.paired(by_seed([9.0] * n), by_seed([1.0] * n))
  assert math.isnan(found.p_t) and math.isnan(found.p_exact)
  assert not (found.is_larger or found.is_smaller)
  assert math.isnan(found.mean) == (n == 0) and math.isnan(found.std) == (n < 2)


def test_equal_measurements_do_not_differ():
  found = statistics.paired(by_seed([0.3, 0.5, 0.7]), by_seed([0.3, 0.5, 0.7]))
  assert (found.mean, found.std, found.p_t, found.p_exact) == (0, 0, 1, 1)


@pytest.mark.parametrize(("n", "larger"), [(3, False), (5, False), (6, True)])
def test_differences_without_spread_leave_the_exact_test_to_decide(n, larger):
  # 0.9 - 0.8 and 0.4 - 0.3 differ in the 17th digit: rounding is no spread. The exact
  # p-value is 2 / 2^n: 0.0625 for five pairs, 0.03125 for six.
  b = [0.8, 0.3, 0.1, 0.2, 0.5, 0.6][:n]
  found = statistics.paired(by_seed([x + 0.1 for x in b]), by_seed(b))
  assert found.std == 0 and math.isnan(found.p_t)
  assert found.p == found.p_exact == 2 / 2**n and found.is_larger is larger
