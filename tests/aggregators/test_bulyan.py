"""Bulyan against numbers by hand and a plain Python version."""

import numpy as np
import pytest
import tensorflow as tf

from tests import doubles
from tff_defenses.aggregators import bulyan, krum

LINE = np.float32([[0], [1], [2.5], [3], [5], [8], [100]])


def by_definition(updates, f):
  """Both stages in float64, from the definition; -> (picks in order, [d])."""
  rows, left, picks = updates.astype(np.float64), list(range(len(updates))), []
  while len(picks) < max(1, len(rows) - 2 * f):
    count = max(1, len(left) - f - 2)
    scores = []
    for i in left:
      far = sorted(((rows[i] - rows[j]) ** 2).sum() for j in left if j != i)
      scores.append(sum(far[:count]))
    picks.append(left.pop(int(np.argmin(scores))))
  chosen = rows[sorted(picks)]
  beta, result = max(1, len(rows) - 4 * f), []
  for column in chosen.T:
    middle = np.median(column)
    near = sorted(column, key=lambda x, middle=middle: abs(x - middle))[:beta]
    result.append(np.mean(near))
  return picks, np.array(result)


def test_scalars_by_hand():
  # Picks 2.5, 3, 1, 5, 0; median 2.5; the three nearest are 2.5, 3, 1: 6.5 / 3.
  picked = bulyan.pick(krum.squared_distances(tf.constant(LINE)), 1).numpy()
  assert LINE[picked, 0].tolist() == [0, 1, 2.5, 3, 5]
  np.testing.assert_allclose(bulyan.aggregate(LINE, 1), [13 / 6], rtol=1e-6)


@pytest.mark.parametrize(
  ("n", "f"), [(1, 0), (5, 1), (7, 1), (10, 1), (15, 3), (23, 5)]
)
def test_equals_the_definition(n, f, rng):
  updates = rng.normal(size=(n, 40)).astype(np.float32)
  picks, expected = by_definition(updates, f)
  picked = bulyan.pick(krum.squared_distances(tf.constant(updates)), f)
  assert np.flatnonzero(picked).tolist() == sorted(picks)
  found = bulyan.aggregate(updates, f)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "f"), [(5, 1), (8, 2), (10, 3), (11, 2), (30, 9)])
def test_equal_clients_get_their_update_back(n, f):
  updates = np.tile(np.float32([1.0, -2.0, 0.5]), (n, 1))
  np.testing.assert_allclose(bulyan.aggregate(updates, f), updates[0], rtol=1e-6)


def rule(updates, f, sizes=None, **settings):
  updates = tf.constant(np.float32(updates))
  specs = [tf.TensorSpec([size]) for size in sizes or [updates.shape[1]]]
  return bulyan.BulyanFactory(f, **settings)._rule(updates, specs)


def test_ten_clients_and_one_malicious_pick_eight_and_average_six(rng):
  _, measured = rule(rng.normal(size=(10, 1)), 1)
  weight = measured["weight"].numpy()
  assert measured["selected"].numpy().sum() == 8
  np.testing.assert_allclose(np.sort(weight), [0] * 4 + [1 / 6] * 6, rtol=1e-5)
  assert measured["guarantee_holds"] and not rule(np.eye(6), 1)[1]["guarantee_holds"]


def test_the_authors_form_guarantees_nothing_against_several():
  for f, holds in ((1, True), (3, False)):
    measured = rule(np.eye(10), f, variant="authors")[1]
    assert bool(measured["guarantee_holds"]) == holds


def test_trim_drops_f_at_either_end_of_the_picks():
  # Picks 0, 1, 2.5, 3, 5: (1 + 2.5 + 3) / 3; with f = 1 of three clients: one pick.
  found = bulyan.aggregate(LINE, 1, stage2="trim")
  np.testing.assert_allclose(found, [6.5 / 3], rtol=1e-6)
  assert np.isfinite(bulyan.aggregate(LINE[:3], 1, stage2="trim")).all()


def test_weights_of_trim_are_shares_in_what_is_left():
  # Picks 0, 1, 2, 2.4, 2.5: without the smallest and the largest. Nearest to the median
  # would be 2, 2.4 and 2.5.
  line = np.float32([[0], [1], [2], [2.4], [2.5], [50], [100]])
  row, measured = rule(line, 1, stage2="trim")
  np.testing.assert_allclose(row, [5.4 / 3], rtol=1e-6)
  weight = [0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0]
  np.testing.assert_allclose(measured["weight"], weight, rtol=1e-6)


