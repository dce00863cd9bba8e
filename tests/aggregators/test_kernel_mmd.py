"""FLARE's Eq. (4) against numbers worked out by hand and scikit-learn."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics.pairwise import rbf_kernel

from tests import doubles
from tff_defenses.aggregators import flare, kernel_mmd


def mmd_by_sklearn(a, b, form, gamma=None):
  """Independent Eq. (4), with scikit-learn's kernel (default gamma = 1 / o)."""
  m, a, b = len(a), a.astype(float), b.astype(float)  # it would compute in float32
  within = sum(rbf_kernel(x, gamma=gamma).sum() - m for x in (a, b))
  kernel = rbf_kernel(a, b, gamma=gamma)
  if form == "gretton":
    return (within - 2 * (kernel.sum() - np.trace(kernel))) / (m * (m - 1))
  if form == "authors":
    return within / (m * (m - 1)) - 2 * kernel.sum() / m**2
  return (within - 2 * kernel.sum()) / (m * (m - 1))


@pytest.mark.parametrize(
  ("form", "expected"), [("paper", -1.367879), ("authors", 0.0), ("gretton", 0.0)]
)
def test_eq4_by_hand(form, expected):
  # Kernel sums: A = 2 e^-1, C = 2 e^-4, X = 1 + e^-4 + e^-1 + e^-1.
  r_1, r_2 = np.float32([[0], [1]]), np.float32([[0], [2]])
  found = float(flare.mmd(r_1, r_2, form=form, gamma=1.0))
  assert found == pytest.approx(expected, abs=1e-6)


def test_eq4_authors_before_the_clip_by_hand():
  plrs = np.float32([[[0], [1]], [[0], [2]]])
  found = kernel_mmd.statistic(plrs, "authors", 1.0)[0, 1]
  assert float(found) == pytest.approx(-0.490842, abs=1e-6)


@pytest.mark.parametrize("form", ["paper", "gretton"])
def test_pairwise_mmd_equals_scikit_learn(form, rng):
  plrs = rng.normal(size=(5, 10, 7)).astype(np.float32)
  found = flare.pairwise_mmd(plrs, form=form).numpy()
  for i in range(5):
    for j in range(5):
      if i != j:
        expected = mmd_by_sklearn(plrs[i], plrs[j], form)
        assert found[i, j] == pytest.approx(expected, abs=1e-9)


def test_authors_form_is_clipped_at_zero(rng):
  plrs = rng.normal(size=(6, 10, 7)).astype(np.float32)
  plrs[3] += 5
  found = flare.pairwise_mmd(plrs, form="authors").numpy()
  expected = mmd_by_sklearn(plrs[0], plrs[3], "authors")
  assert found[0, 3] == pytest.approx(expected, abs=1e-9)
  assert found.min() == 0.0


@pytest.mark.parametrize(("form", "expected"), [("paper", -2 / 9), ("gretton", 0.0)])
def test_equal_models_have_the_known_mmd(form, expected, rng):
  r = rng.normal(size=(10, 128)).astype(np.float32)
  assert float(flare.mmd(r, r, form=form)) == pytest.approx(expected, abs=1e-9)


def test_equal_models_have_the_known_mmd_before_the_authors_clip(rng):
  """2 A / (m^2 (m - 1)) - 2 / m, A being the kernel's sum over distinct samples."""
  r, m = rng.normal(size=(10, 128)).astype(np.float32), 10
  within = rbf_kernel(r.astype(float)).sum() - m
  found = kernel_mmd.statistic(np.stack([r, r]), "authors", None)[0, 1]
  expected = 2 * within / (m**2 * (m - 1)) - 2 / m
  assert float(found) == pytest.approx(expected, abs=1e-9) and expected < 0


def test_pairwise_mmd_is_exactly_symmetric(rng):
  found = flare.pairwise_mmd(rng.normal(size=(9, 10, 128))).numpy()
  np.testing.assert_array_equal(found, found.T)


def test_median_gamma_by_hand():
  # Distances of 0, 1, 3: 1, 2, 3; median 2; gamma = 1 / 8. (m = 1 is fine here.)
  gamma = kernel_mmd.median_gamma(np.float32([[[0]], [[1]], [[3]]]))
  assert float(gamma) == pytest.approx(1 / 8)
  # An even number of them, of 0, 1, 3, 7: 1, 2, 3, 4, 6, 7; median 3.5.
  gamma = kernel_mmd.median_gamma(np.float32([[[0]], [[1]], [[3]], [[7]]]))
  assert float(gamma) == pytest.approx(1 / (2 * 3.5**2))


def test_median_gamma_of_equal_plrs_is_one_over_width():
  assert float(kernel_mmd.median_gamma(np.ones((3, 2, 4), np.float32))) == 0.25


def test_single_auxiliary_sample_raises():
  with pytest.raises(ValueError, match="m - 1"):
    flare.pairwise_mmd(np.zeros((3, 1, 4), np.float32))


@pytest.mark.parametrize("shape", [(4, 2), (4, 3, 2, 2)])
def test_representations_of_another_rank_raise(shape):
  plrs = np.zeros(shape, np.float32)
  with pytest.raises(ValueError, match=r"`plrs` .* must be \[n, m, o\], got shape"):
    flare.aggregate(np.eye(4, dtype=np.float32), plrs=plrs)
  factory = flare.FlareFactory(lambda weights: tf.zeros(shape[1:]))
  with pytest.raises(ValueError, match=r"FlareFactory: `plrs` .* \[m, o\] for one"):
    factory.create(doubles.UPDATE_TYPE)
