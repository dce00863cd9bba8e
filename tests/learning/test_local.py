"""Training without federation: plain training, and independence of the others."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tests.doubles import equal
from tests.learning.test_fl_plas import (
  CLIENTS,
  MODEL_FN,
  SGD,
  dataset,
  keras_fn,
  start,
  train_alone,
)
from tff_defenses.learning import fl_plas, local

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture(scope="module")
def process(runtime):
  """With every default; compiled once."""
  return local.build_local(MODEL_FN, SGD)


def two_rounds(process, clients):
  """(server state, client states, metrics) after two rounds."""
  state, client_states = start(process, len(clients))
  for _ in range(2):
    state, client_states, metrics = process.next(state, client_states, clients)
  return state, client_states, metrics


def test_one_client_trains_as_in_plain_keras():
  """Two passes a round; the learning rate halves from the first to the second."""
  process = local.build_local(MODEL_FN, SGD, local_epochs=2, rate_decay=0.5)
  _, states, _ = two_rounds(process, CLIENTS[:1])
  weights = keras_fn().get_weights()
  for rate in (0.1, 0.05):
    weights = train_alone(weights, CLIENTS[0], rate=rate, epochs=2)
  for found, expected in zip(states[0]["private"], weights, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_client_does_not_depend_on_the_others(process):
  _, one, _ = two_rounds(process, CLIENTS)
  _, other, _ = two_rounds(process, [CLIENTS[0], dataset(7, 0), dataset(8, 0, size=2)])
  assert equal(one[0], other[0])
  assert not np.array_equal(one[1]["private"][0], other[1]["private"][0])


def test_the_servers_model_never_moves_and_clients_own_all_layers(process):
  first, _ = start(process)
  state, clients, _ = two_rounds(process, CLIENTS)
  assert equal(state.global_model_weights, first.global_model_weights)
  assert state.client_work == 3  # the number of the next round
  assert process.is_shared == (False,) * 4
  assert equal(
    process.client_weights(state, clients[1]).trainable, clients[1]["private"]
  )


def unused_features_fn():
  """All that learns is the classifier: the features enter with a factor of zero."""
  image = tf.keras.Input([2, 2, 1])
  flat = tf.keras.layers.Flatten()(image)
  features = tf.keras.layers.Dense(4, name="features")(flat)
  x = tf.keras.layers.Add()([flat, tf.keras.layers.Rescaling(0.0)(features)])
  classify = tf.keras.layers.Dense(2, name="classifier", kernel_initializer="ones")
  return tf.keras.Model(image, classify(x))


def test_it_is_fl_plas_where_all_that_learns_is_private():
  model_fn = split.make_model_fn(unused_features_fn)
  _, shared, _ = two_rounds(fl_plas.build_fl_plas(model_fn, SGD, ["features"]), CLIENTS)
  _, own, _ = two_rounds(local.build_local(model_fn, SGD), CLIENTS)
  for one, other in zip(shared, own, strict=True):
    assert equal(one["private"], other["private"][2:])
    assert not np.array_equal(one["private"][0], np.ones([4, 2]))


def test_a_client_with_nan_keeps_its_old_state_and_is_counted(process):
  broken = dataset(5, 0).map(
    lambda b: collections.OrderedDict(x=b["x"] * np.nan, y=b["y"])
  )
  state, client_states = start(process, 2)
  _, after, metrics = process.next(state, client_states, [broken, CLIENTS[1]])
  assert metrics["aggregator"]["num_rejected"] == 1
  assert equal(after[0], client_states[0])
  assert not np.array_equal(after[1]["private"][0], client_states[1]["private"][0])


def test_bad_settings_raise_with_their_names():
  with pytest.raises(ValueError, match="local_epochs"):
    local.build_local(MODEL_FN, SGD, local_epochs=0)
  with pytest.raises(TypeError, match="client_optimizer"):
    local.build_local(MODEL_FN, "sgd")
  with pytest.raises(ValueError, match="initial_weights"):
    wrong = tff.learning.models.ModelWeights([np.zeros(3, np.float32)], [])
    local.build_local(MODEL_FN, SGD, initial_weights=wrong)
