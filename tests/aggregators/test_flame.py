"""FLAME against numbers by hand, NumPy, and scikit-learn's HDBSCAN."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from sklearn import cluster

from tests import doubles
from tff_defenses.aggregators import flame

ORIGIN = np.zeros(2, np.float32)


def distances_by_numpy(vectors):
  """1 - cosine of all pairs in float64, from the chords of the unit vectors."""
  units = vectors.astype(float)
  units /= np.linalg.norm(units, axis=1, keepdims=True)
  chords = units[:, None] - units[None]
  return (chords**2).sum(axis=2) / 2


def hdbscan_labels(distances):
  """scikit-learn's labels with FLAME's settings; -1 is noise."""
  n = len(distances)
  model = cluster.HDBSCAN(
    min_cluster_size=n // 2 + 1,
    min_samples=1,
    allow_single_cluster=True,
    metric="precomputed",
  )
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return model.fit(distances.copy()).labels_


def two_groups(rng, n):
  """Directions around two centres, the larger group tighter or not."""
  size = rng.integers(n // 2 + 1, n + 1)
  centres = rng.normal(size=(2, 12))
  spread = 10 ** rng.uniform(-4, 0, size=2)
  group = (np.arange(n) >= size).astype(int)
  return centres[group] + spread[group][:, None] * rng.normal(size=(n, 12))


def near_identical(rng, n):
  return 1 + 1e-5 * rng.normal(size=(n, 12))


def with_duplicates(rng, n):
  rows = rng.normal(size=(n, 12))
  return rows[rng.integers(0, max(2, n // 3), size=n)]


def unrelated(rng, n):
  return rng.normal(size=(n, 12))


KINDS = (two_groups, near_identical, with_duplicates, unrelated)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_majority_cluster_is_hdbscans(kind):
  for seed in range(60):
    rng = np.random.default_rng(seed)
    distances = distances_by_numpy(kind(rng, int(rng.integers(3, 31))))
    distances[distances < 1e-15] = 0  # duplicates
    found = flame.majority_cluster(tf.constant(distances)).numpy()
    labels = hdbscan_labels(distances)
    np.testing.assert_array_equal(found, labels == 0, err_msg=f"seed {seed}")


def test_majority_cluster_is_hdbscans_where_many_distances_tie():
  for seed in range(100):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 20))
    upper = np.triu(rng.integers(1, 5, size=(n, n)).astype(float), 1)
    distances = upper + upper.T
    found = flame.majority_cluster(tf.constant(distances)).numpy()
    np.testing.assert_array_equal(found, hdbscan_labels(distances) == 0)


def test_two_groups_by_hand():
  """Directions of 0, 1, 2 degrees and 90, 91: the three reach n // 2 + 1 = 3 first."""
  angles = np.deg2rad([0, 90, 1, 91, 2])
  weights = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
  distances = flame.cosine_distances(-weights, ORIGIN)
  np.testing.assert_allclose(distances[0, 2], 1 - np.cos(np.pi / 180), rtol=1e-4)
  found = flame.majority_cluster(distances).numpy()
  assert found.tolist() == [True, False, True, False, True]


def test_orthogonal_groups_of_six_and_four_keep_the_six(rng):
  weights = np.zeros((10, 8), np.float32)
  weights[:6, 0] = 1
  weights[6:, 1] = 1
  weights += 1e-3 * rng.normal(size=weights.shape).astype(np.float32)
  kept = flame.majority_cluster(flame.cosine_distances(-weights, np.zeros(8, "f")))
  assert kept.numpy().tolist() == [True] * 6 + [False] * 4


