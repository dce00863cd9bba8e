"""FLARE's votes, trust and sum against numbers worked out by hand; its settings."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tests import doubles
from tff_defenses.aggregators import flare, kernel_mmd, tracking


@pytest.mark.parametrize(("n", "k"), [(10, 5), (7, 4), (5, 2), (3, 2), (11, 6), (1, 0)])
def test_number_of_neighbours_rounds_half_to_even(n, k):
  assert int(flare.num_neighbours(n, 0.5)) == k


def test_votes_by_hand():
  # On a line at 0, 1, 3, 7 with k = 2: one other each: 0->1, 1->0, 2->1, 3->2.
  places = np.array([0.0, 1.0, 3.0, 7.0])
  votes = flare.neighbour_votes(np.abs(places[:, None] - places), 0.5)
  assert votes.numpy().tolist() == [1, 2, 1, 0]


def test_ties_go_to_the_lowest_index():
  votes = flare.neighbour_votes(np.zeros((4, 4)), 0.5)
  assert votes.numpy().tolist() == [3, 1, 0, 0]


def test_votes_do_not_look_at_the_diagonal():
  distances = np.array([[9.0, 1, 2], [1, 9, 3], [2, 3, 9]])
  assert flare.neighbour_votes(distances, 0.5).numpy().tolist() == [2, 1, 0]


@pytest.mark.parametrize("n", [2, 3, 7, 10, 11])
def test_votes_sum_to_n_times_k_minus_one(n, rng):
  distances = rng.random((n, n))
  votes = flare.neighbour_votes(distances + distances.T, 0.5)
  k = max(int(flare.num_neighbours(n, 0.5)), 1)
  assert int(tf.reduce_sum(votes)) == n * (k - 1)


FRACTIONS = st.floats(0.01, 1.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), FRACTIONS, st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_votes_are_bounded_and_sum_up_whatever_the_ties(n, fraction, levels, seed):
  """Few levels of distance: many exact ties."""
  distances = np.random.default_rng(seed).integers(0, levels + 1, (n, n)).astype(float)
  votes = flare.neighbour_votes(distances + distances.T, fraction).numpy()
  others = max(int(flare.num_neighbours(n, fraction)), 1) - 1
  assert votes.sum() == n * others
  assert votes.min() >= 0 and votes.max() <= n - 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), FRACTIONS, st.integers(0, 2**32 - 1))
def test_votes_follow_their_clients(n, fraction, seed):
  """Distinct distances: nothing hangs on the order of the clients."""
  rng = np.random.default_rng(seed)
  distances = np.triu(rng.permutation(n * n).reshape(n, n), 1).astype(float)
  distances, order = distances + distances.T, rng.permutation(n)
  votes = flare.neighbour_votes(distances, fraction).numpy()
  moved = flare.neighbour_votes(distances[np.ix_(order, order)], fraction).numpy()
  np.testing.assert_array_equal(moved, votes[order])


@settings(max_examples=50, deadline=None)
@given(st.data(), st.floats(0.25, 8), st.sampled_from(flare.TEMPERATURE_MODES))
def test_trust_is_a_share_and_follows_its_client(data, temperature, mode):
  n = data.draw(st.integers(1, 12))
  votes = data.draw(st_numpy.arrays(np.int32, n, elements=st.integers(0, n - 1)))
  order = data.draw(st.permutations(range(n)))
  trust = flare.trust_scores(votes, temperature, mode).numpy()
  assert trust.sum() == pytest.approx(1, abs=1e-5) and trust.min() >= 0
  moved = flare.trust_scores(votes[order], temperature, mode).numpy()
  np.testing.assert_allclose(moved, trust[order], rtol=1e-5)
  ranked = trust[np.argsort(votes, kind="stable")]
  # Equal votes may differ in the last bit: exp works on several numbers at once.
  assert (ranked[1:] >= ranked[:-1] * np.float32(1 - 1e-6)).all()


def test_two_clients_get_uniform_trust():
  trust = flare.trust_scores(flare.neighbour_votes(np.zeros((2, 2)), 0.5))
  assert trust.numpy().tolist() == [0.5, 0.5]


def test_eq5_by_hand():
  trust = flare.trust_scores([0, 1], 1.0).numpy()
  np.testing.assert_allclose(trust, [0.268941, 0.731059], atol=1e-6)


UNEVEN = [8, 7, 6, 5, 5, 4, 3, 1, 1, 0]


@pytest.mark.parametrize(
  ("votes", "mode", "last", "largest", "effective"),
  [
    ([40 / 9] * 9 + [0], "paper", 0.0013, 0.111, 9.0),
    ([40 / 9] * 9 + [0], "mean_votes", 0.0353, 0.107, 9.6),
    (UNEVEN, "paper", 0.0002, 0.6135, 2.3),
    (UNEVEN, "mean_votes", 0.0303, 0.2238, 7.35),
  ],
)
def test_eq5_on_forty_votes(votes, mode, last, largest, effective):
  trust = flare.trust_scores(votes, 1.0, mode).numpy()
  assert trust[-1] == pytest.approx(last, abs=6e-5)
  assert trust.max() == pytest.approx(largest, abs=6e-4)
  assert 1 / (trust**2).sum() == pytest.approx(effective, abs=0.05)


def test_one_more_vote_for_everybody_changes_nothing():
  one = flare.trust_scores(np.array(UNEVEN))
  more = flare.trust_scores(np.array(UNEVEN) + 1)
  np.testing.assert_allclose(one, more, rtol=1e-6)


def test_colluding_pair_weighs_less_than_any_honest_client(rng):
  # Honest models on the corners of a square: two votes each from their neighbours.
  shared = rng.normal(size=(10, 16))
  corners = np.zeros((4, 10, 16))
  corners[:, :, 0] = [[0], [0.5], [0.5], [0]]
  corners[:, :, 1] = [[0], [0], [0.51], [0.52]]
  twins = np.repeat(shared[None] + 4, 2, axis=0)
  plrs = np.concatenate([shared + corners, twins]).astype(np.float32)
  votes = flare.neighbour_votes(flare.pairwise_mmd(plrs), 0.5).numpy()
  trust = flare.trust_scores(votes).numpy()
  assert votes[4:].tolist() == [1, 1]
  assert trust[4:].max() < trust[:4].min()


def test_permuting_near_identical_models_permutes_the_trust(rng):
  base = rng.normal(size=(1, 10, 128))
  plrs = (base + 1e-3 * rng.normal(size=(8, 10, 128))).astype(np.float32)
  order = rng.permutation(8)
  for form in kernel_mmd.FORMS[::2]:  # "authors" ties at zero on purpose
    one = flare.trust_scores(flare.neighbour_votes(flare.pairwise_mmd(plrs, form=form)))
    distances = flare.pairwise_mmd(plrs[order], form=form)
    two = flare.trust_scores(flare.neighbour_votes(distances))
    np.testing.assert_allclose(one.numpy()[order], two, rtol=1e-6)


def test_eq6_is_the_trust_weighted_sum(rng):
  updates = rng.normal(size=(6, 4)).astype(np.float32)
  plrs = rng.normal(size=(6, 10, 3)).astype(np.float32)
  trust = flare.trust_scores(flare.neighbour_votes(flare.pairwise_mmd(plrs))).numpy()
  found = flare.aggregate(updates, plrs=plrs)
  np.testing.assert_allclose(found, trust @ updates, rtol=1e-5)


def test_ties_of_the_clipped_form_give_the_first_clients_the_votes(rng):
  """k = 3 of n = 6 near models, all at distance 0: votes 5, 5, 2, 0, 0, 0."""
  near = rng.normal(size=(1, 10, 3)) + 1e-3 * rng.normal(size=(6, 10, 3))
  trust = flare.aggregate(np.eye(6, dtype=np.float32), plrs=near, mmd="authors")
  expected = np.exp([5, 5, 2, 0, 0, 0])
  np.testing.assert_allclose(trust, expected / expected.sum(), rtol=1e-5)
  assert np.argmin(flare.aggregate(np.eye(6, dtype=np.float32), plrs=near)) != 5


def test_effective_clients_is_one_over_the_sum_of_squares():
  """Two near clients and a far one, k = 2: votes 2, 1, 0."""
  plrs = np.float32([[[0], [1]], [[0.5], [1.5]], [[9], [10]]])
  _, measured = flare._rule(tf.eye(3), plrs, 1.0, "paper", 0.5, "paper", None)
  trust = np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum()
  assert float(measured["effective_clients"]) == pytest.approx(1 / (trust**2).sum())


def test_clipped_fraction_counts_negative_pairs(rng):
  near = np.repeat(rng.normal(size=(1, 10, 3)), 3, axis=0)
  plrs = np.concatenate([near, near[:1] + 30]).astype(np.float32)
  _, measured = flare._rule(
    np.zeros((4, 2), np.float32), plrs, 1.0, "paper", 0.5, "authors", None
  )
  assert float(measured["clipped_fraction"]) == pytest.approx(0.5)


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"temperature": 0.0}, "temperature"),
    ({"temperature": -1.0}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature_mode": "mean"}, "temperature_mode"),
    ({"neighbour_fraction": 0.0}, "neighbour_fraction"),
    ({"neighbour_fraction": 1.5}, "neighbour_fraction"),
    ({"mmd": "biased"}, "mmd"),
    ({"bandwidth": -2.0}, "bandwidth"),
    ({"bandwidth": "mean"}, "bandwidth"),
    ({"temperature": 1e-46}, "temperature"),  # 0 in float32
    ({"bandwidth": 1e-170}, "bandwidth"),
  ],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"`{name}`"):
    flare.FlareFactory(lambda w: w, **settings)


def test_plr_fn_that_cannot_be_called_raises():
  with pytest.raises(TypeError, match="`plr_fn`"):
    flare.FlareFactory(np.zeros(3))


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-46])
def test_trust_needs_a_temperature_above_zero(temperature):
  with pytest.raises(ValueError, match="trust_scores: `temperature`"):
    flare.trust_scores([0, 1], temperature)


def test_the_smallest_temperature_leaves_those_with_the_most_votes():
  for mode in flare.TEMPERATURE_MODES:
    trust = flare.trust_scores([0, 40, 3, 40], 1.2e-38, mode).numpy()
    assert trust.tolist() == [0.0, 0.5, 0.0, 0.5]


def test_a_bandwidth_whose_square_is_zero_raises_in_the_pure_rule():
  plrs = np.random.default_rng(0).normal(size=(3, 2, 2))
  with pytest.raises(ValueError, match="`bandwidth`"):
    flare.aggregate(np.eye(3, dtype=np.float32), plrs=plrs, bandwidth=1e-170)


@pytest.mark.usefixtures("runtime")
def test_without_a_finite_client_none_is_effective():
  factory = tracking.track_global_weights(
    flare.FlareFactory(doubles.plr_fn), doubles.update(1)
  )
  output = doubles.run_plain(factory, [doubles.update(np.nan)] * 3)
  assert output.measurements["effective_clients"] == 0.0
  assert output.measurements["num_rejected"] == 3


def test_repr_shows_every_setting():
  text = repr(flare.FlareFactory(len, temperature=2.0, mmd="gretton"))
  for part in (
    "temperature=2.0",
    "temperature_mode='paper'",
    "neighbour_fraction=0.5",
    "mmd='gretton'",
    "bandwidth=None",
  ):
    assert part in text
