"""Federated averaging around the factories, on models small enough to check by hand."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks.training import scaling
from tests import doubles
from tests.attacks import training_doubles as td
from tests.doubles import dataset, equal, one_weight_model
from tff_defenses.aggregators import flare, krum, mean
from tff_defenses.learning import fed_avg, server_work
from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE

pytestmark = pytest.mark.usefixtures("runtime")
SGD = tff.learning.optimizers.build_sgdm(0.25)  # x = 1: a step halves w - y


@pytest.fixture(scope="module")
def process(runtime):
  """With every default; compiled once."""
  return fed_avg.build_fed_avg(one_weight_model, SGD)


def weight(state):
  return float(state.global_model_weights.trainable[0][0, 0])


def test_one_step_by_hand(process):
  # Client a: w = 1 - 0.25 * 2 * (1 - 3) = 2; client b: w = 1 - 0.25 * 2 * 1 = 0.5.
  clients = [dataset([1], [3]), dataset([1], [0])]
  state, metrics = process.next(process.initialize(), clients)
  assert weight(state) == pytest.approx(1.25)
  assert metrics["clients"]["train_loss"] == pytest.approx((4 + 1) / 2)
  assert metrics["aggregator"]["weight"].tolist() == [0.5, 0.5]
  assert metrics["clients"]["seconds_training"] > 0
  assert metrics["clients"]["seconds_aggregation"] > 0


def test_lengths_of_updates_are_told_on_request_only(process):
  clients = [dataset([1], [3]), dataset([1], [np.nan]), dataset([1], [0])]
  asked = fed_avg.build_fed_avg(one_weight_model, SGD, measure_norms=True)
  _, metrics = asked.next(asked.initialize(), clients)
  norms = metrics["clients"]["update_norm"]
  np.testing.assert_allclose(norms, [1, np.nan, 0.5])  # updates of -1, NaN and 0.5
  _, metrics = process.next(process.initialize(), clients)
  assert "update_norm" not in metrics["clients"]


def test_local_epochs_repeat_the_data():
  # w - 3 halves: 1, 2, 2.5.
  process = fed_avg.build_fed_avg(one_weight_model, SGD, local_epochs=2)
  state, _ = process.next(process.initialize(), [dataset([1], [3])])
  assert weight(state) == pytest.approx(2.5)


def test_learning_rate_decays_by_round():
  # Rates 0.25, 0.125: w = 1 -> 2 -> 2 + 0.25.
  process = fed_avg.build_fed_avg(one_weight_model, SGD, rate_decay=0.5)
  state = process.initialize()
  state, _ = process.next(state, [dataset([1], [3])])
  state, _ = process.next(state, [dataset([1], [3])])
  assert weight(state) == pytest.approx(2.25)


def test_a_client_without_data_changes_nothing(process):
  state, metrics = process.next(process.initialize(), [dataset([], [])])
  assert weight(state) == 1.0
  assert np.isnan(metrics["clients"]["train_loss"])  # of no image there is none


@pytest.mark.parametrize("factory", [mean.FiniteMeanFactory(), krum.KrumFactory(0)])
def test_a_client_with_nan_never_reaches_the_global_model(factory):
  process = fed_avg.build_fed_avg(one_weight_model, SGD, factory)
  clients = [dataset([1], [3]), dataset([1], [np.nan]), dataset([1], [3])]
  state, metrics = process.next(process.initialize(), clients)
  assert weight(state) == pytest.approx(2.0)
  assert metrics["aggregator"]["num_rejected"] == 1
  assert np.isfinite(metrics["clients"]["train_loss"])


def test_if_all_clients_fail_the_weights_stay(process):
  state, metrics = process.next(process.initialize(), [dataset([1], [np.inf])] * 2)
  assert weight(state) == 1.0
  assert metrics["aggregator"]["num_rejected"] == 2
  assert np.isnan(metrics["clients"]["train_loss"])  # 0 would be a perfect fit


def test_tff_factories_plug_in():
  for factory in (
    tff.aggregators.UnweightedMeanFactory(),
    tff.aggregators.MeanFactory(),
    tff.learning.robust_aggregator(),
  ):
    process = fed_avg.build_fed_avg(one_weight_model, SGD, factory)
    # Two images beside one: the weighted mean leans on them.
    clients = [dataset([1, 1], [3, 3], batch_size=2), dataset([1], [0])]
    state, _ = process.next(process.initialize(), clients)
    weighted = isinstance(factory, tff.aggregators.WeightedAggregationFactory)
    assert weight(state) == pytest.approx(1.5 if weighted else 1.25)


def test_a_model_aware_factory_gets_this_rounds_weights():
  """The PLR of theta - update must be the clients' trained weights, every round."""

  def seen(weights):
    return tf.reshape(weights[0], [1, 1]) * tf.constant([[1.0], [2.0]])

  process = fed_avg.build_fed_avg(one_weight_model, SGD, flare.FlareFactory(seen))
  state, theta = process.initialize(), 1.0
  targets = np.array([3, 3.1, 3.2, 40])
  clients = [dataset([1], [y]) for y in targets]
  for _ in range(2):
    state, metrics = process.next(state, clients)
    trained = (theta + targets) / 2
    plrs = np.float32(trained)[:, None, None] * np.float32([[1.0], [2.0]])
    votes = flare.neighbour_votes(flare.pairwise_mmd(plrs))
    theta = float(np.sum(flare.trust_scores(votes) * trained))
    assert metrics["aggregator"]["votes"].tolist() == votes.numpy().tolist()
    assert weight(state) == pytest.approx(theta, rel=1e-5)


