"""Krum and Multi-Krum against numbers by hand and a plain NumPy version."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import doubles
from tff_defenses.aggregators import krum

LINE = np.float32([[0], [1], [2], [4], [100]])


def scores_by_numpy(updates, f):
  """Independent Krum scores in float64, by the definition."""
  n = len(updates)
  scores = []
  for i in range(n):
    squares = [
      float(((updates[i].astype(float) - updates[j].astype(float)) ** 2).sum())
      for j in range(n)
      if j != i
    ]
    scores.append(sum(sorted(squares)[: max(1, n - f - 2)]))
  return np.array(scores)


def test_scores_by_hand():
  assert krum.krum_scores(LINE, 1).numpy().tolist() == [5, 2, 5, 13, 18820]
  assert krum.krum_scores([[3.0, 4.0]], 0).numpy().tolist() == [0]  # it is alone


def test_authors_scores_by_hand():
  found = krum.krum_scores(LINE, 1, variant="authors").numpy()
  np.testing.assert_allclose(found, [3, 2, 3, 5, 194], rtol=1e-6)


def test_krum_picks_the_smallest_score():
  assert krum.aggregate(LINE, 1).numpy().tolist() == [1.0]


def test_multi_krum_is_the_mean_of_the_smallest():
  # Scores 5, 2, 5, ...: rows 1 and 0; the tie of rows 0 and 2 goes to row 0.
  assert krum.aggregate(LINE, 1, num_selected=2).numpy().tolist() == [0.5]


@pytest.mark.parametrize(
  ("n", "f"), [(10, 1), (30, 9), (30, 27), (7, 2), (3, 1), (2, 0)]
)
def test_scores_equal_numpy(n, f, rng):
  updates = rng.normal(size=(n, 50)).astype(np.float32)
  found = krum.krum_scores(updates, f).numpy()
  np.testing.assert_allclose(found, scores_by_numpy(updates, f), rtol=1e-4)


def test_near_equal_updates_far_from_the_origin_keep_their_order(rng):
  updates = (1000 + 0.01 * rng.normal(size=(8, 400))).astype(np.float32)
  found = krum.krum_scores(updates, 1).numpy()
  np.testing.assert_allclose(found, scores_by_numpy(updates, 1), rtol=1e-3)


@pytest.mark.parametrize("length", [300, 1000, 10_000])
def test_a_long_near_parallel_majority_hides_no_difference_of_the_others(length, rng):
  """Seen from such a row, the others' differences would drown."""
  honest = rng.normal(size=(9, 400))
  long = length * rng.normal(size=400) + rng.normal(size=(21, 400))
  updates = np.concatenate([honest, long]).astype(np.float32)
  distances = krum.squared_distances(updates).numpy()
  rows = updates.astype(float)
  expected = ((rows[:, None] - rows) ** 2).sum(axis=-1)
  np.testing.assert_allclose(distances[:9, :9], expected[:9, :9], rtol=1e-4)
  np.testing.assert_allclose(distances[9:, 9:], expected[9:, 9:], rtol=1e-2)


def test_permuting_clients_permutes_the_pick(rng):
  updates = rng.normal(size=(9, 20)).astype(np.float32)
  order = rng.permutation(9)
  one, two = krum.aggregate(updates, 2), krum.aggregate(updates[order], 2)
  np.testing.assert_array_equal(one, two)


def test_a_huge_update_is_not_picked(rng):
  updates = rng.normal(size=(7, 5)).astype(np.float32)
  updates[3] = 1e30
  updates = tf.constant(updates)
  picked = krum.select(krum.krum_scores(updates, 1), 1).numpy()
  assert not picked[3] and np.isfinite(krum.aggregate(updates, 1)).all()


