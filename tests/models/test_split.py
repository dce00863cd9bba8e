"""Layer cuts and model functions."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models import MODELS, split

NAMES = [
  "stem_conv/kernel:0",
  "block1_dw_conv/depthwise_kernel:0",
  "block10_dw_conv/depthwise_kernel:0",
  "classifier/kernel:0",
  "classifier/bias:0",
]


@pytest.mark.parametrize(
  ("patterns", "expected"),
  [
    (["stem*"], [1, 0, 0, 0, 0]),
    (["block1_*"], [0, 1, 0, 0, 0]),
    (["block1*"], [0, 1, 0, 0, 0]),
    (["block10*"], [0, 0, 1, 0, 0]),
    (["block*"], [0, 1, 1, 0, 0]),
    (["classifier"], [0, 0, 0, 1, 1]),
    (["stem_conv", "block1*", "block10*"], [1, 1, 1, 0, 0]),
    (["*"], [1, 1, 1, 1, 1]),
    ("stem*", [1, 0, 0, 0, 0]),
  ],
)
def test_patterns_select_layers(patterns, expected):
  assert split.is_shared(NAMES, patterns) == [bool(flag) for flag in expected]


def test_pattern_without_a_layer_names_the_nearest():
  with pytest.raises(ValueError, match="got 'classifer'.*Did you mean 'classifier'"):
    split.is_shared(NAMES, ["stem*", "classifer"])


@pytest.mark.parametrize(("names", "patterns"), [(NAMES, []), ([], ["stem*"])])
def test_nothing_shared_raises(names, patterns):
  with pytest.raises(ValueError, match="is_shared: `shared_layers`"):
    split.is_shared(names, patterns)


def test_trainable_names_survive_a_second_model_in_one_graph():
  with tf.Graph().as_default():
    MODELS["lenet"].build()
    second = MODELS["lenet"].build()
    assert second.trainable_variables[0].name == "conv1_1/kernel:0"
    assert split.trainable_names(second)[0] == "conv1/kernel:0"


def test_moving_statistics_are_named_after_their_layer():
  model = MODELS["resnet18"].build()
  names = split.non_trainable_names(model)
  assert len(names) == len(model.non_trainable_variables)
  assert {name.split("/")[1] for name in names} == {
    "moving_mean:0",
    "moving_variance:0",
  }
  layers = {layer.name for layer in model.layers}
  assert {split.layer_of(name) for name in names} <= layers
  assert split.non_trainable_names(MODELS["lenet"].build()) == []


# model_fn


def test_model_fn_makes_a_tff_model():
  keras_fn = functools.partial(MODELS["cifar_cnn"].build, seed=5)
  model_fn = split.make_model_fn(keras_fn)
  assert model_fn.keras_fn is keras_fn
  model = model_fn()
  assert model.input_spec["x"] == tf.TensorSpec([None, 32, 32, 3], tf.float32)
  assert model.input_spec["y"] == tf.TensorSpec([None], tf.int32)
  for a, b in zip(model.trainable_variables, keras_fn().weights, strict=True):
    np.testing.assert_array_equal(a, b)
  batch = {"x": np.zeros([2, 32, 32, 3], np.float32), "y": np.array([1, 2], np.int32)}
  output = model.forward_pass(batch, training=True)
  labels = tf.one_hot(batch["y"], 10)
  expected = tf.nn.softmax_cross_entropy_with_logits(labels, output.predictions)
  assert float(output.loss) == pytest.approx(float(tf.reduce_mean(expected)), rel=1e-5)


def test_model_fn_takes_another_loss():
  loss = tf.keras.losses.SparseCategoricalCrossentropy(
    from_logits=True, reduction="sum"
  )
  model = split.make_model_fn(MODELS["lenet"].build, loss=loss)()
  batch = {"x": np.zeros([4, 28, 28, 1], np.float32), "y": np.zeros(4, np.int32)}
  one = {key: value[:1] for key, value in batch.items()}
  four_losses = model.forward_pass(batch, training=False).loss
  one_loss = model.forward_pass(one, training=False).loss
  assert float(four_losses) == pytest.approx(4 * float(one_loss), rel=1e-5)


def test_model_fn_of_something_else_raises():
  with pytest.raises(TypeError, match="make_model_fn: `keras_fn`"):
    split.make_model_fn(lambda seed: MODELS["lenet"].build(seed=seed))


# split_forward


@pytest.mark.parametrize("name", ["cifar_cnn", "lenet", "mobilenet", "resnet18"])
def test_two_halves_make_the_whole(name):
  spec = MODELS[name]
  model = spec.build(seed=2)
  images = np.random.default_rng(0).uniform(0, 255, (3, *spec.image_shape))
  features, classify = split.split_forward(model, spec.shared_layers)
  np.testing.assert_allclose(classify(features(images)), model(images), atol=1e-5)
  shared = split.is_shared(split.trainable_names(model), spec.shared_layers)
  counts = len(features.trainable_variables), len(classify.trainable_variables)
  assert counts == (sum(shared), len(shared) - sum(shared))


def test_features_do_not_depend_on_private_layers_and_logits_do():
  model = MODELS["lenet"].build()
  features, classify = split.split_forward(model, ["conv1", "conv2"])
  assert features.output_shape == (None, 12 * 12 * 64)
  images = np.full((1, 28, 28, 1), 100, np.float32)
  before = features(images).numpy(), classify(features(images)).numpy()
  model.get_layer("classifier").bias.assign_add(tf.ones([10]))
  np.testing.assert_array_equal(features(images), before[0])
  np.testing.assert_allclose(classify(features(images)), before[1] + 1, atol=1e-5)


def test_cut_between_residual_stages_goes_before_the_padding():
  model = MODELS["resnet18"].build()
  patterns = ["stem*", "stage1*", "stage2*", "stage3*"]
  features, classify = split.split_forward(model, patterns)
  assert features.output_shape == (None, 2, 2, 256)
  images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
  np.testing.assert_allclose(classify(features(images)), model(images), atol=1e-5)


def test_one_model_may_be_cut_twice():
  model = MODELS["mobilenet"].build()
  images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
  for cut in ("table7_b_10", "table7_a_10"):
    features, classify = split.split_forward(model, MODELS["mobilenet"].cuts[cut])
    np.testing.assert_allclose(classify(features(images)), model(images), atol=1e-5)


@pytest.mark.parametrize(
  ("name", "patterns"),
  [
    ("lenet", ["conv1", "classifier"]),  # private in the middle
    ("lenet", ["classifier"]),  # shared after private
    ("resnet18", ["stem*", "stage1_block0_conv1"]),  # around the cut goes a shortcut
  ],
)
def test_cut_that_is_no_boundary_raises(name, patterns):
  with pytest.raises(ValueError, match="split_forward: `shared_layers` must end"):
    split.split_forward(MODELS[name].build(), patterns)


def test_nothing_private_raises():
  with pytest.raises(ValueError, match="must leave a private layer"):
    split.split_forward(MODELS["lenet"].build(), ["*"])
