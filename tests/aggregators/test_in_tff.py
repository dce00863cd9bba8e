"""The factories run through TFF: order, types, non-finite updates, composition."""

import collections

import numpy as np
import pytest
import tensorflow_federated as tff

from tests import doubles
from tests.doubles import plr_fn
from tff_defenses.aggregators import base, flare, krum, mean, partial, tracking

NAN, INF = float("nan"), float("inf")
pytestmark = pytest.mark.usefixtures("runtime")


def run_informed(factory, updates, indices):
  """One round with client indices, as the learning processes call a factory."""
  process = base.unify(factory, doubles.UPDATE_TYPE)
  info = [collections.OrderedDict(client_index=i, num_examples=1.0) for i in indices]
  return process.next(process.initialize(), doubles.update(0), updates, info)


def run_flare(updates, **settings):
  process = flare.FlareFactory(plr_fn, **settings).create(doubles.UPDATE_TYPE)
  return process.next(process.initialize(), doubles.update(1), updates)


def test_result_type_is_input_type():
  for factory in (krum.KrumFactory(1), mean.FiniteMeanFactory()):
    process = factory.create(doubles.UPDATE_TYPE)
    result_type = process.next.type_signature.result.result.member
    assert result_type.is_identical_to(doubles.UPDATE_TYPE)


def test_krum_through_tff_equals_the_pure_rule(rng):
  rows = rng.normal(size=(6, 7)).astype(np.float32)
  output = doubles.run_plain(krum.KrumFactory(1, 2), [doubles.update(*r) for r in rows])
  expected = krum.aggregate(rows, 1, num_selected=2)
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-6)
  assert output.measurements["selected"].sum() == 2
  assert output.measurements["guarantee_holds"]


def test_krum_on_equal_updates_returns_that_update():
  output = doubles.run_plain(krum.KrumFactory(1), [doubles.update(2.5)] * 5)
  assert doubles.flat(output.result).tolist() == [2.5] * 7


def test_rows_are_sorted_by_client_index(rng):
  rows = rng.normal(size=(5, 7)).astype(np.float32)
  order = [3, 0, 4, 1, 2]
  updates = [doubles.update(*rows[i]) for i in order]
  output = run_informed(krum.KrumFactory(1), updates, order)
  expected = krum.krum_scores(rows, 1)
  np.testing.assert_allclose(output.measurements["score"], expected, rtol=1e-5)


def test_ties_go_to_the_lowest_client_index_whatever_the_arrival():
  # Two pairs of equal distance: all four scores tie, so client 0 wins.
  updates = [doubles.update(x) for x in (0, 1, 10, 11)]
  for order in ([0, 1, 2, 3], [2, 3, 1, 0]):
    output = run_informed(krum.KrumFactory(1), [updates[i] for i in order], order)
    assert doubles.flat(output.result)[0] == 0.0


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_non_finite_updates_are_left_out_and_counted(bad):
  updates = [doubles.update(x) for x in (1, 2, 3)]
  updates.insert(1, doubles.update(0, 0, 0, 0, 0, 0, bad))
  for factory in (krum.KrumFactory(0, 3), mean.FiniteMeanFactory()):
    output = doubles.run_plain(factory, updates)
    np.testing.assert_allclose(doubles.flat(output.result), [2.0] * 7, rtol=1e-6)
    assert output.measurements["num_rejected"] == 1
    expected = [1 / 3, 0, 1 / 3, 1 / 3]
    np.testing.assert_allclose(output.measurements["weight"], expected, rtol=1e-6)


def test_if_no_update_is_finite_the_aggregate_is_zero():
  updates = [doubles.update(NAN), doubles.update(INF)]
  for factory in (krum.KrumFactory(0), mean.FiniteMeanFactory()):
    output = doubles.run_plain(factory, updates)
    assert doubles.flat(output.result).tolist() == [0.0] * 7
    assert output.measurements["num_rejected"] == 2
    assert output.measurements["weight"].tolist() == [0, 0]


def test_flare_through_tff_equals_the_pure_rule(rng):
  rows = rng.normal(size=(6, 7)).astype(np.float32)
  output = run_flare([doubles.update(*r) for r in rows])
  plrs = np.stack([plr_fn(doubles.update(*(1 - r))) for r in rows])
  expected = flare.aggregate(rows, plrs=plrs)
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-4)
  measured = output.measurements
  assert measured["trust"].sum() == pytest.approx(1)
  assert measured["votes"].sum() == 6 * measured["num_expected_neighbours"]
  mmd = flare.pairwise_mmd(plrs)
  off_diagonal = ~np.eye(6, dtype=bool)
  np.testing.assert_allclose(
    measured["mmd"][off_diagonal], mmd.numpy()[off_diagonal], atol=1e-5
  )


def test_flare_takes_the_papers_sign():
  """PLRs must be those of theta - update: only the client at theta - 3 stands out."""
  updates = [doubles.update(x) for x in (-0.1, 0.0, 0.1, 0.05, 3.0)]
  output = run_flare(updates)
  assert output.measurements["trust"].argmin() == 4
  assert output.measurements["votes"][4] == 0


def test_flare_rejects_non_finite_updates():
  updates = [doubles.update(x) for x in (0.0, 0.1, 0.2, NAN)]
  output = run_flare(updates)
  assert np.isfinite(doubles.flat(output.result)).all()
  assert output.measurements["num_rejected"] == 1
  assert output.measurements["trust"][3] == 0
  assert np.isnan(output.measurements["mmd"][3]).all()
  only_bad = run_flare([doubles.update(NAN)] * 2)
  assert doubles.flat(only_bad.result).tolist() == [0.0] * 7