@pytest.mark.parametrize("n", [1, 2, 3, 10, 31, 100])
@pytest.mark.parametrize("features", flame.FEATURES)
def test_equal_clients_are_all_kept(n, features, rng):
  update = rng.normal(size=1001).astype(np.float32)
  weights = 10 * rng.normal(size=1001).astype(np.float32)
  updates = tf.constant(np.repeat(update[None], n, axis=0))
  distances = flame.cosine_distances(updates, weights, features=features)
  assert flame.majority_cluster(distances).numpy().all()


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_clients_are_all_kept(n):
  updates = np.float32([[1, 0], [-1, 0]])[:n]
  distances = flame.cosine_distances(updates, ORIGIN)
  assert flame.majority_cluster(distances).numpy().tolist() == [True] * n


@pytest.mark.parametrize("size", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("shared", [0.0, 1.0, 100.0])
def test_small_angles_between_long_weights_are_exact(size, shared, rng):
  """Weights of norm 30, updates that differ by `size`, with a part all share."""
  theta = rng.normal(size=5000)
  theta = np.float32(30 * theta / np.linalg.norm(theta))
  common = shared * rng.normal(size=5000)
  updates = np.float32(size * (rng.normal(size=(8, 5000)) + common) / np.sqrt(5000))
  updates[7] = updates[6] + np.float32(size * 1e-3) * updates[5]  # nearly a copy
  found = flame.cosine_distances(updates, theta).numpy()
  expected = distances_by_numpy(theta.astype(float) - updates.astype(float))
  scale = np.median(expected)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6 * scale + 1e-14)


def test_angles_between_updates(rng):
  updates = rng.normal(size=(6, 40)).astype(np.float32)
  found = flame.cosine_distances(updates, np.zeros(40), features="updates")
  np.testing.assert_allclose(found, distances_by_numpy(updates), atol=1e-5)


def test_clipping_by_hand():
  """Norms 1, 5, 2 (all kept); S = 2; (0, 5) becomes (0, 2): mean (1/3, 4/3)."""
  updates = np.float32([[1, 0], [0, 5], [0, 2]])
  weights = np.float32([1e6, 1e6])
  kept = flame.majority_cluster(flame.cosine_distances(updates, weights)).numpy()
  found = flame.aggregate(updates, weights=weights, noise_multiplier=0)
  assert kept.all()
  np.testing.assert_allclose(found, [1 / 3, 4 / 3], rtol=1e-6)


@pytest.mark.parametrize(
  ("norms", "bound"), [([3], 3), ([4, 1], 2.5), ([9, 1, 2], 2), ([1, 9, 2, 4], 3)]
)
def test_clip_bound_is_the_median(norms, bound):
  assert float(flame.clip_bound(tf.constant(norms, tf.float32))) == bound


def by_numpy(updates, theta):
  """The rule without noise, in float64, clusters by scikit-learn."""
  updates = updates.astype(float)
  kept = hdbscan_labels(distances_by_numpy(theta - updates)) == 0
  norms = np.linalg.norm(updates, axis=1)
  clipped = updates * np.minimum(1, np.median(norms) / norms)[:, None]
  return clipped[kept].mean(axis=0), kept


@pytest.mark.parametrize("n", [3, 6, 11, 30])
def test_equals_numpy(n, rng):
  theta = rng.normal(size=60).astype(np.float32)
  updates = rng.normal(size=(n, 60)) * rng.uniform(0.05, 0.3, size=(n, 1))
  updates = updates.astype(np.float32)
  expected, _ = by_numpy(updates, theta)
  found = flame.aggregate(updates, weights=theta, noise_multiplier=0)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_noise_has_the_stated_deviation_and_follows_seed_and_round(rng):
  updates = tf.ones([3, 40000])  # norm 200
  weights = tf.constant(rng.normal(size=40000), tf.float32)
  settings = {"weights": weights, "noise_multiplier": 0.01}

  def noise(**more):
    return flame.aggregate(updates, **settings, **more).numpy() - 1

  assert noise().std() == pytest.approx(2.0, rel=0.02)
  assert abs(noise().mean()) < 0.05
  np.testing.assert_array_equal(noise(), noise())
  for other in ({"seed": 1}, {"round_number": 2}):
    assert abs(np.corrcoef(noise(), noise(**other))[0, 1]) < 0.03


