"""FLARE's start on the auxiliary data against plain Keras training."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tests import doubles
from tff_defenses.learning import fed_avg, pretraining

pytestmark = pytest.mark.usefixtures("runtime")
SGD = tff.learning.optimizers.build_sgdm(0.1)
MODEL_FN = split.make_model_fn(doubles.tiny_keras)
IMAGES, LABELS = doubles.tiny_images(0, size=5)


def pretrain(**settings):
  settings = {"epochs": 2, "batch_size": 2, **settings}
  return pretraining.pretrain(MODEL_FN, IMAGES, LABELS, SGD, **settings)


def train_in_keras(epochs, start=None, images=5):
  model = doubles.tiny_keras()
  if start is not None:
    model.set_weights(start)
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(tf.keras.optimizers.SGD(0.1), loss)
  data = IMAGES[:images], LABELS[:images]
  model.fit(*data, batch_size=2, epochs=epochs, shuffle=False, verbose=0)
  return model.get_weights()


def assert_close(found, expected):
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("epochs", [1, 3])
def test_equals_keras_on_the_same_images_in_the_same_order(epochs):
  """Five images in batches of two: the last, smaller batch counts as well."""
  found = pretrain(epochs=epochs)
  assert isinstance(found, tff.learning.models.ModelWeights)
  assert_close(found.trainable, train_in_keras(epochs))
  assert list(found.non_trainable) == []


def test_uint8_images_train_like_floats():
  found = pretraining.pretrain(
    MODEL_FN, IMAGES.astype(np.uint8), LABELS, SGD, epochs=2, batch_size=2
  )
  assert_close(found.trainable, train_in_keras(2))


def test_starts_from_the_given_weights():
  start = [w + 0.5 for w in doubles.tiny_keras().get_weights()]
  weights = tff.learning.models.ModelWeights(start, [])
  found = pretrain(initial_weights=weights)
  assert_close(found.trainable, train_in_keras(2, start))
  assert_close(start, [w + 0.5 for w in doubles.tiny_keras().get_weights()])


def test_moving_statistics_are_trained_too():
  def keras_fn():
    norm = tf.keras.layers.BatchNormalization(momentum=0.0)
    return tf.keras.Sequential(
      [tf.keras.Input([2, 2, 1]), norm, *doubles.tiny_keras().layers]
    )

  model_fn = split.make_model_fn(keras_fn)
  found = pretraining.pretrain(model_fn, IMAGES, LABELS, SGD, epochs=1, batch_size=5)
  assert float(found.non_trainable[0][0]) == pytest.approx(IMAGES.mean(), rel=1e-5)


def test_result_is_where_fed_avg_starts():
  found = pretrain()
  process = fed_avg.build_fed_avg(MODEL_FN, SGD, initial_weights=found)
  weights = process.initialize().global_model_weights
  for a, b in zip(weights.trainable, found.trainable, strict=True):
    np.testing.assert_array_equal(a, b)


def start_of(**settings):
  process = fed_avg.build_fed_avg(MODEL_FN, SGD, **settings)
  return process.initialize().global_model_weights.trainable


def test_fed_avg_pretrains_on_the_auxiliary_data():
  found = start_of(auxiliary_data=(IMAGES, LABELS), local_epochs=2)
  assert_close(found, pretrain(batch_size=32).trainable)


def test_fed_avg_pretrains_from_the_given_weights():
  start = [w + 0.5 for w in doubles.tiny_keras().get_weights()]
  weights = tff.learning.models.ModelWeights(start, [])
  found = start_of(auxiliary_data=(IMAGES[:2], LABELS[:2]), initial_weights=weights)
  assert_close(found, train_in_keras(1, start, images=2))


def test_fed_avg_starts_untrained_without_auxiliary_data():
  assert_close(start_of(), doubles.tiny_keras().get_weights())


def test_as_many_labels_as_images():
  with pytest.raises(ValueError, match="pretrain: `images` and `labels`.* 5 and 4"):
    pretraining.pretrain(MODEL_FN, IMAGES, LABELS[:4], SGD, epochs=1)


@pytest.mark.parametrize("epochs", [0, -1, 1.5])
def test_bad_epochs_raise_with_their_name(epochs):
  with pytest.raises(ValueError, match="pretrain: `epochs`.* got"):
    pretrain(epochs=epochs)
