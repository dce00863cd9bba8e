"""Is one defense better than another? Runs of equal seed are compared in pairs.

Two runs with the same seed share data split, initial weights and client draws, so the
differences within pairs vary less than the two groups do.

Symbols: n pairs, d their differences a - b.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

LEVEL = 0.05  # ours: the usual one
LEAST_PAIRS = 3  # ours: two differences say next to nothing about their spread
CAUTION = (
  f"Runs are paired by seed. With fewer than {LEAST_PAIRS} pairs nothing is tested. "
  "Three seeds rarely reach 5 %: the paired t-test then needs a mean difference of 2.5 "
  "standard deviations, and the exact signed-rank test cannot give a p-value below "
  "0.25 (it needs six pairs for 5 %). The p-values are two-sided and not corrected for "
  "the number of comparisons."
)


@dataclasses.dataclass(frozen=True)
class Paired:
  """Comparison of a with b over the seeds that both have.

  Args:
    seeds: Those seeds, in order.
    mean: Of the differences a - b; NaN without a pair.
    std: Sample standard deviation of the differences; NaN with fewer than two.
    p_t: Of the paired t-test; NaN when it is not defined: fewer than 3 pairs, or all
      differences equal and not zero (no spread to measure them by). 1 if all are zero.
    p_exact: Of Wilcoxon's signed-rank test, exact; NaN with fewer than 3 pairs.
  """

  seeds: tuple[int, ...]
  mean: float
  std: float
  p_t: float
  p_exact: float

  @property
  def count(self) -> int:
    """n, the number of pairs."""
    return len(self.seeds)

  @property
  def p(self) -> float:
    """The p-value to decide by: the t-test's, or the exact test's where it has none."""
    return self.p_exact if math.isnan(self.p_t) else self.p_t

  @property
  def is_larger(self) -> bool:
    """Whether a is larger than b: mean difference > 0 and p < 0.05."""
    return bool(self.mean > 0 and self.p < LEVEL)

  @property
  def is_smaller(self) -> bool:
    """Whether a is smaller than b: mean difference < 0 and p < 0.05."""
    return bool(self.mean < 0 and self.p < LEVEL)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Paired:
  """Compares two measurements seed by seed.

  Seeds that only one of them has, and values that are not finite, are left out.

  Args:
    a, b: seed -> value.
  """
  seeds = tuple(
    s for s in sorted(a) if s in b and math.isfinite(a[s]) and math.isfinite(b[s])
  )
  differences = np.array([a[s] - b[s] for s in seeds], float)
  size = max((max(abs(a[s]), abs(b[s])) for s in seeds), default=0.0)
  differences[np.abs(differences) <= 1e-12 * size] = 0.0  # rounding is no difference
  n = len(seeds)
  mean = float(differences.mean()) if n else math.nan
  std = float(differences.std(ddof=1)) if n > 1 else math.nan
  if n > 1 and std <= 1e-12 * size:
    std = 0.0
  if n < LEAST_PAIRS:
    return Paired(seeds, mean, std, math.nan, math.nan)
  return Paired(seeds, mean, std, _t_test(mean, std, n), signed_rank(differences))


def signed_rank(differences: Sequence[float]) -> float:
  """Two-sided exact p-value of Wilcoxon's signed-rank test.

  Zero differences are dropped and equal sizes share their mean rank; the distribution
  is that of all 2^n signs on these ranks.

  >>> signed_rank([1.0, 2.0, 3.0])  # one of 8 sign patterns is as large, one as small
  0.25
  """
  values = np.asarray(differences, float)
  values = values[values != 0]
  if not len(values):
    return 1.0
  doubled = _doubled_ranks(np.abs(values))
  counts = [1]  # ways to reach each sum of doubled ranks, as exact integers
  for rank in doubled:
    longer = counts + [0] * rank
    for i, ways in enumerate(counts):
      longer[i + rank] += ways
    counts = longer
  positive = sum(r for r, v in zip(doubled, values, strict=True) if v > 0)
  least = min(positive, sum(doubled) - positive)
  return min(1.0, 2 * sum(counts[: least + 1]) / 2 ** len(values))


def _doubled_ranks(sizes):
  """Twice the mean ranks, which are whole; sizes equal up to rounding are equal."""
  sizes = [float(f"{s:.9g}") for s in sizes]
  below = [sum(other < s for other in sizes) for s in sizes]
  return [2 * b + sizes.count(s) + 1 for b, s in zip(below, sizes, strict=True)]


def _t_test(mean, std, n):
  """Two-sided p-value of the paired t-test with n - 1 degrees of freedom."""
  if std == 0:
    return 1.0 if mean == 0 else math.nan
  from scipy import special  # here: half a second that most reports do not need

  return float(2 * special.stdtr(n - 1, -abs(mean) / (std / math.sqrt(n))))
