"""LFighter against numbers by hand, NumPy, and scikit-learn's KMeans."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from sklearn import cluster
from sklearn.metrics import pairwise

from tests import doubles
from tff_defenses.aggregators import lfighter

# d = 11: two numbers of another layer, a kernel of three classes, its bias.
INPUTS, CLASSES = 2, 3
FIRST = 2
LAYER = (FIRST, [INPUTS, CLASSES], True)
SIZE = FIRST + INPUTS * CLASSES + CLASSES
VALUE_TYPE = tff.to_type(
  [(np.float32, [2]), (np.float32, [INPUTS, CLASSES]), (np.float32, [CLASSES])]
)


def rows(kernels, biases=0.0, conv=None):
  """[n, SIZE] from kernels [n, 2, 3]."""
  n = len(kernels)
  conv = np.arange(2 * n).reshape(n, 2) if conv is None else conv
  biases = np.broadcast_to(np.float32(biases), [n, CLASSES])
  return np.concatenate([conv, np.reshape(kernels, [n, -1]), biases], axis=1).astype(
    np.float32
  )


def aggregate(updates):
  first, shape, has_bias = LAYER
  return lfighter.aggregate(
    updates, first_column=first, shape=shape, has_bias=has_bias
  ).numpy()


def by_numpy(updates):
  """Independent version: loops, scikit-learn's KMeans and cosines."""
  kernels = updates[:, FIRST : FIRST + 6].reshape(-1, INPUTS, CLASSES).astype(float)
  biases = updates[:, FIRST + 6 :].astype(float)
  magnitudes = [
    sum(
      np.linalg.norm(k[:, c]) + abs(b[c]) for k, b in zip(kernels, biases, strict=True)
    )
    for c in range(CLASSES)
  ]
  two = sorted(range(CLASSES), key=lambda c: -magnitudes[c])[:2]
  points = np.concatenate([kernels[:, :, c] for c in two], axis=1)
  labels = cluster.KMeans(2, n_init=10, random_state=0).fit(points).labels_
  densities = []
  for label in (labels[0], 1 - labels[0]):
    cosines = pairwise.cosine_similarity(points[labels == label])
    np.fill_diagonal(cosines, 0)
    share = np.mean(labels == label)
    densities.append(share * (1 - cosines.min(axis=1).mean()))
  kept = labels == (labels[0] if densities[0] >= densities[1] else 1 - labels[0])
  return updates[kept].mean(axis=0), kept


def attacked(rng, honest=6, malicious=3, spread=0.1):
  """Honest kernels around one matrix; attackers swap the columns of two classes."""
  centre = rng.normal(size=(INPUTS, CLASSES))
  kernels = np.repeat(centre[None], honest + malicious, axis=0)
  kernels[honest:] = 2 * centre[:, [1, 0, 2]] - 1
  return rows(kernels + spread * rng.normal(size=kernels.shape))


