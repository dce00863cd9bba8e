"""Nearest-neighbour mixing by hand, against plain NumPy, and inside TFF."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import doubles
from tests.doubles import plr_fn
from tff_defenses.aggregators import (
  base,
  flare,
  foolsgold,
  krum,
  mean,
  norm_clipping,
)
from tff_defenses.aggregators import nearest_neighbour_mixing as nnm


def mix_by_numpy(rows, f):
  rows = rows.astype(float)
  mixed = []
  for row in rows:
    order = sorted(range(len(rows)), key=lambda j: (((rows[j] - row) ** 2).sum(), j))
    mixed.append(rows[order[: max(len(rows) - f, 1)]].mean(axis=0))
  return np.array(mixed)


@functools.cache
def unified(factory):
  return base.unify(factory, doubles.UPDATE_TYPE)


def run(factory, rows, indices=None, rounds=1):
  """The last output of equal rounds with client indices."""
  process = unified(factory)
  state = process.initialize()
  indices = range(len(rows)) if indices is None else indices
  info = [
    collections.OrderedDict(client_index=int(i), num_examples=1.0) for i in indices
  ]
  updates = [doubles.update(*np.atleast_1d(row)) for row in rows]
  for _ in range(rounds):
    output = process.next(state, doubles.update(1), updates, info)
    state = output.state
  return output


def test_means_of_the_nearest_by_hand():
  # n - f = 3; 0: 0, 1, 2; 1: the same; 2: 1, 2 and 0 (as far as 4, lower index);
  # 4: 4, 2, 1; 100: 100, 4, 2.
  rows = tf.constant([[0.0], [1.0], [2.0], [4.0], [100.0]])
  expected = [[1], [1], [1], [7 / 3], [106 / 3]]
  np.testing.assert_allclose(nnm.mix(rows, 2), expected, rtol=1e-6)


def test_a_rule_on_the_mixed_rows():
  rows = tf.constant([[0.0], [1.0], [2.0], [4.0], [100.0]])
  found = nnm.aggregate(rows, 2, inner=lambda mixed: tf.reduce_max(mixed, axis=0))
  np.testing.assert_allclose(found, [106 / 3], rtol=1e-6)


@pytest.mark.parametrize(("n", "f"), [(1, 0), (2, 1), (7, 2), (12, 5), (4, 9)])
def test_mixing_equals_numpy(n, f, rng):
  rows = rng.normal(size=(n, 30)).astype(np.float32)
  np.testing.assert_allclose(
    nnm.mix(tf.constant(rows), f), mix_by_numpy(rows, f), rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize("huge", [1e30, -3.4e38])
def test_huge_rows_stay_out_of_the_others_means(huge, rng):
  rows = rng.normal(size=(7, 5)).astype(np.float32)
  rows[[1, 4]] = huge
  mixed = nnm.mix(tf.constant(rows), 2).numpy()
  assert np.isfinite(mixed).all()
  assert np.abs(np.delete(mixed, [1, 4], axis=0)).max() < 10


def test_rows_of_the_largest_number_mix_to_a_finite_row():
  rows = tf.fill([5, 3], tf.float32.max)
  assert np.isfinite(nnm.mix(rows, 1)).all()


def test_permuting_rows_permutes_the_mixed_rows(rng):
  rows = rng.normal(size=(8, 6)).astype(np.float32)
  order = rng.permutation(8)
  np.testing.assert_allclose(
    nnm.mix(rows[order], 3), nnm.mix(rows, 3).numpy()[order], rtol=1e-5, atol=1e-6
  )


@pytest.mark.usefixtures("runtime")
def test_krum_sees_the_mixed_rows_of_the_finite_clients(rng):
  rows = rng.normal(size=(7, 7)).astype(np.float32)
  rows[2, 3] = np.nan
  finite = np.delete(rows, 2, axis=0)
  output = run(nnm.NearestNeighbourMixingFactory(krum.KrumFactory(1), 1), rows)
  mixed = tf.constant(mix_by_numpy(finite, 1).astype(np.float32))
  np.testing.assert_allclose(
    doubles.flat(output.result), krum.aggregate(mixed, 1), rtol=1e-4
  )
  measured = output.measurements
  scores = krum.krum_scores(mixed, 1)
  np.testing.assert_allclose(np.delete(measured["score"], 2), scores, rtol=1e-3)
  assert measured["num_rejected"] == 1 and measured["weight"].sum() == 1
  assert not measured["selected"][2] and measured["guarantee_holds"]
  order = rng.permutation(7)
  again = run(
    nnm.NearestNeighbourMixingFactory(krum.KrumFactory(1), 1), rows[order], order
  )
  np.testing.assert_array_equal(doubles.flat(again.result), doubles.flat(output.result))


@pytest.mark.usefixtures("runtime")
def test_a_guarantee_holds_if_both_do():
  for inner, f, rows, expected in (
    (krum.KrumFactory(1), 1, np.arange(5.0), True),
    (krum.KrumFactory(2), 1, np.arange(5.0), False),  # Krum asks for 7
    (mean.FiniteMeanFactory(), 1, np.arange(3.0), True),
    (mean.FiniteMeanFactory(), 2, np.arange(4.0), False),  # the mixing for 5
  ):
    output = run(nnm.NearestNeighbourMixingFactory(inner, f), rows)
    assert output.measurements["guarantee_holds"] == expected


@pytest.mark.usefixtures("runtime")
def test_the_mean_of_mixed_rows_by_hand():
  # n - f = 2: (0, 1), (1, 0), (4, 1): means .5, .5, 2.5.
  factory = nnm.NearestNeighbourMixingFactory(mean.FiniteMeanFactory(), 1)
  output = run(factory, [0.0, 1.0, 4.0])
  np.testing.assert_allclose(doubles.flat(output.result), 3.5 / 3, rtol=1e-6)
  assert set(output.measurements) == {"weight", "guarantee_holds", "num_rejected"}


@pytest.mark.usefixtures("runtime")
def test_an_inner_rule_keeps_its_memory_by_client():
  factory = nnm.NearestNeighbourMixingFactory(foolsgold.FoolsGoldFactory(), 0)
  output = run(factory, [1.0, 2.0], indices=[3, 0], rounds=2)
  # f = 0: both rows are 1.5; H of clients 0 and 3 is twice that.
  state = output.state
  assert state["round"] == 2
  np.testing.assert_allclose(state["inner"][:, 0], [3, 0, 0, 3])


@pytest.mark.usefixtures("runtime")
def test_if_no_client_is_finite_the_weights_stay():
  for inner in (krum.KrumFactory(1), flare.FlareFactory(plr_fn)):
    factory = nnm.NearestNeighbourMixingFactory(inner, 1)
    output = run(factory, [np.nan, np.inf])
    assert doubles.flat(output.result).tolist() == [0.0] * 7
    assert output.measurements["num_rejected"] == 2


@pytest.mark.usefixtures("runtime")
def test_around_a_model_aware_rule_it_is_model_aware(rng):
  rows = rng.normal(size=(6, 7)).astype(np.float32)
  factory = nnm.NearestNeighbourMixingFactory(flare.FlareFactory(plr_fn), 2)
  assert isinstance(factory, base.ModelAwareFactory)
  output = run(factory, np.insert(rows, 3, np.nan, axis=0))
  mixed = mix_by_numpy(rows, 2).astype(np.float32)
  plrs = np.stack([plr_fn(doubles.update(*(1 - row))) for row in mixed])
  expected = flare.aggregate(mixed, plrs=plrs)
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-3)
  measured = output.measurements
  assert measured["num_rejected"] == 1 and measured["num_rejected_mixed"] == 0
  assert measured["trust"][3] == 0 and measured["trust"].sum() == pytest.approx(1)
  assert measured["mmd"].shape == (7, 7) and np.isnan(measured["mmd"][3]).all()


def test_repr_shows_both_rules():
  expected = "NearestNeighbourMixingFactory(inner={}, num_byzantine=2)"
  for inner in (norm_clipping.NormClippingFactory(), flare.FlareFactory(plr_fn)):
    factory = nnm.NearestNeighbourMixingFactory(inner=inner, num_byzantine=2)
    assert repr(factory) == expected.format(repr(inner))


@pytest.mark.parametrize("f", [-1, 0.5])
def test_bad_number_raises_with_its_name(f):
  for inner in (krum.KrumFactory(1), flare.FlareFactory(plr_fn)):
    with pytest.raises(ValueError, match="NearestNeighbourMixing.*`num_byzantine`"):
      nnm.NearestNeighbourMixingFactory(inner, f)