def test_initial_weights_are_where_the_first_round_starts():
  start = tff.learning.models.ModelWeights([np.float32([[5.0]])], [])
  process = fed_avg.build_fed_avg(one_weight_model, SGD, initial_weights=start)
  assert weight(process.initialize()) == 5.0
  wrong = tff.learning.models.ModelWeights([np.float32([5.0])], [])
  with pytest.raises(ValueError, match="initial_weights"):
    fed_avg.build_fed_avg(one_weight_model, SGD, initial_weights=wrong)


def test_weights_can_be_read_and_set(process):
  state = process.initialize()
  new = tff.learning.models.ModelWeights([np.float32([[7.0]])], [])
  state = process.set_model_weights(state, new)
  assert doubles.flat(process.get_model_weights(state).trainable).tolist() == [7.0]


def batch_norm_model():
  keras = tf.keras.Sequential(
    [
      tf.keras.Input([1]),
      tf.keras.layers.BatchNormalization(momentum=0.0),
      tf.keras.layers.Dense(1),
    ]
  )
  spec = collections.OrderedDict(x=tf.TensorSpec([None, 1]), y=tf.TensorSpec([None, 1]))
  loss = tf.keras.losses.MeanSquaredError()
  return tff.learning.models.from_keras_model(keras, loss=loss, input_spec=spec)


@pytest.fixture(scope="module")
def batch_norm_process(runtime):
  return fed_avg.build_fed_avg(batch_norm_model, SGD)


def test_batch_norm_statistics_follow_the_rules_weights(batch_norm_process):
  """Momentum 0: a client's statistics are its batch's mean, here 2 and 6."""
  clients = [
    dataset([1, 3], [0, 0], batch_size=2),
    dataset([5, 7], [0, 0], batch_size=2),
    dataset([np.nan, 1], [0, 0], batch_size=2),
  ]
  process = batch_norm_process
  state, _ = process.next(process.initialize(), clients)
  means = state.global_model_weights.non_trainable[0]
  assert means.tolist() == pytest.approx([4.0])
  process = fed_avg.build_fed_avg(batch_norm_model, SGD, krum.KrumFactory(0))
  state, metrics = process.next(process.initialize(), clients)
  picked = int(metrics["aggregator"]["selected"].argmax())
  assert state.global_model_weights.non_trainable[0].tolist() == [[2.0], [6.0]][picked]


@pytest.mark.parametrize(
  ("form", "fails", "expected"),
  [("first", False, 2.0), ("first", True, 6.0), ("initial", False, 0.0)],
)
def test_batch_norm_statistics_may_be_one_clients_or_none(form, fails, expected):
  """Means of 2 and 6; FL-PLAS's code takes the first client's, or keeps its own."""
  clients = [
    dataset([np.nan if fails else 1, 3], [0, 0], batch_size=2),
    dataset([5, 7], [0, 0], batch_size=2),
  ]
  process = fed_avg.build_fed_avg(batch_norm_model, SGD, moving_statistics=form)
  state, _ = process.next(process.initialize(), clients)
  assert state.global_model_weights.non_trainable[0].tolist() == [expected]


def test_unknown_form_of_batch_norm_statistics_raises():
  with pytest.raises(ValueError, match="`moving_statistics` must be one of 'mean'"):
    fed_avg.build_fed_avg(batch_norm_model, SGD, moving_statistics="last")


