"""One form for all factories, and the tracked copy of the global weights."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import doubles
from tff_defenses.aggregators import base, flare, krum, mean, rows, tracking

THETA = doubles.update(10)


class WeightsTimesShare(base.ModelAwareFactory):
  """Result: `share` of the global weights; measures what info it was given."""

  def __init__(self, share=0.5):
    self._share = share

  def __repr__(self):
    return f"WeightsTimesShare({self._share})"

  def create_unified(self, weights_type):
    @tff.tensorflow.computation(weights_type)
    def scale(weights):
      return tf.nest.map_structure(lambda w: tf.cast(self._share, w.dtype) * w, weights)

    @tff.tensorflow.computation(base.INFO_TYPE)
    def examples(info):
      return info["num_examples"]

    @tff.federated_computation
    def init_fn():
      return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
      init_fn.type_signature.result,
      tff.FederatedType(weights_type, tff.SERVER),
      tff.FederatedType(weights_type, tff.CLIENTS),
      tff.FederatedType(base.INFO_TYPE, tff.CLIENTS),
    )
    def next_fn(state, weights, updates, info):
      del updates
      total = tff.federated_sum(tff.federated_map(examples, info))
      result = tff.federated_map(scale, weights)
      return tff.templates.MeasuredProcessOutput(state, result, total)

    return base.measured_process(init_fn, next_fn)


class WeightsAndMean(base.StackedModelAwareFactory):
  """Result: the mean of the updates; `leaves_out`: as README's recipe says."""

  def __init__(self, leaves_out):
    self._leaves_out = leaves_out

  def _server_step(self, weights, updates, specs):
    def rule(updates):
      return tf.reduce_mean(updates, axis=0), collections.OrderedDict()

    if self._leaves_out:
      return rows.on_kept_rows(rows.finite_rows(updates), rule, updates)
    return rule(updates)


def infos(num_examples):
  return [
    collections.OrderedDict(client_index=i, num_examples=x)
    for i, x in enumerate(num_examples)
  ]


def run_unified(factory, numbers, num_examples):
  process = base.unify(factory, doubles.UPDATE_TYPE)
  updates = [doubles.update(x) for x in numbers]
  return process.next(process.initialize(), THETA, updates, infos(num_examples))


@pytest.mark.parametrize(
  "factory",
  [
    krum.KrumFactory(1),
    mean.FiniteMeanFactory(),
    WeightsTimesShare(),
    tff.aggregators.SumFactory(),
    tff.aggregators.MeanFactory(),
    doubles.AddOneFactory(),
  ],
  ids=lambda factory: type(factory).__name__,
)
def test_unified_processes_have_one_type(factory):
  process = base.unify(factory, doubles.UPDATE_TYPE)
  names = tff.structure.to_elements(process.next.type_signature.parameter)
  wanted = [
    tff.FederatedType(doubles.UPDATE_TYPE, tff.SERVER),
    tff.FederatedType(doubles.UPDATE_TYPE, tff.CLIENTS),
    tff.FederatedType(base.INFO_TYPE, tff.CLIENTS),
  ]
  for (_, found), expected in zip(names[1:], wanted, strict=True):
    assert found.is_equivalent_to(expected)
  result = process.next.type_signature.result.result
  assert result.is_equivalent_to(wanted[0])


@pytest.mark.usefixtures("runtime")
def test_each_kind_of_factory_gets_what_it_takes():
  numbers, examples = (1, 4), (1.0, 2.0)
  for factory, expected in (
    (tff.aggregators.SumFactory(), 5.0),
    (doubles.AddOneFactory(), 6.0),
    (tff.aggregators.MeanFactory(), 3.0),  # (1 + 2 * 4) / 3
    (mean.FiniteMeanFactory("examples"), 3.0),
    (mean.FiniteMeanFactory(), 2.5),
    (WeightsTimesShare(), 5.0),
  ):
    output = run_unified(factory, numbers, examples)
    assert doubles.flat(output.result).tolist() == [expected] * 7, factory