def test_authors_take_every_variable_by_itself(rng):
  updates = rng.normal(size=(9, 5)).astype(np.float32)
  settings = {"variant": "authors"}
  whole = bulyan.aggregate(updates, 3, sizes=(2, 3), **settings)
  parts = [
    bulyan.aggregate(part, 1, **settings) for part in (updates[:, :2], updates[:, 2:])
  ]
  np.testing.assert_array_equal(whole, np.concatenate(parts))
  row, measured = rule(updates, 3, (2, 3), **settings)
  np.testing.assert_array_equal(row, whole)
  assert measured["weight"].numpy().sum() == pytest.approx(1)


def test_authors_by_hand():
  # n_left - 2 plain distances. Of 0, 1, 3, 7, 15 the sums without self and the farthest
  # are 11, 9, 9, 17, 34: pick 1 (tie with 3, lower index). Of 0, 3, 7, 15 two others
  # count: 10, 7, 11, 20: pick 3. Of 0, 7, 15 one: 7, 7, 8: pick 0. Medoid of 0, 1, 3
  # is 1, one value is averaged.
  updates = np.float32([[0], [1], [3], [7], [15]])
  picked = bulyan.pick(
    krum.squared_distances(tf.constant(updates)), 1, variant="authors"
  )
  assert updates[picked.numpy(), 0].tolist() == [0, 1, 3]
  assert bulyan.aggregate(updates, 1, variant="authors").numpy().tolist() == [1]
  # A second variable, of three numbers, has the clients in opposite order, so that ties
  # fall the other way: picks 3, 1 and 7, medoid 3. Weights are shares of four numbers.
  opposite = np.float32([[15], [7], [3], [1], [0]])
  both = np.concatenate([updates, opposite, opposite, opposite], axis=1)
  row, measured = rule(both, 1, (1, 3), variant="authors")
  assert row.numpy().tolist() == [1, 3, 3, 3]
  assert measured["weight"].numpy().tolist() == [0, 0.25, 0.75, 0, 0]


def test_huge_updates_are_picked_last(rng):
  updates = rng.normal(size=(11, 6)).astype(np.float32)
  updates[[2, 5]] = [[1e30], [3e38]]
  picked = bulyan.pick(krum.squared_distances(tf.constant(updates)), 2).numpy()
  assert not picked[[2, 5]].any() and picked.sum() == 7
  assert np.isfinite(bulyan.aggregate(updates, 2)).all()


def test_more_huge_updates_than_declared_are_picked_once_each():
  updates = np.float32([[0], [1e30], [-1e30], [3e38], [-3e38]])
  picked = bulyan.pick(krum.squared_distances(tf.constant(updates)), 0).numpy()
  assert picked.all() and np.isfinite(bulyan.aggregate(updates, 0)).all()


def test_permuting_clients_changes_nothing(rng):
  updates = rng.normal(size=(11, 30)).astype(np.float32)
  order = rng.permutation(11)
  one, two = bulyan.aggregate(updates, 2), bulyan.aggregate(updates[order], 2)
  np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize(
  ("args", "settings", "name"),
  [
    ((-1,), {}, "num_byzantine"),
    ((1,), {"variant": "krum"}, "variant"),
    ((1,), {"stage2": "mean"}, "stage2"),
  ],
)
def test_bad_setting_raises_with_its_name(args, settings, name):
  with pytest.raises(ValueError, match=f"BulyanFactory: `{name}`"):
    bulyan.BulyanFactory(*args, **settings)


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("variant", bulyan.VARIANTS)
def test_in_tff(variant):
  updates = [doubles.update(float(x)) for x in LINE[:, 0]]
  output = doubles.run_plain(bulyan.BulyanFactory(1, variant=variant), updates)
  stacked = np.repeat(LINE, 7, axis=1)
  expected = bulyan.aggregate(stacked, 1, variant=variant, sizes=(4, 3))
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-6)
  assert output.measurements["guarantee_holds"]


@pytest.mark.parametrize("name", ["variant", "stage2"])
def test_a_misspelled_option_of_the_pure_rule_raises(name):
  with pytest.raises(ValueError, match=f"`{name}` must be one of"):
    bulyan.aggregate(np.eye(7, dtype=np.float32), 1, **{name: "trimm"})


def test_variables_without_numbers_change_no_weight(rng):
  rows = tf.constant(rng.normal(size=(7, 4)).astype(np.float32))
  found, expected = (
    bulyan._bulyan(rows, 1, "authors", "median", sizes) for sizes in ((3, 0, 1), (3, 1))
  )
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_array_equal(one, other)
  assert np.isfinite(found[1]).all()
