"""One attack run outside TFF, plain Keras loops to compare with, and one round."""

import collections
import functools

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tests import doubles
from tff_defenses.learning import client_work, fed_avg
from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE

SGD = tff.learning.optimizers.build_sgdm(0.1)
MODEL_FN = split.make_model_fn(doubles.tiny_keras)
THETA = doubles.tiny_keras().get_weights()
ZEROS = [np.zeros_like(w) for w in THETA]
IMAGES, LABELS = doubles.tiny_images(5, size=6)  # two batches of three
LOSS = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batches(images=IMAGES, labels=LABELS):
  """The attacker's dataset."""
  return doubles.image_dataset(images, labels, batch_size=3)


def craft(
  attack,
  *,
  data=None,
  honest=None,
  benign_mean=None,
  round_number=1,
  local_epochs=1,
  optimizer=SGD,
):
  """The attack's update, outside TFF."""
  run = attack.build_craft(MODEL_FN(), client_work.ClientWork(optimizer, local_epochs))
  weights = tff.learning.models.ModelWeights(THETA, [])
  data = batches() if data is None else data

  @tf.function
  def go():
    number = tf.constant(round_number)
    return run(weights, data, number, honest or ZEROS, benign_mean or ZEROS)

  update, statistics = go()
  assert statistics == []  # the model has none
  return [u.numpy() for u in update]


def descend(model, loss, rate=0.1):
  """One step of gradient descent on `loss()`, written out."""
  with tf.GradientTape() as tape:
    value = loss()
  gradients = tape.gradient(value, model.trainable_variables)
  for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
    variable.assign_sub(rate * gradient)


def plain_training(loss, *, start=THETA, after_step=None, data=None):
  """Plain Keras with SGD 0.1 on `loss(model, x, y)`; returns theta minus trained."""
  model = doubles.tiny_keras()
  model.set_weights(start)
  for number, batch in enumerate(batches() if data is None else data, 1):
    descend(model, functools.partial(loss, model, batch["x"], batch["y"]))
    if after_step is not None:
      after_step(model, number)
  return minus(THETA, model.get_weights())


def cross_entropy(model, x, y):
  """CE of a batch."""
  return LOSS(y, model(x))


def penultimate(model, x):
  """[m, o], by Keras itself."""
  return tf.keras.Model(model.inputs, model.get_layer("penultimate").output)(x)


def minus(one, two):
  """Difference, variable by variable."""
  return [a - b for a, b in zip(one, two, strict=True)]


def norm(tensors):
  """Over all variables, in float64."""
  return float(np.sqrt(sum(np.sum(np.float64(x) ** 2) for x in tensors)))


def assert_close(found, expected, tolerance=1e-5):
  """Variable by variable."""
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def client(index, is_malicious):
  """What one client receives."""
  return collections.OrderedDict(
    shard="", client_index=index, is_malicious=is_malicious, seed=0
  )


def read_for(attackers_only):
  """Client input -> `batches()`; nothing for benign clients if so wanted."""

  @tff.tensorflow.computation(CLIENT_INPUT_TYPE)
  def read(client):
    count = tf.where(client["is_malicious"] | (not attackers_only), 2, 0)
    return batches().take(tf.cast(count, tf.int64))

  return read


def federated_round(attack, **settings):
  """One round of build_fed_avg; returns the trainable weights after it."""
  return round_with_metrics(attack, **settings)[0]


def round_with_metrics(
  attack, *, malicious, attackers_only=True, factory=None, **settings
):
  """One round of build_fed_avg; returns the trainable weights after it, and metrics.

  Further settings are those of build_fed_avg.
  """
  process = fed_avg.build_fed_avg(
    MODEL_FN,
    SGD,
    factory,
    dataset_computation=read_for(attackers_only),
    training_attack=attack,
    **settings,
  )
  clients = [client(i, flag) for i, flag in enumerate(malicious)]
  state, metrics = process.next(process.initialize(), clients)
  return state.global_model_weights.trainable, metrics