def test_flare_rejects_a_client_whose_representation_is_not_finite():
  # Finite weights of 1e30 whose representation overflows to infinity.
  updates = [doubles.update(x) for x in (0.0, 0.1, 0.2, 3e38)]
  output = run_flare(updates)
  assert output.measurements["trust"][3] == 0
  assert np.abs(doubles.flat(output.result)).max() <= 0.2


def test_partial_aggregates_shared_variables_and_zeroes_private_ones():
  factory = partial.PartialAggregationFactory(doubles.AddOneFactory(), [True, False])
  output = doubles.run_plain(factory, [doubles.update(1), doubles.update(2)])
  assert doubles.flat(output.result).tolist() == [4.0] * 4 + [0.0] * 3


def test_partial_takes_a_function_of_the_index_and_a_robust_rule():
  factory = partial.PartialAggregationFactory(krum.KrumFactory(1), lambda i: i == 1)
  updates = [doubles.update(x) for x in (1.0, 1.1, 1.2, 1.3, 50.0)]
  output = doubles.run_plain(factory, updates)
  assert doubles.flat(output.result)[:4].tolist() == [0.0] * 4
  assert 1.0 <= doubles.flat(output.result)[5] <= 1.3


def test_partial_ignores_nan_in_private_variables():
  factory = partial.PartialAggregationFactory(mean.FiniteMeanFactory(), [True, False])
  poisoned = doubles.update(2, 2, 2, 2, NAN, NAN, NAN)
  output = doubles.run_plain(factory, [doubles.update(1), poisoned])
  assert doubles.flat(output.result).tolist() == [1.5] * 4 + [0.0] * 3


def test_partial_around_flare_is_model_aware_and_keeps_private_variables():
  factory = partial.PartialAggregationFactory(flare.FlareFactory(plr_fn), [True, False])
  assert isinstance(factory, base.ModelAwareFactory)
  process = factory.create(doubles.UPDATE_TYPE)
  updates = [doubles.update(x) for x in (0.1, 0.2, 0.3)]
  output = process.next(process.initialize(), doubles.update(0), updates)
  assert doubles.flat(output.result)[4:].tolist() == [0.0] * 3
  assert doubles.flat(output.result)[0] > 0


def test_our_factory_inside_tff_clipping():
  clipped = tff.aggregators.clipping_factory(1.0, krum.KrumFactory(1))
  output = doubles.run_plain(clipped, [doubles.update(5)] * 4)
  assert np.linalg.norm(doubles.flat(output.result)) == pytest.approx(1, rel=1e-5)


def test_tracking_follows_the_global_weights():
  """The tracked copy must move like theta - result, round after round."""
  seen = tracking.track_global_weights(flare.FlareFactory(plr_fn), doubles.update(1))
  process = seen.create(doubles.UPDATE_TYPE)
  state, weights = process.initialize(), doubles.flat(doubles.update(1))
  for step in (0.25, 0.5):
    output = process.next(state, [doubles.update(step)] * 3)
    state, weights = output.state, weights - doubles.flat(output.result)
    np.testing.assert_allclose(doubles.flat(state[1]), weights, rtol=1e-6)


def test_errors_name_what_is_wrong():
  with pytest.raises(ValueError, match="`is_shared`"):
    partial.PartialAggregationFactory(krum.KrumFactory(1), [True]).create(
      doubles.UPDATE_TYPE
    )
  with pytest.raises(ValueError, match="share a variable"):
    partial.PartialAggregationFactory(krum.KrumFactory(1), [False, False]).create(
      doubles.UPDATE_TYPE
    )
  with pytest.raises(TypeError, match="`inner`"):
    partial.PartialAggregationFactory("krum", [True])
  with pytest.raises(TypeError, match="float"):
    krum.KrumFactory(1).create(tff.to_type(np.int32))
  with pytest.raises(TypeError, match="model-aware"):
    tracking.track_global_weights(krum.KrumFactory(1), doubles.update(1))
  tracked = tracking.track_global_weights(flare.FlareFactory(plr_fn), [np.zeros(3)])
  with pytest.raises(ValueError, match="`initial_weights`"):
    tracked.create(doubles.UPDATE_TYPE)
  with pytest.raises(TypeError, match="aggregator"):
    base.unify("krum", doubles.UPDATE_TYPE)


def test_the_mean_takes_another_sum():
  """(1 + 2 + 6 + 1) / 3: the sum that adds one was used."""
  factory = mean.FiniteMeanFactory(sum_factory=doubles.AddOneFactory())
  output = doubles.run_plain(factory, [doubles.update(x) for x in (1, 2, 6)])
  np.testing.assert_allclose(doubles.flat(output.result), [10 / 3] * 7, rtol=1e-6)


def test_the_mean_is_built_around_a_secure_sum():
  """Built only: TFF 0.87's worker has no secure sum; other TFF runtimes do."""
  secure = tff.aggregators.SecureSumFactory(8.0)
  process = mean.FiniteMeanFactory(sum_factory=secure).create(doubles.UPDATE_TYPE)
  result_type = process.next.type_signature.result.result.member
  assert result_type.is_identical_to(doubles.UPDATE_TYPE)


def test_the_mean_takes_no_other_thing_for_a_sum():
  with pytest.raises(TypeError, match="FiniteMeanFactory: `sum_factory` must be an"):
    mean.FiniteMeanFactory(sum_factory=tff.aggregators.MeanFactory())


def test_a_private_mean_inside_partial_aggregation():
  private = tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
    noise_multiplier=0.0, clients_per_round=2.0, clip=100.0
  )
  factory = partial.PartialAggregationFactory(private, [True, False])
  output = doubles.run_plain(factory, [doubles.update(x) for x in (1, 3)])
  np.testing.assert_allclose(doubles.flat(output.result), [2] * 4 + [0] * 3, rtol=1e-5)