def test_class_magnitudes_by_hand():
  # Client 1: |(3, 4)| = 5 and |(1, 0)| = 1; client 2: 1 and 0; biases |-2| for class 1.
  kernels = tf.constant([[[3.0, 1.0], [4.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
  biases = tf.constant([[0.0, -2.0], [0.0, 0.0]])
  assert lfighter.class_magnitudes(kernels, biases).numpy().tolist() == [6, 3]
  assert lfighter.class_magnitudes(kernels, None).numpy().tolist() == [6, 1]


def test_relevant_columns_are_those_of_the_two_largest_classes():
  kernel = np.float32([[[1, 50, 3], [4, 60, 6]]])  # norms 4.1, 78, 6.7
  found = lfighter.relevant_columns(tf.constant(rows(kernel)), LAYER).numpy()
  assert sorted(found[0].tolist()) == [3, 6, 50, 60]


def test_the_bias_counts_for_the_classes():
  kernel = np.float32([[[1, 50, 3], [4, 60, 6]]])
  found = lfighter.relevant_columns(tf.constant(rows(kernel, [9, 0, 0])), LAYER)
  assert sorted(found.numpy()[0].tolist()) == [1, 4, 50, 60]


def test_two_classes_at_most_are_all_relevant():
  updates = tf.constant(np.arange(6, dtype=np.float32).reshape(1, 6))
  found = lfighter.relevant_columns(updates, (0, [2, 2], True)).numpy()
  assert sorted(found[0].tolist()) == [0, 1, 2, 3]
  found = lfighter.relevant_columns(updates, (0, [1, 6], False)).numpy()
  assert sorted(found[0].tolist()) == [4, 5]


def test_density_by_hand():
  """n = 4. Cluster {0, 1, 2}: smallest cosines, with 0 on the diagonal: 0, -0.5, -0.5.

  ds = 3/4 (1 + 1/3) = 1. One row alone: 1/4.
  """
  cosines = np.eye(4)
  cosines[0, 1] = cosines[1, 0] = 0.9
  cosines[1, 2] = cosines[2, 1] = -0.5
  cosines = tf.constant(cosines)
  three = lfighter.density(cosines, tf.constant([True, True, True, False]))
  alone = lfighter.density(cosines, tf.constant([False, False, False, True]))
  nobody = lfighter.density(cosines, tf.constant([False] * 4))
  assert [float(three), float(alone), float(nobody)] == pytest.approx([1, 0.25, 0])


def test_two_means_by_hand():
  points = tf.constant([[0.0], [1.0], [10.0], [0.5], [11.0]])
  found = lfighter.two_means(points).numpy().tolist()
  assert found == [False, False, True, False, True]


@pytest.mark.parametrize("seed", range(40))
def test_two_means_is_scikit_learns_on_separable_points(seed):
  rng = np.random.default_rng(seed)
  n = int(rng.integers(3, 40))
  group = rng.random(n) < 0.4
  points = rng.normal(size=(n, 6)) + 12 * group[:, None] * np.eye(6)[0]
  labels = cluster.KMeans(2, n_init=10, random_state=0).fit(points).labels_
  found = lfighter.two_means(tf.constant(points)).numpy()
  np.testing.assert_array_equal(found, labels != labels[0])


def test_two_means_finds_no_worse_a_partition_than_scikit_learn(rng):
  """On points without clusters: compare the inertia, as optima may be many."""
  for _ in range(20):
    points = rng.normal(size=(20, 3))
    found = lfighter.two_means(tf.constant(points)).numpy()
    inertia = sum(
      ((points[found == s] - points[found == s].mean(axis=0)) ** 2).sum()
      for s in (False, True)
    )
    model = cluster.KMeans(2, n_init=10, random_state=0).fit(points)
    assert inertia <= model.inertia_ * (1 + 1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 33])
def test_equal_points_are_one_cluster(n, rng):
  points = np.repeat(rng.normal(size=(1, 101)), n, axis=0)
  assert not lfighter.two_means(tf.constant(points)).numpy().any()


@pytest.mark.parametrize("seed", range(20))
def test_equals_numpy(seed):
  updates = attacked(np.random.default_rng(seed))
  expected, _ = by_numpy(updates)
  np.testing.assert_allclose(aggregate(updates), expected, rtol=1e-5, atol=1e-6)


def test_label_flippers_are_dropped(rng):
  updates = attacked(rng)
  np.testing.assert_allclose(aggregate(updates), updates[:6].mean(axis=0), rtol=1e-5)


def test_equal_densities_keep_the_cluster_of_the_first_client():
  """Two pairs in opposite directions, mirror images: ds = 1/2 each."""
  kernels = np.float32([1, -1, 1, -1])[:, None, None] * np.ones([1, 2, 3], np.float32)
  updates = rows(kernels)
  np.testing.assert_allclose(aggregate(updates), updates[[0, 2]].mean(axis=0))


@pytest.mark.parametrize("n", [1, 2])
def test_below_three_clients_all_are_kept(n, rng):
  updates = attacked(rng, honest=1, malicious=1)[:n]
  np.testing.assert_allclose(aggregate(updates), updates.mean(axis=0), rtol=1e-6)


def test_clients_that_differ_elsewhere_only_are_all_kept(rng):
  updates = rows(np.ones([5, 2, 3]), conv=rng.normal(size=(5, 2)))
  np.testing.assert_allclose(aggregate(updates), updates.mean(axis=0), rtol=1e-6)


def test_permuting_clients_changes_nothing(rng):
  updates = attacked(rng, spread=0.5)
  order = rng.permutation(len(updates))
  np.testing.assert_allclose(
    aggregate(updates[order]), aggregate(updates), rtol=1e-5, atol=1e-6
  )


def test_is_odd(rng):
  updates = attacked(rng)
  np.testing.assert_array_equal(aggregate(-updates), -aggregate(updates))


@pytest.mark.parametrize("huge", [1e30, -1e30, 3e38])
@pytest.mark.parametrize("whole", [True, False])
def test_a_huge_update_is_dropped(huge, whole, rng):
  updates = attacked(rng, honest=7, malicious=0)
  honest = np.delete(updates, 4, axis=0)
  updates[4, slice(None) if whole else FIRST] = huge
  np.testing.assert_allclose(aggregate(updates), honest.mean(axis=0), rtol=1e-5)


def test_a_huge_number_outside_the_classifier_passes_but_stays_finite(rng):
  """The rule looks at nothing else; see Deviations."""
  updates = rows(np.ones([4, 2, 3]), conv=rng.normal(size=(4, 2)))
  updates[0, 0] = 1e30
  assert np.isfinite(aggregate(updates)).all()


@pytest.mark.usefixtures("runtime")
def test_in_tff_equals_numpy(rng):
  updates = attacked(rng)
  values = [[u[:2], u[2:8].reshape(2, 3), u[8:]] for u in updates]
  output = doubles.run_plain(lfighter.LFighterFactory(), values, VALUE_TYPE)
  expected, kept = by_numpy(updates)
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-5)
  measured = output.measurements
  np.testing.assert_array_equal(measured["selected"], kept)
  np.testing.assert_allclose(measured["weight"], kept / kept.sum(), rtol=1e-6)
  assert measured["density_kept"] > measured["density_dropped"] > 0


@pytest.mark.usefixtures("runtime")
def test_clients_that_are_not_finite_count_as_absent():
  updates = [doubles.update(np.inf), doubles.update(2.0), doubles.update(4.0)]
  output = doubles.run_plain(lfighter.LFighterFactory(), updates)
  assert doubles.flat(output.result).tolist() == [3] * 7
  assert output.measurements["num_rejected"] == 1


def test_updates_that_are_no_floats_raise():
  with pytest.raises(TypeError, match="LFighterFactory"):
    lfighter.LFighterFactory().create(tff.TensorType(np.int32, [2]))


def test_huge_finite_updates_that_are_kept_have_a_finite_mean():
  rows = np.float32([[3.4e38, 0, 1, 2, 3]] * 2)
  found = lfighter.aggregate(rows, first_column=1, shape=[2, 2], has_bias=False)
  np.testing.assert_allclose(found, rows[0], rtol=1e-6)


@pytest.mark.usefixtures("runtime")
def test_a_last_variable_without_numbers_is_passed_over():
  value_type = tff.to_type([(np.float32, [2, 2]), (np.float32, [3, 0])])
  empty = np.zeros([3, 0], np.float32)
  updates = [[np.full([2, 2], x, np.float32), empty] for x in (1, 2, 3)]
  output = doubles.run_plain(lfighter.LFighterFactory(), updates, value_type)
  assert np.isfinite(output.result[0]).all() and output.result[1].shape == (3, 0)
