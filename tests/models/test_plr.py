"""PLR functions: equal to the Keras layer, in every kind of context."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models import MODELS, split


@functools.cache
def case(name):
  """(model, images, plr)."""
  spec = MODELS[name]
  keras_fn = functools.partial(spec.build, seed=3)
  images = np.random.default_rng(0).integers(0, 256, (4, *spec.image_shape))
  return keras_fn(), images, split.plr_fn(keras_fn, images)


def calibrated(name):
  """A copy of the case's model whose moving statistics are those of its images.

  With the initial ones an untrained MobileNet's PLR is 1e-19: nothing to compare.
  """
  _, images, _ = case(name)
  model = MODELS[name].build(seed=3)
  for layer in model.layers:
    if isinstance(layer, tf.keras.layers.BatchNormalization):
      layer.momentum = 0.0
  model(images.astype(np.float32), training=True)
  return model, [v.numpy() for v in model.non_trainable_variables]


def keras_plr(model, images, layer="penultimate"):
  tap = tf.keras.Model(model.input, model.get_layer(layer).output)
  return tap(images.astype(np.float32), training=False).numpy()


def assert_close(result, expected):
  """Graphs fuse convolution and BatchNorm, which rounds otherwise: compare norms."""
  error = np.linalg.norm(result - expected) / np.linalg.norm(expected)
  assert error < 1e-3, error


def flat(model):
  return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


def lenet():
  return MODELS["lenet"].build(seed=3)


def pixels(m=4):
  return np.random.default_rng(1).integers(0, 256, (m, 28, 28, 1))


@pytest.mark.parametrize(
  "name", ["fmnist_cnn", "cifar_cnn", "kather_cnn", "lenet", "mobilenet", "resnet18"]
)
def test_plr_is_the_layers_output(name):
  _, images, plr = case(name)
  model, statistics = calibrated(name)
  expected = keras_plr(model, images)
  assert expected.max() > 0.01
  result = plr(model.trainable_variables, statistics)
  assert result.shape == (4, plr.width) == (plr.num_samples, expected.shape[1])
  assert result.dtype == tf.float32
  assert_close(result, expected)
  many = plr.many(np.stack([flat(model)] * 2), statistics)
  assert_close(many, np.stack([expected] * 2))


def test_plr_follows_the_weights_it_is_given_and_keeps_none():
  model, images, plr = case("cifar_cnn")
  other = MODELS["cifar_cnn"].build(seed=99)
  rows = np.stack([flat(model), flat(other), flat(model)])
  result = plr.many(rows).numpy()
  np.testing.assert_allclose(result[0], keras_plr(model, images), atol=1e-5)
  np.testing.assert_allclose(result[1], keras_plr(other, images), atol=1e-5)
  np.testing.assert_array_equal(result[0], result[2])


def test_plr_is_after_the_relu():
  model, _, plr = case("lenet")
  assert float(tf.reduce_min(plr(model.trainable_variables))) == 0.0


def test_number_of_models_may_be_unknown_or_zero():
  model, _, plr = case("lenet")
  signature = [tf.TensorSpec([None, 1_199_882], tf.float32)]
  many = tf.function(plr.many, input_signature=signature)
  assert many.get_concrete_function().output_shapes == [None, 4, 128]
  assert many(np.zeros([0, 1_199_882], np.float32)).shape == (0, 4, 128)
  np.testing.assert_array_equal(
    many(flat(model)[None])[0], plr(model.trainable_variables)
  )


@pytest.mark.parametrize("pack", [list, tuple, lambda v: {"a": v[:3], "b": v[3:]}])
def test_weights_come_in_any_structure(pack):
  model, images, plr = case("lenet")
  weights = pack([v.numpy() for v in model.trainable_variables])
  np.testing.assert_allclose(plr(weights), keras_plr(model, images), atol=1e-5)


def test_initial_moving_statistics_are_used_unless_given():
  model, images, plr = case("resnet18")
  weights = model.trainable_variables
  initial = [v.numpy() for v in model.non_trainable_variables]
  np.testing.assert_array_equal(plr(weights), plr(weights, initial))
  assert_close(plr(weights), keras_plr(model, images))
  _, statistics = calibrated("resnet18")
  assert np.abs(plr(weights) - plr(weights, statistics)).max() > 0.1


def test_other_layers_are_flattened():
  plr = split.plr_fn(lenet, pixels(), layer="pool")
  model = lenet()
  expected = keras_plr(model, pixels(), "pool").reshape(4, -1)
  assert plr.width == 12 * 12 * 64
  np.testing.assert_allclose(plr(model.trainable_variables), expected, atol=1e-5)


def test_inside_tf_function_and_loop_over_clients():
  model, images, plr = case("lenet")
  rows = np.stack([flat(model)] * 3)

  @tf.function
  def both(matrix, weights):
    sums = tf.map_fn(lambda row: tf.reduce_sum(plr.many(row[None])), matrix)
    return sums, plr(weights)

  sums, one = both(rows, [v.numpy() for v in model.trainable_variables])
  np.testing.assert_allclose(one, keras_plr(model, images), atol=1e-5)
  np.testing.assert_allclose(sums, [np.sum(one)] * 3, rtol=1e-5)


def test_first_use_inside_a_graph_then_eagerly():
  plr = split.plr_fn(lenet, pixels())
  with tf.Graph().as_default():
    weights = [tf.zeros(v.shape) for v in case("lenet")[0].trainable_variables]
    assert plr(weights).shape == (4, 128)
  model = lenet()
  np.testing.assert_allclose(
    plr(model.trainable_variables), keras_plr(model, pixels()), atol=1e-5
  )


def test_model_is_built_once_and_only_when_needed():
  calls = []

  def counted():
    calls.append(None)
    return lenet()

  plr = split.plr_fn(counted, pixels())
  assert plr.num_samples == 4
  assert not calls
  assert plr.width == 128
  plr(case("lenet")[0].trainable_variables)
  assert len(calls) == 1


def test_finished_model_may_be_returned():
  model, images, _ = case("cifar_cnn")
  plr = split.plr_fn(lambda: model, images)
  np.testing.assert_allclose(
    plr(model.trainable_variables), keras_plr(model, images), atol=1e-5
  )


def test_held_tensors_become_constants():
  offset = tf.constant([1.0, 2.0])

  def keras_fn():
    image = tf.keras.Input([1, 1, 1])
    x = tf.keras.layers.Flatten()(image)
    x = tf.keras.layers.Dense(2, name="dense")(x)
    x = tf.keras.layers.Lambda(lambda t: t + offset, name="penultimate")(x)
    return tf.keras.Model(image, x)

  plr = split.plr_fn(keras_fn, np.ones([1, 1, 1, 1]))
  weights = [np.array([[10.0, 20.0]], np.float32), np.zeros(2, np.float32)]
  np.testing.assert_allclose(plr(weights), [[11.0, 22.0]])


@pytest.mark.parametrize(
  ("operation", "expected"),
  [
    (tf.keras.layers.Concatenate(), [2.0, 2.0]),
    (tf.keras.layers.Add(), [4.0]),
    (tf.keras.layers.Multiply(), [4.0]),
  ],
  ids=lambda value: getattr(value, "name", None),
)
def test_an_operation_may_take_one_tensor_twice(operation, expected):
  def keras_fn():
    image = tf.keras.Input([1, 1, 1])
    x = tf.keras.layers.Dense(1, use_bias=False)(tf.keras.layers.Flatten()(image))
    x = operation.from_config(operation.get_config())([x, x])
    return tf.keras.Model(image, tf.keras.layers.Flatten(name="penultimate")(x))

  plr = split.plr_fn(keras_fn, np.ones([1, 1, 1, 1]))
  assert plr([np.float32([[2.0]])]).numpy().tolist() == [expected]


def with_frozen_layer(seed):
  """A model whose first layer is not trained."""
  initialiser = tf.keras.initializers.GlorotUniform(seed=seed)
  frozen = tf.keras.layers.Dense(
    2, kernel_initializer=initialiser, trainable=False, name="frozen"
  )
  image = tf.keras.Input([2, 2, 1])
  x = frozen(tf.keras.layers.Flatten()(image))
  x = tf.keras.layers.Dense(1, use_bias=False, name="penultimate")(x)
  return tf.keras.Model(image, x)


def test_frozen_layers_are_those_of_every_build_and_no_moving_statistics():
  keras_fn = functools.partial(with_frozen_layer, 1)
  plr = split.plr_fn(keras_fn, np.ones([1, 2, 2, 1]))
  model = keras_fn()
  found = plr(model.trainable_variables)
  np.testing.assert_allclose(found, keras_plr(model, np.ones([1, 2, 2, 1])), rtol=1e-5)
  assert not plr.has_moving_statistics and case("mobilenet")[2].has_moving_statistics


def test_frozen_layers_drawn_anew_raise_unless_they_are_given():
  plr = split.plr_fn(functools.partial(with_frozen_layer, None), np.ones([1, 2, 2, 1]))
  weights = [np.ones([2, 1], np.float32)]
  for call in (lambda: plr(weights), lambda: plr.many(np.ones([3, 2]))):
    with pytest.raises(
      ValueError, match=r"plr_fn: frozen layers.*'frozen/kernel:0'.*ed"
    ):
      call()
  given = [np.ones([4, 2], np.float32), np.zeros(2, np.float32)]
  assert plr(weights, given).numpy().tolist() == [[8.0]]


def test_moving_statistics_behind_the_layer_do_not_count():
  def keras_fn():
    image = tf.keras.Input([2, 2, 1])
    x = tf.keras.layers.Dense(2, name="penultimate")(tf.keras.layers.Flatten()(image))
    return tf.keras.Model(image, tf.keras.layers.BatchNormalization()(x))

  assert not split.plr_fn(keras_fn, np.ones([1, 2, 2, 1])).has_moving_statistics


# Errors


@pytest.mark.parametrize(
  "model_fn", [None, "lenet", lambda seed: lenet(), tf.keras.Sequential()]
)
def test_what_is_no_model_function_raises(model_fn):
  with pytest.raises(TypeError, match="plr_fn: `model_fn` must be a function"):
    split.plr_fn(model_fn, pixels())


def test_function_of_something_else_raises_when_used():
  plr = split.plr_fn(lambda: "no model", pixels())
  with pytest.raises(TypeError, match="make_model_fn, got a function returning str"):
    _ = plr.width


def test_missing_layer_raises_with_the_nearest_name():
  plr = split.plr_fn(lenet, pixels(), layer="penultimat")
  message = "`layer`.*'lenet', got 'penultimat'.*Did you mean 'penultimate'.*conv1"
  with pytest.raises(ValueError, match=message):
    _ = plr.width


@pytest.mark.parametrize("shape", [(28, 28, 1), (0, 28, 28, 1)])
def test_images_of_another_rank_or_none_raise(shape):
  with pytest.raises(ValueError, match=r"plr_fn: `images`.*\[m, H, W, C\]"):
    split.plr_fn(lenet, np.zeros(shape))


def test_images_of_another_size_raise():
  plr = split.plr_fn(lenet, np.zeros([2, 32, 32, 1]))
  with pytest.raises(ValueError, match=r"`images`.*\(28, 28, 1\), got \(32, 32, 1\)"):
    _ = plr.width


def test_weights_of_another_structure_raise():
  model, _, plr = case("lenet")
  weights = [v.numpy() for v in model.trainable_variables]
  with pytest.raises(ValueError, match="`weights` must be 8 tensors.*got 7"):
    plr(weights[:-1])
  with pytest.raises(ValueError, match="`weights` must be 8 tensors"):
    plr(weights[::-1])
  with pytest.raises(ValueError, match="`moving_statistics` must be 0 tensors.*got 1"):
    plr(weights, [np.zeros(3)])


def test_rows_of_another_length_raise():
  _, _, plr = case("lenet")
  with pytest.raises(ValueError, match=r"`flat_weights`.*d = 1199882.*\(2, 7\)"):
    plr.many(np.zeros([2, 7], np.float32))


def test_variable_read_in_part_raises():
  def keras_fn():
    image = tf.keras.Input([2, 2, 1])
    x = tf.keras.layers.Embedding(256, 3)(tf.keras.layers.Flatten()(image))
    x = tf.keras.layers.Flatten(name="penultimate")(x)
    return tf.keras.Model(image, x)

  plr = split.plr_fn(keras_fn, np.zeros([1, 2, 2, 1]))
  with pytest.raises(ValueError, match="plr_fn: every variable.*ResourceGather"):
    _ = plr.width
