"""Training attacks under FL-PLAS: what is refused, what is sent, what is kept."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import split
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


@tff.tensorflow.computation(CLIENT_INPUT_TYPE)
def read(client):
  del client
  images = np.random.default_rng(0).random((4, 2, 2, 1), np.float32)
  data = collections.OrderedDict(x=images, y=np.int32([0, 1, 1, 0]))
  return tf.data.Dataset.from_tensor_slices(data).batch(2)


def run(attack, *, malicious=True, rounds=1, **settings):
  """Rounds of one benign and one malicious client; (server state, client states)."""
  process = fl_plas.build_fl_plas(
    MODEL_FN, SGD, ["norm"], None, read, training_attack=attack, **settings
  )
  state = process.initialize()
  states = [process.initial_client_state(state)] * 2
  clients = [
    collections.OrderedDict(shard="", client_index=i, is_malicious=flag, seed=0)
    for i, flag in enumerate([False, malicious])
  ]
  for _ in range(rounds):
    state, states, _ = process.next(state, states, clients)
  return state.global_model_weights, states


def assert_equal(one, two):
  for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("runtime")
def test_the_crafted_shared_part_is_averaged_and_client_states_stay_honest():
  """Mean of the honest update h and 8: theta - (h + 8) / 2; h from a clean run."""
  clean, clean_states = run(None)
  attacked, states = run(SendsConstants())
  for start, after, found in zip(
    [np.ones(1), np.zeros(1)], clean.trainable[:2], attacked.trainable[:2], strict=True
  ):
    np.testing.assert_allclose(found, start - ((start - after) + 8) / 2, rtol=1e-6)
  assert_equal(attacked.trainable[2:], clean.trainable[2:])
  assert_equal(states, clean_states)


@pytest.mark.usefixtures("runtime")
def test_without_a_malicious_client_nothing_changes():
  assert_equal(run(SendsConstants(), malicious=False), run(None))


@pytest.mark.usefixtures("runtime")
def test_crafted_statistics_count_where_statistics_are_shared():
  clean, _ = run(None, share_moving_statistics=True)
  attacked, _ = run(SendsConstants(), share_moving_statistics=True)
  for before, after in zip(clean.non_trainable, attacked.non_trainable, strict=True):
    np.testing.assert_allclose(after, (before + 5) / 2, rtol=1e-6)


@pytest.mark.usefixtures("runtime")
def test_the_attack_is_given_the_servers_shared_layers():
  """Sends gamma = 1 as its update; the honest one is h: 1 - (h + 1) / 2."""
  clean, _ = run(None)
  attacked, _ = run(SendsItsStart())
  honest = 1 - clean.trainable[0]
  np.testing.assert_allclose(attacked.trainable[0], 1 - (honest + 1) / 2, rtol=1e-6)


def test_an_attack_that_sees_the_others_is_refused():
  with pytest.raises(ValueError, match="`training_attack` must not see"):
    run(SendsConstants(sees=("own_data", "benign_updates")))


def test_inputs_must_tell_who_is_malicious():
  with pytest.raises(TypeError, match="is_malicious"):
    fl_plas.build_fl_plas(MODEL_FN, SGD, ["norm"], training_attack=SendsConstants())
