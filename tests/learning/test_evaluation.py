"""Predictions in the driver against Keras, alone and for many clients at once."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import MODELS
from tests import doubles
from tests.doubles import weights_of
from tff_defenses.learning import evaluation

LENET = functools.partial(MODELS["lenet"].build, seed=1, image_shape=(8, 8, 1))
CUT = MODELS["lenet"].shared_layers


def images_of(shape, size=7, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (size, *shape)).astype(np.uint8)


IMAGES = images_of((8, 8, 1))


def client_weights(num_shared=4, clients=3):
  """LeNets that share their first tensors and differ in all others."""
  shared = weights_of(LENET(seed=2)).trainable[:num_shared]
  return [
    tff.learning.models.ModelWeights(
      [*shared, *weights_of(LENET(seed=10 + i)).trainable[num_shared:]], []
    )
    for i in range(clients)
  ]


def count_calls(evaluator, monkeypatch):
  """Counts the forward passes of the shared features."""
  calls = []
  features_of, classify = evaluator._split

  def counted(images):
    calls.append(len(images))
    return features_of(images)

  monkeypatch.setattr(evaluator, "_split", [counted, classify])
  return calls


def test_a_broken_model_predicts_no_class():
  """Argmax of NaN is 0, the target of most backdoors."""
  broken = weights_of(LENET(seed=5))
  broken.trainable[-1][:] = np.nan
  evaluator = evaluation.Evaluator(LENET, CUT)
  none = [evaluation.NO_CLASS] * len(IMAGES)
  assert evaluator.predict(broken, IMAGES).tolist() == none
  found = evaluator.predict_clients([broken, *client_weights(clients=1)], IMAGES)
  assert found[0].tolist() == none and (found[1] >= 0).all()
  outputs = np.array([[0, 2], [np.nan, 1], [np.inf, 0], [1, 0]])
  assert evaluation.classes(outputs).tolist() == [1, -1, -1, 0]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 250])
def test_predictions_equal_keras_whatever_the_batches(batch_size):
  """Batches that end before, at and after the last image."""
  model = LENET(seed=5)
  logits = model(IMAGES.astype(np.float32), training=False)
  evaluator = evaluation.Evaluator(LENET, batch_size=batch_size)
  found = evaluator.probabilities(weights_of(model), IMAGES)
  np.testing.assert_allclose(found, tf.nn.softmax(logits), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found.sum(axis=1), np.ones(7), rtol=1e-5)
  assert found.shape == (7, 10) and found.dtype == np.float32
  classes = evaluator.predict(weights_of(model), IMAGES)
  assert classes.dtype == np.int32
  np.testing.assert_array_equal(classes, np.argmax(logits, axis=1))


def test_each_call_takes_its_own_weights():
  evaluator = evaluation.Evaluator(LENET)
  one, two = (weights_of(LENET(seed=s)) for s in (5, 6))
  first = evaluator.probabilities(one, IMAGES)
  assert np.any(evaluator.probabilities(two, IMAGES) != first)
  np.testing.assert_array_equal(evaluator.probabilities(one, IMAGES), first)


def test_moving_statistics_are_used_and_stay_as_they_are():
  def keras_fn():
    return tf.keras.Sequential(
      [
        tf.keras.Input([2, 2, 1]),
        tf.keras.layers.BatchNormalization(),
        *doubles.tiny_keras().layers,
      ]
    )

  model = keras_fn()
  model.non_trainable_variables[0].assign([100.0])
  model.non_trainable_variables[1].assign([2500.0])
  weights, (images, _) = weights_of(model), doubles.tiny_images(0, 9)
  found = evaluation.Evaluator(keras_fn, batch_size=4).probabilities(weights, images)
  expected = tf.nn.softmax(model(images, training=False))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_other_numbers_of_weights_raise():
  weights = weights_of(LENET())
  short = tff.learning.models.ModelWeights(weights.trainable[:-1], [])
  with pytest.raises(ValueError, match="shorter than"):
    evaluation.Evaluator(LENET).predict(short, IMAGES)


def test_many_clients_equal_one_by_one_and_share_their_features(monkeypatch):
  clients = client_weights()
  evaluator = evaluation.Evaluator(LENET, CUT, batch_size=3)
  calls = count_calls(evaluator, monkeypatch)
  found = evaluator.predict_clients(clients, IMAGES)
  assert calls == [3, 3, 1]  # once for all three clients
  alone = np.stack([evaluator.predict(weights, IMAGES) for weights in clients])
  assert found.shape == (3, 7) and found.dtype == np.int32
  np.testing.assert_array_equal(found, alone)
  assert np.any(found[0] != found[1])


def test_features_are_held_a_chunk_at_a_time(monkeypatch):
  monkeypatch.setattr(evaluation, "_CHUNK", 4)
  clients = client_weights()
  evaluator = evaluation.Evaluator(LENET, CUT, batch_size=3)
  calls = count_calls(evaluator, monkeypatch)
  found = evaluator.predict_clients(clients, IMAGES)
  assert calls == [3, 1, 3]
  alone = np.stack([evaluator.predict(weights, IMAGES) for weights in clients])
  np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("shared_layers", [None, ["*"]])
def test_without_a_cut_each_client_is_evaluated_whole(shared_layers):
  """Then nothing is shared, and nothing may be taken from the first client."""
  clients = client_weights(num_shared=0)
  evaluator = evaluation.Evaluator(LENET, shared_layers)
  found = evaluator.predict_clients(clients, IMAGES)
  alone = np.stack([evaluator.predict(weights, IMAGES) for weights in clients])
  np.testing.assert_array_equal(found, alone)


def batch_norm_fn():
  """The class is 1 where the normalised pixel exceeds zero."""
  return tf.keras.Sequential(
    [
      tf.keras.Input([1, 1, 1]),
      tf.keras.layers.BatchNormalization(name="features"),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Dense(
        2, name="classifier", kernel_initializer=tf.constant_initializer([[0.0, 1.0]])
      ),
    ]
  )


def test_moving_statistics_differ_by_client():
  """Shared gamma and beta, means 50 and 150: a pixel of 100 lies above and below."""
  trainable = weights_of(batch_norm_fn()).trainable
  clients = [
    tff.learning.models.ModelWeights(trainable, [np.float32([m]), np.float32([1.0])])
    for m in (50, 150)
  ]
  evaluator = evaluation.Evaluator(batch_norm_fn, ["features"])
  images = np.full((2, 1, 1, 1), 100, np.uint8)
  assert evaluator.predict_clients(clients, images).tolist() == [[1, 1], [0, 0]]


def test_classifier_kernel_holds_the_templates():
  weights = weights_of(LENET(seed=5))
  evaluator = evaluation.Evaluator(LENET)
  kernel = evaluator.classifier_kernel(weights)
  assert kernel.shape == (128, 10)
  np.testing.assert_array_equal(kernel, weights.trainable[-2])
  other = evaluator.classifier_kernel(weights, "penultimate")
  np.testing.assert_array_equal(other, weights.trainable[-4])
