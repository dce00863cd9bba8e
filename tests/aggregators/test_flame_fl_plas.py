"""FLAME as FL-PLAS's code has it: which cluster is kept, and its squared noise."""

import warnings

import numpy as np
import pytest
from sklearn import cluster

from tests import doubles
from tests.aggregators.test_flame import ORIGIN, distances_by_numpy, run_rounds
from tff_defenses.aggregators import flame


def labels_of_fl_plas(updates):
  similarity = 1 - distances_by_numpy(updates)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return cluster.HDBSCAN(2, min_samples=3, algorithm="brute").fit(similarity).labels_


@pytest.mark.parametrize("seed", range(6))
def test_fl_plas_keeps_the_commonest_label(seed):
  """Two tight groups of updates, 5 and 3 of 8: the larger one has the label."""
  rng = np.random.default_rng(seed)
  centres = np.repeat(np.eye(2), [5, 3], axis=0) @ rng.normal(size=(2, 50))
  updates = (centres + 0.05 * rng.normal(size=centres.shape)).astype(np.float32)
  order = rng.permutation(8)
  labels = labels_of_fl_plas(updates[order].astype(float))
  expected = labels == np.bincount(labels[labels >= 0]).argmax()
  distances = flame.cosine_distances(updates[order], np.zeros(50), features="updates")
  found = flame.commonest_cluster(distances).numpy()
  np.testing.assert_array_equal(found, expected)
  assert found.sum() == 5


def test_fl_plas_keeps_noise_if_that_is_commonest():
  """Six rows in line with nothing: every label is noise, all are kept."""
  updates = np.eye(6, dtype=np.float32)
  distances = flame.cosine_distances(updates, np.zeros(6), features="updates")
  assert (labels_of_fl_plas(updates) == -1).all()
  assert flame.commonest_cluster(distances).numpy().all()


@pytest.mark.parametrize("n", [1, 2])
def test_fl_plas_keeps_one_and_two_clients(n):
  updates = np.float32([[1, 0], [0, 1]])[:n]
  found = flame.aggregate(
    updates, weights=ORIGIN, noise_multiplier=0, variant="fl_plas"
  )
  np.testing.assert_allclose(found, updates.mean(axis=0))


@pytest.mark.usefixtures("runtime")
def test_fl_plas_in_tff_has_the_squared_noise(rng):
  updates = [doubles.update(*rng.normal(size=7)) for _ in range(5)]
  output = run_rounds(flame.FlameFactory(0.1, variant="fl_plas"), updates, 1)[0]
  matrix = np.stack([doubles.flat(u) for u in updates])
  bound = np.median(np.linalg.norm(matrix, axis=1))
  assert output.measurements["noise_std"] == pytest.approx((0.1 * bound) ** 2, rel=1e-4)
  expected = flame.aggregate(
    matrix, weights=np.zeros(7, "f"), noise_multiplier=0.1, variant="fl_plas"
  )
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["variant", "features"])
def test_a_misspelled_option_of_the_pure_rule_raises(name):
  rows = np.eye(6, dtype=np.float32)
  with pytest.raises(ValueError, match=f"`{name}` must be one of"):
    flame.aggregate(rows, weights=np.zeros(6, np.float32), **{name: "fl-plas"})