def test_permuting_clients_permutes_the_cluster(rng):
  updates = rng.normal(size=(9, 20)).astype(np.float32)
  theta = rng.normal(size=20).astype(np.float32)
  order = rng.permutation(9)

  def kept(rows):
    return flame.majority_cluster(flame.cosine_distances(rows, theta)).numpy()

  np.testing.assert_array_equal(kept(updates)[order], kept(updates[order]))


@pytest.mark.parametrize("features", flame.FEATURES)
@pytest.mark.parametrize("huge", [1e30, -1e30, 3e38])
@pytest.mark.parametrize("whole", [True, False])
def test_a_huge_update_is_left_out(huge, whole, features, rng):
  updates = (1 + 0.1 * rng.normal(size=(6, 20))).astype(np.float32)
  honest = np.delete(updates, 4, axis=0)
  updates[4, slice(None) if whole else 0] = huge
  if whole and huge > 0 and features == "updates":
    updates[4, ::2] *= -1  # else its direction is an honest one
  theta = rng.normal(size=20).astype(np.float32)
  settings = {"noise_multiplier": 0, "features": features}
  found = flame.aggregate(updates, weights=theta, **settings).numpy()
  assert np.isfinite(found).all()
  assert np.linalg.norm(found) <= np.linalg.norm(honest, axis=1).max() * 1.01
  assert found @ honest.mean(axis=0) > 0.9 * honest.mean(axis=0) @ honest.mean(axis=0)


def run_rounds(factory, updates, rounds, weights=None):
  process = factory.create(doubles.UPDATE_TYPE)
  state = process.initialize()
  outputs = []
  for _ in range(rounds):
    outputs.append(process.next(state, weights or doubles.update(5.0), updates))
    state = outputs[-1].state
  return outputs


@pytest.mark.usefixtures("runtime")
def test_in_tff_noise_changes_every_round(rng):
  updates = [doubles.update(*rng.normal(size=7)) for _ in range(5)]
  outputs = run_rounds(flame.FlameFactory(0.1, seed=3), updates, 2)
  matrix = np.stack([doubles.flat(u) for u in updates])
  for number, output in enumerate(outputs, start=1):
    expected = flame.aggregate(
      matrix,
      weights=np.full(7, 5, np.float32),
      noise_multiplier=0.1,
      seed=3,
      round_number=number,
    )
    np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-4)
    assert output.state == number
  found = outputs[0].measurements
  bound = np.median(np.linalg.norm(matrix, axis=1))
  assert found["clip_bound"] == pytest.approx(bound, rel=1e-5)
  assert found["noise_std"] == pytest.approx(0.1 * bound, rel=1e-5)
  assert found["weight"].sum() == pytest.approx(1)
  np.testing.assert_array_equal(found["selected"], found["weight"] > 0)


@pytest.mark.usefixtures("runtime")
def test_a_round_without_finite_clients_gives_zero_and_counts():
  output = run_rounds(flame.FlameFactory(), [doubles.update(np.nan)] * 2, 1)[0]
  assert (doubles.flat(output.result) == 0).all()
  assert output.measurements["num_rejected"] == 2 and output.state == 1


def test_result_type_is_weights_type():
  process = flame.FlameFactory().create(doubles.UPDATE_TYPE)
  result = process.next.type_signature.result.result
  assert result.member.is_identical_to(doubles.UPDATE_TYPE)


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"noise_multiplier": -0.1}, "noise_multiplier"),
    ({"noise_multiplier": np.nan}, "noise_multiplier"),
    ({"seed": -1}, "seed"),
    ({"features": "plrs"}, "features"),
    ({"variant": "authors"}, "variant"),
  ],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"`{name}`"):
    flame.FlameFactory(**settings)


def test_updates_that_are_no_floats_raise():
  with pytest.raises(TypeError, match="FlameFactory"):
    flame.FlameFactory().create(tff.TensorType(np.int32, [2]))