def test_batch_norm_statistics_stay_if_all_clients_fail(batch_norm_process):
  before = batch_norm_process.initialize()
  failing = [dataset([np.nan, 1], [0, 0], batch_size=2)] * 2
  after, metrics = batch_norm_process.next(before, failing)
  assert metrics["aggregator"]["num_rejected"] == 2
  assert equal(after.global_model_weights, before.global_model_weights)


def test_batch_norm_statistics_stay_in_a_round_that_is_skipped():
  """TFF's bare mean lets a client's NaN through; the other's statistics are finite."""
  mean_factory = tff.aggregators.UnweightedMeanFactory()
  process = fed_avg.build_fed_avg(batch_norm_model, SGD, mean_factory)
  before = process.initialize()
  clients = [dataset([2, 4], [np.nan, 0], batch_size=2), dataset([2, 4], [0, 0])]
  after, _ = process.next(before, clients)
  assert equal(after.global_model_weights, before.global_model_weights)


@pytest.mark.parametrize(
  ("measured", "expected"),
  [
    ({"num_rejected": 7, "weight": 2}, 2),
    ({"votes": 7, "trust": 3}, 3),  # FLARE
    ({"num_rejected": 7}, 1),
    ((), 1),
  ],
)
def test_statistics_weigh_as_the_rule_reports(measured, expected):
  assert server_work.client_weights(measured, default=1) == expected


def test_statistics_that_stay_are_not_rounded():
  """Neither 2^24 + 1 nor 0.1 in float64 is a float32."""
  info_type = tff.to_type(collections.OrderedDict(client_index=np.int32))
  values = [tff.TensorType(np.int64, [1]), tff.TensorType(np.float64, [1])]
  old_type = tff.to_type(values)

  @tff.federated_computation(
    tff.FederatedType(old_type, tff.SERVER),
    tff.FederatedType(old_type, tff.CLIENTS),
    tff.FederatedType(info_type, tff.CLIENTS),
  )
  def combined(old, new, info):
    return server_work.combine_statistics(
      old, new, info, tff.federated_value((), tff.SERVER)
    )

  old = [np.int64([2**24 + 1]), np.float64([0.1])]
  failed = [np.int64([7]), np.float64([np.nan])]
  kept = combined(old, [failed], [collections.OrderedDict(client_index=0)])
  assert [value.tolist() for value in kept] == [[2**24 + 1], [0.1]]


def test_an_attack_may_pass_over_the_data_more_often():
  """It trains on its own two passes, not on the clients' one."""

  @tff.tensorflow.computation(CLIENT_INPUT_TYPE)
  def read_twice(client):
    del client
    return td.batches().repeat(2)

  honest = scaling.ScalingAttack(gamma=1.0)
  found = td.federated_round(
    honest, malicious=[True], attack_dataset_computation=read_twice
  )
  trained = td.plain_training(td.cross_entropy, data=td.batches().repeat(2))
  td.assert_close(found, td.minus(td.THETA, trained))


def test_errors_name_what_is_wrong():
  with pytest.raises(TypeError, match="client_optimizer"):
    fed_avg.build_fed_avg(one_weight_model, tf.keras.optimizers.SGD())
  with pytest.raises(ValueError, match="local_epochs"):
    fed_avg.build_fed_avg(one_weight_model, SGD, local_epochs=0)
  with pytest.raises(ValueError, match="rate_decay"):
    fed_avg.build_fed_avg(one_weight_model, SGD, rate_decay=1.5)
  with pytest.raises(TypeError, match="aggregator"):
    fed_avg.build_fed_avg(one_weight_model, SGD, "krum")
  with pytest.raises(TypeError, match="is_malicious"):
    fed_avg.build_fed_avg(one_weight_model, SGD, training_attack=object())
  with pytest.raises(ValueError, match="`training_attack` must be given where"):
    fed_avg.build_fed_avg(one_weight_model, SGD, measure_attack=True)


def test_dataset_computation_must_give_the_models_batches():
  @tff.tensorflow.computation(np.int32)
  def wrong(index):
    return tf.data.Dataset.range(3)

  with pytest.raises(TypeError, match="dataset_computation"):
    fed_avg.build_fed_avg(one_weight_model, SGD, dataset_computation=wrong)


def test_inside_tffs_own_fed_avg():
  process = tff.learning.algorithms.build_unweighted_fed_avg(
    one_weight_model,
    client_optimizer_fn=SGD,
    server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    model_aggregator=krum.KrumFactory(0),
  )
  clients = [dataset([1], [y]) for y in (3, 3, 9)]
  output = process.next(process.initialize(), clients)
  assert doubles.flat(output.state.global_model_weights.trainable)[0] == 2.0
