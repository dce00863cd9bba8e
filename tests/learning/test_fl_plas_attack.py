"""Training attacks under FL-PLAS: what is refused, what is sent, what is kept."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tests.doubles import SlowAttack, equal
from tff_defenses.learning import fl_plas
from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE

SGD = tff.learning.optimizers.build_sgdm(0.1)


def keras_fn():
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      tf.keras.layers.BatchNormalization(name="norm"),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Dense(2, name="classifier", kernel_initializer="ones"),
    ]
  )


MODEL_FN = split.make_model_fn(keras_fn)


class SendsConstants:
  """Sends 8 in every place, and 5 for each moving statistic."""

  def __init__(self, sees=("own_data",)):
    self.sees = frozenset(sees)

  def build_craft(self, model, work):
    del model, work

    def craft(weights, dataset, round_number, honest, benign_mean):
      del dataset, round_number, honest, benign_mean
      update = [tf.fill(w.shape, 8.0) for w in weights.trainable]
      return update, [tf.fill(s.shape, 5.0) for s in weights.non_trainable]

    return craft


class SendsItsStart:
  """Sends the model that it is given."""

  sees = frozenset({"own_data"})

  def build_craft(self, model, work):
    del model, work

    def craft(weights, dataset, round_number, honest, benign_mean):
      del dataset, round_number, honest, benign_mean
      return list(weights.trainable), list(weights.non_trainable)

    return craft


class CountsBatches:
  """Sends the number of batches that it is given, in every place."""

  sees = frozenset({"own_data"})

  def build_craft(self, model, work):
    del model, work

    def craft(weights, dataset, round_number, honest, benign_mean):
      del round_number, honest, benign_mean
      count = tf.cast(dataset.reduce(0, lambda n, _: n + 1), tf.float32)
      update = [tf.fill(w.shape, count) for w in weights.trainable]
      return update, list(weights.non_trainable)

    return craft


def batches():
  images = np.random.default_rng(0).random((4, 2, 2, 1), np.float32)
  data = collections.OrderedDict(x=images, y=np.int32([0, 1, 1, 0]))
  return tf.data.Dataset.from_tensor_slices(data).batch(2)


@tff.tensorflow.computation(CLIENT_INPUT_TYPE)
def read(client):
  del client
  return batches()


@tff.tensorflow.computation(CLIENT_INPUT_TYPE)
def read_three_times(client):
  del client
  return batches().repeat(3)


def run(attack, **settings):
  """A round of one benign and one malicious client; (weights, client states)."""
  state, states, _ = one_round(attack, **settings)
  return state.global_model_weights, states


def one_round(attack, *, malicious=True, **settings):
  process = fl_plas.build_fl_plas(
    MODEL_FN, SGD, ["norm"], None, read, training_attack=attack, **settings
  )
  state = process.initialize()
  states = [process.initial_client_state(state)] * 2
  clients = [
    collections.OrderedDict(shard="", client_index=i, is_malicious=flag, seed=0)
    for i, flag in enumerate([False, malicious])
  ]
  return process.next(state, states, clients)


@pytest.fixture(scope="module")
def clean_run(runtime):
  """(weights, client states) after a round without an attack."""
  return run(None)


def assert_averaged_with(sent, clean, attacked):
  """The shared layers moved by the mean of the honest update h and `sent`.

  theta - (h + sent) / 2, where a clean run ends in theta - h; theta is 1 and 0.
  """
  for theta, after, found in zip(
    [1.0, 0.0], clean.trainable[:2], attacked.trainable[:2], strict=True
  ):
    np.testing.assert_allclose(found, theta - ((theta - after) + sent) / 2, rtol=1e-6)


def test_the_crafted_shared_part_is_averaged_and_client_states_stay_honest(clean_run):
  clean, clean_states = clean_run
  attacked, states = run(SendsConstants())
  assert_averaged_with(8, clean, attacked)
  assert equal(attacked.trainable[2:], clean.trainable[2:])
  assert equal(states, clean_states)


def test_an_attack_may_pass_over_the_data_more_often(clean_run):
  """Three passes over two batches."""
  attacked, _ = run(CountsBatches(), attack_dataset_computation=read_three_times)
  assert_averaged_with(6, clean_run[0], attacked)


@pytest.mark.usefixtures("runtime")
def test_the_attacks_time_is_not_the_rules():
  _, _, metrics = one_round(SlowAttack())
  assert metrics["clients"]["seconds_training"] >= 1


def test_without_a_malicious_client_nothing_changes(clean_run):
  assert equal(run(SendsConstants(), malicious=False), clean_run)


@pytest.mark.usefixtures("runtime")
def test_crafted_statistics_count_where_statistics_are_shared():
  clean, _ = run(None, share_moving_statistics=True)
  attacked, _ = run(SendsConstants(), share_moving_statistics=True)
  for before, after in zip(clean.non_trainable, attacked.non_trainable, strict=True):
    np.testing.assert_allclose(after, (before + 5) / 2, rtol=1e-6)


def test_the_attack_is_given_the_servers_shared_layers(clean_run):
  """Sends gamma = 1 as its update; the honest one is h: 1 - (h + 1) / 2."""
  clean, _ = clean_run
  attacked, _ = run(SendsItsStart())
  honest = 1 - clean.trainable[0]
  np.testing.assert_allclose(attacked.trainable[0], 1 - (honest + 1) / 2, rtol=1e-6)


def test_an_attack_of_several_passes_needs_a_dataset_that_holds_them():
  class PassesTwice(SendsConstants):
    num_passes = 2

  with pytest.raises(ValueError, match="`attack_dataset_computation` must be given"):
    run(PassesTwice())


def test_an_attack_that_sees_the_others_is_refused():
  with pytest.raises(ValueError, match="`training_attack` must not see"):
    run(SendsConstants(sees=("own_data", "benign_updates")))


def test_inputs_must_tell_who_is_malicious():
  with pytest.raises(TypeError, match="is_malicious"):
    fl_plas.build_fl_plas(MODEL_FN, SGD, ["norm"], training_attack=SendsConstants())
