"""HDBSCAN against numbers by hand and scikit-learn's."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from scipy.cluster import hierarchy
from scipy.spatial import distance
from sklearn import cluster
from sklearn.metrics import pairwise

from tff_defenses.aggregators import hdbscan


def partition(labels):
  """Which points share a label, and which are noise; free of the labels' names."""
  same = np.equal.outer(labels, labels)
  return np.where(np.asarray(labels) == -1, -1, 0), same


def by_sklearn(distances, min_samples):
  model = cluster.HDBSCAN(2, min_samples=min_samples, metric="precomputed")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return model.fit(distances.copy()).labels_


@tf.function(
  input_signature=[tf.TensorSpec([None, None], tf.float64), tf.TensorSpec([], tf.int32)]
)
def graph(distances, min_samples):
  return hdbscan.cluster_labels(distances, min_samples=min_samples)


def found_labels(distances, min_samples):
  return graph(distances, min_samples).numpy()


def cosine_row_distances(rng, n):
  """Distances between rows of cosine similarities of updates in some groups."""
  centres = rng.normal(size=(int(rng.integers(1, 4)), 30))
  spread = 10 ** rng.uniform(-2, 0.5)
  updates = centres[rng.integers(0, len(centres), n)]
  updates = updates + spread * rng.normal(size=(n, 30))
  return distance.squareform(distance.pdist(pairwise.cosine_similarity(updates)))


def test_bottlenecks_are_the_longest_steps_of_the_spanning_tree(rng):
  """Independent: SciPy's single linkage joins two rows at that distance."""
  points = rng.normal(size=(15, 3))
  condensed = distance.pdist(points)
  expected = hierarchy.cophenet(hierarchy.linkage(condensed, "single"))
  found = hdbscan.bottlenecks(tf.constant(distance.squareform(condensed)))
  np.testing.assert_allclose(distance.squareform(found.numpy()), expected)


def test_mutual_reachability_by_hand():
  """Points 0, 1, 5: with 3 samples the core distances are 5, 4, 5."""
  distances = np.abs(np.subtract.outer([0.0, 1, 5], [0.0, 1, 5]))
  found = hdbscan.mutual_reachability(tf.constant(distances), 3).numpy()
  np.testing.assert_array_equal(found, [[0, 5, 5], [5, 0, 5], [5, 5, 0]])


def test_two_pairs_by_hand():
  """0, 1 and 10, 11, and 40 alone: two clusters and noise."""
  points = np.array([0.0, 10, 1, 40, 11])
  found = found_labels(np.abs(np.subtract.outer(points, points)), 1)
  assert found[0] == found[2] != found[1] == found[4]
  assert min(found[:3]) >= 0 and found[3] == hdbscan.NOISE


def test_excess_of_mass_by_hand():
  """Pairs {0, 1} and {3, 4} join at 2, and {100, 101} far away, at 96.

  The four together: lambda 1/2 - 1/96 each, 4 * 0.4896 = 1.96; as two pairs:
  2 * 2 (1 - 1/2) = 2. The pairs are more stable. With {0, 1} and {2.8, 3.8} they join
  at 1.8: 4 (1/1.8 - 1/96.2) = 2.18 against 4 (1 - 1/1.8) = 1.78: the four are.
  """
  for second, is_one in ((3.0, False), (2.8, True)):
    points = np.array([0, 1, second, second + 1, 100, 101])
    found = found_labels(np.abs(np.subtract.outer(points, points)), 1)
    assert (found[0] == found[2]) == is_one
    assert found[0] == found[1] and found[2] == found[3] and found[4] == found[5]
    assert found.min() >= 0 and found[4] not in found[:4]


@pytest.mark.parametrize("min_samples", [1, 2])
def test_labels_are_scikit_learns(min_samples):
  for seed in range(60):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 40))
    distances = cosine_row_distances(rng, n)
    found = found_labels(distances, min_samples)
    expected = by_sklearn(distances, min_samples)
    for a, b in zip(partition(found), partition(expected), strict=True):
      np.testing.assert_array_equal(a, b, err_msg=f"seed {seed}")


@pytest.mark.parametrize("min_samples", [1, 2, 3, 5])
def test_permuting_points_permutes_labels(min_samples):
  """Also from 3 samples on, where equal distances abound."""
  for seed in range(30):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 30))
    distances = cosine_row_distances(rng, n)
    order = rng.permutation(n)
    found = found_labels(distances, min_samples)[order]
    moved = found_labels(distances[np.ix_(order, order)], min_samples)
    for a, b in zip(partition(found), partition(moved), strict=True):
      np.testing.assert_array_equal(a, b, err_msg=f"seed {seed}")


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_equal_points_are_no_cluster(n):
  """All points are no cluster, and nothing splits off."""
  assert (found_labels(np.zeros([n, n]), 3) == hdbscan.NOISE).all()


def test_duplicates_are_clusters():
  """0 thrice and 5 twice; 9 joins the fives, at 4, before the two meet, at 5."""
  points = np.array([0.0, 0, 0, 5, 5, 9])
  found = found_labels(np.abs(np.subtract.outer(points, points)), 1)
  assert found[0] == found[1] == found[2] and found[3] == found[4] != found[0]
  assert found[5] == found[3] and found.min() >= 0
