"""FLTrust's root training against a plain TensorFlow loop and a step by hand."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tests import doubles
from tff_defenses.aggregators import fltrust
from tff_defenses.learning import client_work, root_training

SGD = tff.learning.optimizers.build_sgdm(0.1)
MODEL_FN = split.make_model_fn(doubles.tiny_keras)
IMAGES, LABELS = doubles.tiny_images(0, size=5)


def theta():
  """Weights that are not the model's initial ones."""
  return [w + np.float32(0.3) for w in doubles.tiny_keras().get_weights()]


def build(model_fn=MODEL_FN, images=IMAGES, labels=LABELS, **settings):
  settings = {"epochs": 2, "batch_size": 2, **settings}
  return root_training.build_root_update_fn(model_fn, images, labels, SGD, **settings)


def update_by_hand(start, epochs, batch_size, rate=0.1):
  """Initial minus trained, by gradient descent on plain arrays of weights."""
  k1, b1, k2, b2 = (tf.Variable(w) for w in start)
  for _ in range(epochs):
    for at in range(0, len(IMAGES), batch_size):
      x = IMAGES[at : at + batch_size].reshape(-1, 4) / np.float32(255)
      y = tf.one_hot(LABELS[at : at + batch_size], 2)
      with tf.GradientTape() as tape:
        logits = tf.nn.relu(x @ k1 + b1) @ k2 + b2
        losses = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_sum(y * logits, axis=1)
        loss = tf.reduce_mean(losses)
      for variable, slope in zip(
        (k1, b1, k2, b2), tape.gradient(loss, (k1, b1, k2, b2)), strict=True
      ):
        variable.assign_sub(rate * slope)
  return [s - v.numpy() for s, v in zip(start, (k1, b1, k2, b2), strict=True)]


def in_tff(root_update_fn, weights):
  @tff.tensorflow.computation
  def compute():
    return root_update_fn([tf.constant(w) for w in weights])

  return compute()


def assert_close(found, expected):
  assert len(found) == len(expected)
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 2), (3, 2), (2, None)])
def test_equals_a_plain_training_loop(epochs, batch_size):
  """Five images in batches of two: the last, smaller batch counts as well."""
  found = build(epochs=epochs, batch_size=batch_size)(theta())
  expected = update_by_hand(theta(), epochs, batch_size or 5)
  assert_close(found, expected)
  assert max(np.abs(e).max() for e in expected) > 1e-3


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_equals_a_plain_training_loop_inside_tff(dtype):
  found = in_tff(build(images=IMAGES.astype(dtype)), theta())
  assert_close(found, update_by_hand(theta(), 2, 2))


@pytest.mark.usefixtures("runtime")
def test_one_step_by_hand():
  # y = w x with w = 3: gradient of the mean of (w x - y)^2 over (1, 1) and (2, 0) is
  # (2 * 1 * 2 + 2 * 2 * 6) / 2 = 14; initial minus trained = 0.1 * 14.
  images, labels = np.float32([[1], [2]]), np.float32([[1], [0]])
  fn = build(doubles.one_weight_model, images, labels, epochs=1, batch_size=None)
  weights = [np.float32([[3]])]
  np.testing.assert_allclose(fn(weights)[0], [[1.4]], rtol=1e-6)
  np.testing.assert_allclose(in_tff(fn, weights)[0], [[1.4]], rtol=1e-6)


def test_calls_do_not_influence_each_other():
  fn = build()
  first = [x.numpy() for x in fn(theta())]
  fn([w * 2 for w in theta()])
  for a, b in zip(fn(theta()), first, strict=True):
    np.testing.assert_array_equal(a, b)


def test_result_has_the_structure_of_the_weights():
  names = ("k1", "b1", "k2", "b2")
  weights = tuple(theta())
  found = build()(weights)
  assert isinstance(found, tuple) and len(found) == len(names)


@pytest.mark.usefixtures("runtime")
def test_moving_statistics_start_anew_and_the_update_holds_trainable_ones_only():
  def keras_fn():
    norm = tf.keras.layers.BatchNormalization()
    return tf.keras.Sequential(
      [tf.keras.Input([2, 2, 1]), norm, *doubles.tiny_keras().layers]
    )

  start = [v.numpy() for v in keras_fn().trainable_variables]
  fn = build(split.make_model_fn(keras_fn))
  assert_close(in_tff(fn, start), fn(start))
  assert len(fn(start)) == 6


@pytest.mark.usefixtures("runtime")
def test_a_client_that_trains_on_the_root_data_has_cosine_one():
  factory = fltrust.FLTrustFactory(build())
  weights_type = tff.learning.models.weights_type_from_model(MODEL_FN).trainable
  process = factory.create(weights_type)
  weights = client_work.initial_weights(MODEL_FN).trainable
  update = update_by_hand(weights, 2, 2)
  reversed_update = [-u for u in update]
  output = process.next(process.initialize(), weights, [update, reversed_update])
  np.testing.assert_allclose(output.measurements["cosine"], [1, -1], rtol=1e-5)
  assert_close(output.result, update)


def test_repr_shows_the_settings():
  expected = "RootUpdateFn(images=[5, 2, 2, 1], epochs=2, batch_size=5)"
  assert repr(build(batch_size=None)) == expected


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_bad_settings_raise_with_their_name(name, bad):
  with pytest.raises(ValueError, match=f"build_root_update_fn: `{name}`.* got"):
    build(**{name: bad})


@pytest.mark.parametrize("count", [0, 4])
def test_images_without_labels_raise(count):
  with pytest.raises(ValueError, match="`images` .* one per label"):
    build(labels=LABELS[:count])
  with pytest.raises(ValueError, match="`images` .* one image at least"):
    build(images=IMAGES[:0], labels=LABELS[:0])


def test_weights_of_another_model_raise():
  with pytest.raises(ValueError, match="`weights` .* shapes"):
    build()(theta()[:2])


def test_an_optimizer_of_keras_raises():
  with pytest.raises(TypeError, match="tff.learning.optimizers.Optimizer"):
    root_training.build_root_update_fn(
      MODEL_FN, IMAGES, LABELS, tf.keras.optimizers.SGD(0.1), epochs=1
    )


def test_learning_rate_decays_with_the_round():
  fn = build(rate_decay=0.5)
  found = fn.in_round([tf.constant(w) for w in theta()], tf.constant(3))
  assert_close(found, update_by_hand(theta(), 2, 2, rate=0.1 * 0.5**2))


def test_an_incomplete_batch_is_left_out_unless_it_is_the_only_one():
  weights = [tf.constant(w) for w in theta()]
  found = build(drop_remainder=True, epochs=1)(weights)
  expected = build(images=IMAGES[:4], labels=LABELS[:4], epochs=1)(weights)
  assert_close(found, expected)
  alone = build(drop_remainder=True, epochs=1, batch_size=8)(weights)
  assert_close(alone, build(epochs=1, batch_size=None)(weights))


def test_mappings_are_read_and_made_in_the_order_of_their_keys():
  one, two, *rest = theta()
  names = ("z", "y", "x", "w")  # sorted they would be the model's in reverse
  named = dict(zip(names, (one, two, *rest), strict=True))
  found = build()({name: tf.constant(value) for name, value in named.items()})
  assert tuple(found) == names
  assert_close(list(found.values()), build()([tf.constant(w) for w in theta()]))