@pytest.mark.usefixtures("runtime")
def test_model_aware_factories_get_the_numbers_of_examples():
  assert run_unified(WeightsTimesShare(), (1, 2), (1.0, 2.0)).measurements == 3.0
  process = WeightsTimesShare().create(doubles.UPDATE_TYPE)
  updates = [doubles.update(x) for x in (1, 2)]
  output = process.next(process.initialize(), THETA, updates)
  assert output.measurements == 2.0  # one each, when nobody tells


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("leaves_out", [True, False])
def test_rules_with_weights_leave_out_by_themselves_what_is_not_finite(leaves_out):
  output = run_unified(WeightsAndMean(leaves_out), (1, np.nan, 3), (1.0, 1.0, 1.0))
  expected = [2.0 if leaves_out else np.nan] * 7
  np.testing.assert_array_equal(doubles.flat(output.result), expected)
  assert output.measurements.get("num_rejected", 0) == leaves_out


@pytest.mark.parametrize("factory", ["krum", None, krum.KrumFactory])
def test_what_is_no_factory_raises(factory):
  with pytest.raises(TypeError, match=r"^aggregator: must be .* got \w+\. Pass"):
    base.unify(factory, doubles.UPDATE_TYPE)


@pytest.mark.parametrize("value_type", [np.int32, [np.float32, np.int64]])
@pytest.mark.parametrize("factory", [krum.KrumFactory(1), flare.FlareFactory(len)])
def test_stacked_factories_refuse_other_than_floats_by_name(factory, value_type):
  who = type(factory).__name__
  with pytest.raises(TypeError, match=rf"^{who}: the updates must be .* got"):
    factory.create(tff.to_type(value_type))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_not_applied(bad):
  weights = {"a": np.float32([1, 2]), "b": np.float64(3)}
  update = {"a": np.float32([0.5, -1]), "b": np.float64(1)}
  moved = tracking.apply_update(weights, update)
  assert moved["a"].numpy().tolist() == [0.5, 3.0] and float(moved["b"]) == 2.0
  stayed = tracking.apply_update(weights, {**update, "b": np.float64(bad)})
  assert stayed["a"].numpy().tolist() == [1.0, 2.0] and float(stayed["b"]) == 3.0


@pytest.mark.usefixtures("runtime")
def test_tracked_weights_are_what_the_rule_sees():
  # theta = 10, 5, 2.5 when each round takes away half of it.
  factory = tracking.track_global_weights(WeightsTimesShare(0.5), THETA)
  process = factory.create(doubles.UPDATE_TYPE)
  state = process.initialize()
  for expected in (5.0, 2.5):
    output = process.next(state, [doubles.update(1)] * 2)
    state = output.state
    assert doubles.flat(output.result).tolist() == [expected] * 7
    assert doubles.flat(state[1]).tolist() == [expected] * 7


@pytest.mark.usefixtures("runtime")
def test_tracking_skips_a_round_that_is_not_finite():
  factory = tracking.track_global_weights(WeightsTimesShare(float("nan")), THETA)
  process = factory.create(doubles.UPDATE_TYPE)
  output = process.next(process.initialize(), [doubles.update(1)])
  assert np.isnan(doubles.flat(output.result)).all()
  assert doubles.flat(output.state[1]).tolist() == [10.0] * 7


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_tracks_weights_of_other_widths(dtype):
  value_type = tff.to_type([(dtype, [2]), (np.float32, [1])])
  start = [np.array([1, 2], dtype), np.float32([3])]
  process = tracking.track_global_weights(WeightsTimesShare(), start).create(value_type)
  output = process.next(process.initialize(), [start])
  assert doubles.flat(output.state[1]).tolist() == [0.5, 1.0, 1.5]


def test_tracking_errors_are_in_house_form():
  with pytest.raises(TypeError, match="track_global_weights: `factory` must be .* got"):
    tracking.track_global_weights(mean.FiniteMeanFactory(), THETA)
  for start in ([np.zeros([2, 2])], [np.zeros([2, 2]), np.zeros([4])]):
    factory = tracking.track_global_weights(WeightsTimesShare(), start)
    with pytest.raises(
      ValueError, match="`initial_weights` must have the shapes .*got"
    ):
      factory.create(doubles.UPDATE_TYPE)


def test_repr_shows_what_is_tracked():
  factory = tracking.track_global_weights(WeightsTimesShare(0.25), THETA)
  assert repr(factory) == "track_global_weights(WeightsTimesShare(0.25))"


def test_measurements_of_a_stacked_rule_have_types_of_their_own():
  process = krum.KrumFactory(1).create(doubles.UPDATE_TYPE)
  measured = process.next.type_signature.result.measurements.member
  assert measured["weight"].is_identical_to(tff.TensorType(np.float32, [None]))
  assert measured["num_rejected"].is_identical_to(tff.TensorType(np.int32))
