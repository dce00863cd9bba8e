"""Every process trains models of other kinds than those of `models`."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import mean
from tff_defenses.learning import client_work, fed_avg, fl_plas, local, rsa_process

SGD = tff.learning.optimizers.build_sgdm(0.1)
BATCH = collections.OrderedDict(
  x=tf.TensorSpec([None, 1], tf.float32), y=tf.TensorSpec([None], tf.int32)
)
pytestmark = pytest.mark.usefixtures("runtime")


class Counter(tf.keras.layers.Layer):
  """Counts its calls in training, as `tf.keras.layers.Normalization` does samples."""

  def build(self, shape):
    self.count = self.add_weight(
      name="count", shape=[], dtype=tf.int64, initializer="zeros", trainable=False
    )

  def call(self, inputs, training=None):
    if training:
      self.count.assign_add(1)
    return inputs


def keras_model(*middle, **last):
  layers = [tf.keras.Input([1]), *middle]
  return tf.keras.Sequential([*layers, tf.keras.layers.Dense(2, name="last", **last)])


def of_keras(make):
  """`model_fn` of a Keras model of one number, two classes."""

  def model_fn():
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return tff.learning.models.from_keras_model(make(), loss=loss, input_spec=BATCH)

  return model_fn


def embedding_model():
  embed = tf.keras.layers.Embedding(3, 2, name="first")
  return keras_model(embed, tf.keras.layers.Flatten())


def double_model():
  first = tf.keras.layers.Dense(2, dtype="float64", name="first")
  return keras_model(first, dtype="float64")


def counting_model():
  return keras_model(tf.keras.layers.Dense(2, name="first"), Counter())


def functional_model():
  """Its weights are tuples; Keras's are lists."""

  @tf.function
  def predict(model_weights, x, training):
    del training
    kernel, bias = model_weights[0]
    return tf.matmul(x, kernel) + bias

  @tf.function
  def loss(output, label, sample_weight=None):
    del sample_weight
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(label, output)
    return tf.reduce_mean(each)

  model = tff.learning.models.FunctionalModel(
    initial_weights=((np.float32([[0.5, -0.5]]), np.zeros([2], np.float32)), ()),
    predict_on_batch_fn=predict,
    loss_fn=loss,
    input_spec=BATCH,
  )
  return tff.learning.models.model_from_functional(model)


MODELS = {
  "embedding": of_keras(embedding_model),
  "float64": of_keras(double_model),
  "counter": of_keras(counting_model),
  "functional": functional_model,
}
each_model = pytest.mark.parametrize("model_fn", MODELS.values(), ids=MODELS)


def clients(number=3):
  data = collections.OrderedDict(x=np.float32([[0], [1], [2]]), y=np.int32([0, 1, 1]))
  return [tf.data.Dataset.from_tensor_slices(data).batch(1)] * number


def is_moved(found, start):
  """Whether training changed weights, all of which are finite and of their types."""
  found, start = tf.nest.flatten(found.trainable), tf.nest.flatten(start.trainable)
  assert all(np.isfinite(x).all() for x in found)
  assert [x.dtype for x in found] == [x.dtype for x in start]
  return any((x != before).any() for x, before in zip(found, start, strict=True))


@each_model
def test_federated_averaging_trains_it(model_fn):
  process = fed_avg.build_fed_avg(model_fn, SGD, mean.FiniteMeanFactory())
  start = process.initialize()
  state = process.next(start, clients()).state
  weights = [process.get_model_weights(each) for each in (state, start)]
  assert is_moved(*weights)


@each_model
@pytest.mark.parametrize(
  "build",
  [rsa_process.build_rsa, functools.partial(local.build_local, client_optimizer=SGD)],
  ids=["rsa", "local"],
)
def test_clients_with_models_of_their_own_train_it(build, model_fn):
  process = build(model_fn)
  start = process.initialize()
  states = [process.initial_client_state(start)] * 3
  state, states, metrics = process.next(start, states, clients())
  assert metrics["aggregator"]["num_rejected"] == 0
  own = process.client_weights(state, states[0])
  assert is_moved(own, client_work.initial_weights(model_fn))


@pytest.mark.parametrize("name", ["embedding", "float64", "counter"])
def test_fl_plas_trains_it(name):
  process = fl_plas.build_fl_plas(MODELS[name], SGD, ["first"])
  start = process.initialize()
  states = [process.initial_client_state(start)] * 3
  _, states, metrics = process.next(start, states, clients())
  assert metrics["aggregator"]["num_rejected"] == 0
  if name == "counter":
    assert [int(state["statistics"][0]) for state in states] == [3, 3, 3]


def test_a_counter_that_all_clients_share_comes_back_whole():
  process = fed_avg.build_fed_avg(MODELS["counter"], SGD, mean.FiniteMeanFactory())
  state = process.next(process.initialize(), clients(10)).state
  assert process.get_model_weights(state).non_trainable[0] == 3