@pytest.mark.parametrize("huge", [1e25, 3e38])
def test_distances_beyond_float32_are_infinite(huge, rng):
  """Two equal huge updates: inf - inf must not become a distance of 0, or NaN."""
  updates = rng.normal(size=(5, 4)).astype(np.float32)
  updates[[1, 3]] = huge
  updates = tf.constant(updates)
  distances = krum.squared_distances(updates).numpy()
  assert np.isinf(distances[1, [0, 2, 3, 4]]).all()
  assert np.isfinite(distances[np.ix_([0, 2, 4], [0, 2, 4])]).all()
  picked = krum.select(krum.krum_scores(updates, 2), 1).numpy()
  assert not picked[[1, 3]].any()


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(("f", "holds"), [(1, True), (2, False)])
def test_the_authors_form_counts_one_malicious_client(f, holds):
  """Its n - 3 neighbours are those for f = 1, whatever it is told."""
  factory = krum.KrumFactory(f, variant="authors")
  output = doubles.run_plain(factory, [doubles.update(float(x)) for x in range(9)])
  assert output.measurements["guarantee_holds"] == holds


def test_one_client_is_returned():
  assert krum.aggregate(np.float32([[3, 4]]), 0).numpy().tolist() == [3, 4]


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
  ("args", "n", "holds"),
  [((1,), 5, True), ((1,), 4, False), ((1, 2), 5, True), ((1, 3), 5, False)],
)
def test_the_guarantee_counts_what_is_averaged(args, n, holds):
  values = [doubles.update(float(x)) for x in range(n)]
  output = doubles.run_plain(krum.KrumFactory(*args), values)
  assert output.measurements["guarantee_holds"] == holds


@pytest.mark.usefixtures("runtime")
def test_authors_variant_in_tff_compares_kernels_only(rng):
  rows = rng.normal(size=(6, 7)).astype(np.float32)
  rows[:, 4:] *= 100  # the bias
  factory = krum.KrumFactory(1, variant="authors")
  output = doubles.run_plain(factory, [doubles.update(*row) for row in rows])
  kernel = np.array([True] * 4 + [False] * 3)
  expected = krum.krum_scores(rows[:, kernel], 1, variant="authors")
  np.testing.assert_allclose(output.measurements["score"], expected, rtol=1e-5)
  picked = krum.aggregate(rows, 1, variant="authors", columns=kernel)
  np.testing.assert_allclose(doubles.flat(output.result), picked, rtol=1e-6)


def test_authors_variant_needs_a_kernel():
  factory = krum.KrumFactory(1, variant="authors")
  with pytest.raises(ValueError, match="kernel"):
    factory.create(tff.TensorType(np.float32, [5]))


def test_more_picks_than_updates_are_refused():
  with pytest.raises(ValueError, match=r"`num_selected` \(m\) must be at most n = 5"):
    krum.aggregate(LINE, 1, num_selected=6)


def test_a_misspelled_variant_raises():
  with pytest.raises(ValueError, match="`variant`.*Did you mean 'authors'"):
    krum.krum_scores(tf.eye(4), 1, variant="author")


def test_numpy_numbers_are_numbers():
  assert krum.KrumFactory(np.int64(2), np.int32(1)).num_byzantine == 2
  with pytest.raises(ValueError, match="`num_byzantine`"):
    krum.KrumFactory(np.float64(2))


def test_columns_limit_the_distances():
  updates = np.float32([[0, 9], [0.1, -9], [0.2, 50], [5, 0], [6, 0]])
  picked = krum.aggregate(updates, 1, columns=np.array([True, False]))
  np.testing.assert_allclose(picked, [0.1, -9])


@pytest.mark.parametrize(
  ("args", "settings", "name"),
  [
    ((-1,), {}, "num_byzantine"),
    ((1.5,), {}, "num_byzantine"),
    ((1, 0), {}, "num_selected"),
    ((1,), {"variant": "bulyan"}, "variant"),
  ],
)
def test_bad_setting_raises_with_its_name(args, settings, name):
  with pytest.raises(ValueError, match=f"`{name}`"):
    krum.KrumFactory(*args, **settings)


def test_huge_finite_picks_have_a_finite_mean():
  rows = np.float32([[3.4e38, 1], [3.4e38, 3]])
  found = krum.aggregate(rows, 0, num_selected=2).numpy()
  np.testing.assert_allclose(found, [3.4e38, 2.0], rtol=1e-6)


def test_no_pick_is_refused():
  with pytest.raises(ValueError, match=r"krum.aggregate: `num_selected` \(m\)"):
    krum.aggregate(tf.eye(4), 1, num_selected=0)
