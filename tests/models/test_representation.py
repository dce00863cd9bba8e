"""The differentiable representation: equal to Keras, in value and in gradient."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models import MODELS, split
from models.representation import Representation
from tests import doubles

CASES = ("lenet", "mobilenet")


def case(name):
  spec = MODELS[name]
  keras_fn = functools.partial(spec.build, seed=3)
  images = np.random.default_rng(0).integers(0, 256, (2, *spec.image_shape))
  return keras_fn, images.astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_kerass(name):
  keras_fn, images = case(name)
  function, model = Representation(split.make_model_fn(keras_fn)), keras_fn()
  tap = tf.keras.Model(model.inputs, model.get_layer("penultimate").output)
  variables, moving = model.trainable_variables, model.non_trainable_variables
  with tf.GradientTape(persistent=True) as tape:
    expected = tf.reshape(tap(images, training=False), [2, -1])
    found = function(images, variables, moving)
    one, two = tf.reduce_sum(expected**2), tf.reduce_sum(found**2)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  pairs = zip(tape.gradient(one, variables), tape.gradient(two, variables), strict=True)
  for a, b in pairs:
    assert (a is None) == (b is None)
    if a is not None:
      scale = float(tf.reduce_max(tf.abs(a))) + 1e-12
      np.testing.assert_allclose(a / scale, b / scale, atol=1e-3)


def test_gradients_reach_variables_inside_a_loop_of_a_graph():
  """The form in which attacks use it."""
  function = Representation(doubles.tiny_keras)
  start = doubles.tiny_keras().get_weights()
  images, _ = doubles.tiny_images(0)
  variables = [tf.Variable(w) for w in start]

  @tf.function
  def descend():
    for _ in tf.range(2):
      with tf.GradientTape() as tape:
        loss = tf.reduce_sum(function(images, variables, []) ** 2)
      for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
        if g is not None:
          v.assign_sub(0.01 * g)

  before = float(tf.reduce_sum(function(images, variables, []) ** 2))
  descend()
  assert float(tf.reduce_sum(function(images, variables, []) ** 2)) < 0.9 * before
  np.testing.assert_array_equal(variables[2], start[2])


def test_it_knows_its_sizes():
  function = Representation(doubles.tiny_keras)
  assert function.width == 3 and function.num_classes == 2
  assert function.image_shape == (2, 2, 1) and "penultimate" in repr(function)


def test_unknown_layer_raises_with_the_nearest():
  with pytest.raises(ValueError, match="penultimate"):
    Representation(doubles.tiny_keras, "penultimat")


def test_what_makes_no_keras_model_raises():
  with pytest.raises(TypeError, match="must return a tf.keras.Model"):
    Representation(lambda: 3)
