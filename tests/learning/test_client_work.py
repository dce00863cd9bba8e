"""One client's training by hand: sign, optimizer state, report, repeatability."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import MODELS, split
from tests import doubles
from tests.doubles import dataset, one_weight_model
from tff_defenses.learning import client_work, fed_avg

SGD = tff.learning.optimizers.build_sgdm(0.25)


class NoRate(tff.learning.optimizers.Optimizer):
  """An optimizer without any setting."""

  def initialize(self, specs):
    return ()

  def next(self, state, weights, gradients):
    return state, weights


def train(data, work, start=1.0, round_number=1, train_fn=None):
  """One client's round outside TFF; returns (update, report)."""
  train_fn = train_fn or client_work.build_train_fn(one_weight_model(), work)
  weights = tff.learning.models.ModelWeights([np.float32([[start]])], [])
  update, statistics, report = train_fn(weights, data, tf.constant(round_number))
  assert statistics == []
  return float(update[0][0, 0]), {name: float(x) for name, x in report.items()}


def momentum_round(w, targets, rate, momentum):
  """One round of x = 1 images by hand, the accumulator from zero."""
  accumulator = 0.0
  for y in targets:
    accumulator = momentum * accumulator + 2 * (w - y)
    w -= rate * accumulator
  return w


@pytest.mark.parametrize("optimizer", ["sgd", None, tf.keras.optimizers.SGD])
def test_an_optimizer_that_is_not_tffs_raises_with_its_name(optimizer):
  with pytest.raises(TypeError, match="ClientWork: `client_optimizer` must be .* got"):
    client_work.ClientWork(optimizer)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, "2", None, True])
def test_bad_local_epochs_raise_with_their_name(epochs):
  with pytest.raises(ValueError, match="ClientWork: `local_epochs`.* got"):
    client_work.ClientWork(SGD, epochs)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_bad_rate_decay_raises_with_its_name(decay):
  with pytest.raises(ValueError, match="ClientWork: `rate_decay` must be in .* got"):
    client_work.ClientWork(SGD, rate_decay=decay)


def test_decay_of_a_rate_that_is_not_there_raises():
  client_work.ClientWork(NoRate())
  with pytest.raises(ValueError, match="`rate_decay` needs an optimizer.* got NoRate"):
    client_work.ClientWork(NoRate(), rate_decay=0.5)


def test_update_is_initial_minus_trained():
  # w = 1 - 0.25 * 2 * (1 - 3) = 2: the update is 1 - 2.
  update, _ = train(dataset([1], [3]), client_work.ClientWork(SGD))
  assert update == -1.0


def test_update_starts_from_the_weights_received():
  update, _ = train(dataset([1], [3]), client_work.ClientWork(SGD), start=7.0)
  assert update == 2.0


def test_a_client_without_data_sends_zero():
  update, report = train(dataset([], []), client_work.ClientWork(SGD))
  assert update == 0.0
  assert report == {"loss_sum": 0.0, "num_seen": 0.0, "num_examples": 0.0}


def test_nan_is_left_in_the_update_for_the_rule_to_reject():
  update, report = train(dataset([1], [np.nan]), client_work.ClientWork(SGD))
  assert np.isnan(update) and np.isnan(report["loss_sum"])


def test_loss_report_by_hand():
  """Rate 0: batches {3, 5} and {0} lose (4 + 16) / 2 and 1, in each of two epochs."""
  still = client_work.ClientWork(tff.learning.optimizers.build_sgdm(0.0), 2)
  _, report = train(dataset([1, 1, 1], [3, 5, 0], batch_size=2), still)
  assert report == {"loss_sum": 2 * (20 + 1), "num_seen": 6.0, "num_examples": 3.0}


def test_loss_is_taken_before_each_step():
  # w = 1, 2: losses 4 and 1.
  _, report = train(dataset([1], [3]), client_work.ClientWork(SGD, 2))
  assert report["loss_sum"] == 5.0 and report["num_examples"] == 1.0


@pytest.mark.parametrize(
  ("round_number", "rate"), [(1, 0.25), (2, 0.125), (4, 0.03125)]
)
def test_rate_decays_from_the_second_round_on(round_number, rate):
  work = client_work.ClientWork(SGD, rate_decay=0.5)
  update, _ = train(dataset([1], [3]), work, round_number=round_number)
  assert update == pytest.approx(rate * 2 * (1 - 3))


def test_optimizer_state_is_new_when_a_function_trains_again():
  work = client_work.ClientWork(tff.learning.optimizers.build_sgdm(0.1, 0.9))
  train_fn = client_work.build_train_fn(one_weight_model(), work)
  for start in (1.0, 1.0, -2.0):
    update, _ = train(dataset([1, 1], [3, 5]), work, start, train_fn=train_fn)
    trained = momentum_round(start, (3, 5), 0.1, 0.9)
    assert update == pytest.approx(start - trained, rel=1e-6)


@pytest.mark.usefixtures("runtime")
def test_two_rounds_of_momentum_by_hand_in_tff():
  """A kept accumulator would carry the first round's gradients into the second."""
  momentum = tff.learning.optimizers.build_sgdm(0.1, 0.9)
  process = fed_avg.build_fed_avg(one_weight_model, momentum, rate_decay=0.5)
  state, w = process.initialize(), 1.0
  targets = ((3, 5), (0, 1))
  for rate in (0.1, 0.05):
    state, _ = process.next(state, [dataset([1, 1], y) for y in targets])
    w = np.mean([momentum_round(w, y, rate, 0.9) for y in targets])
    found = doubles.flat(state.global_model_weights.trainable)[0]
    assert found == pytest.approx(w, rel=1e-6)


def test_initial_weights_are_the_models_and_repeat():
  keras_fn = functools.partial(MODELS["lenet"].build, seed=3, image_shape=(8, 8, 1))
  found = client_work.initial_weights(split.make_model_fn(keras_fn))
  model = keras_fn()
  for a, v in zip(found.trainable, model.trainable_variables, strict=True):
    np.testing.assert_array_equal(a, v)
  assert found.non_trainable == []


def test_training_with_dropout_repeats_bit_for_bit(runtime):
  """Clients that run at the same time share TFF's cached sessions, and their random
  streams: with stock dropout the masks depended on who came first."""
  if runtime.worker.concurrency < 2:
    pytest.skip("needs a worker that computes two clients at once")
  keras_fn = functools.partial(MODELS["lenet"].build, seed=3, image_shape=(10, 10, 1))
  process = fed_avg.build_fed_avg(
    split.make_model_fn(keras_fn), tff.learning.optimizers.build_sgdm(0.05, 0.9)
  )
  clients = [lenet_client(seed) for seed in range(4)]
  start = process.initialize()
  ends = [process.next(start, clients)[0].global_model_weights for _ in range(3)]
  for end in ends[1:]:
    for a, b in zip(ends[0].trainable, end.trainable, strict=True):
      np.testing.assert_array_equal(a, b)
  before = doubles.flat(start.global_model_weights.trainable)
  assert np.any(doubles.flat(ends[0].trainable) != before)


def lenet_client(seed):
  rng = np.random.default_rng(seed)
  images, labels = rng.integers(0, 256, (32, 10, 10, 1)), rng.integers(0, 10, 32)
  return doubles.image_dataset(images, labels, batch_size=8)
