"""The registry: sizes by hand, names, cuts, seeds and shapes of every model."""

import dataclasses
import functools
import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models import ALL_SHARED, MODELS, split

SMALL = [name for name in MODELS if name not in ("resnet50", "resnet101")]


@functools.cache
def default_model(name):
  return MODELS[name].build(seed=1)


def size(variables):
  return sum(int(np.prod(v.shape)) for v in variables)


def conv(inputs, filters, size_):
  return size_ * size_ * inputs * filters + filters


def dense(inputs, units):
  return inputs * units + units


def convnorm(inputs, filters, size_):  # no bias; gamma and beta
  return size_ * size_ * inputs * filters + 2 * filters


def basic_resnet18():
  total = convnorm(3, 64, 7)
  for before, width in ((64, 64), (64, 128), (128, 256), (256, 512)):
    total += convnorm(before, width, 3) + 3 * convnorm(width, width, 3)
    total += convnorm(before, width, 1) if before != width else 0
  return total + dense(512, 100)


def bottleneck_resnet(num_blocks):
  total, before = convnorm(3, 64, 7), 64
  for stage, blocks in enumerate(num_blocks):
    width = 64 * 2**stage
    total += convnorm(before, 4 * width, 1)  # the shortcut of the first block
    for _ in range(blocks):
      total += convnorm(before, width, 1) + convnorm(width, width, 3)
      total += convnorm(width, 4 * width, 1)
      before = 4 * width
  return total + dense(2048, 100)


def mobilenet():
  widths = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
  total = convnorm(3, 32, 3)
  for before, width in itertools.pairwise(widths):
    total += 9 * before + 2 * before + convnorm(before, width, 1)
  return total + dense(1024, 10)


BY_HAND = {
  "fmnist_cnn": (
    conv(1, 64, 5) + conv(64, 64, 5) + dense(20 * 20 * 64, 128) + dense(128, 10),
    8,
  ),
  "cifar_cnn": (
    conv(3, 64, 3) + 2 * conv(64, 64, 3) + dense(2 * 2 * 64, 128) + dense(128, 10),
    10,
  ),
  "kather_cnn": (
    conv(3, 64, 3)
    + 3 * conv(64, 64, 3)
    + conv(64, 128, 3)
    + dense(4 * 4 * 128, 128)
    + dense(128, 8),
    14,
  ),
  "lenet": (
    conv(1, 32, 3) + conv(32, 64, 3) + dense(12 * 12 * 64, 128) + dense(128, 10),
    8,
  ),
  "mobilenet": (mobilenet(), 3 + 13 * 6 + 2),
  "resnet18": (basic_resnet18(), 3 * (1 + 16 + 3) + 2),
  "resnet50": (bottleneck_resnet((3, 4, 6, 3)), 3 * (1 + 3 * 16 + 4) + 2),
  "resnet101": (bottleneck_resnet((3, 4, 23, 3)), 3 * (1 + 3 * 33 + 4) + 2),
}

PUBLISHED = {
  "fmnist_cnn": (3_382_346, 8),
  "cifar_cnn": (109_834, 10),
  "kather_cnn": (449_736, 14),
  "lenet": (1_199_882, 8),
  "mobilenet": (3_217_226, 83),
  "resnet18": (11_227_812, 62),
  # torchvision's 25,557,032 and 44,549,160 with 100 classes instead of 1000.
  "resnet50": (25_557_032 - 900 * 2049, 161),
  "resnet101": (44_549_160 - 900 * 2049, 314),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameter_count_equals_the_arithmetic_and_the_published_number(name):
  model = default_model(name)
  counted = size(model.trainable_variables), len(model.trainable_variables)
  assert counted == BY_HAND[name] == PUBLISHED[name]
  assert MODELS[name].num_parameters == counted[0]
  assert MODELS[name].has_moving_statistics == bool(model.non_trainable_variables)


@pytest.mark.parametrize("name", MODELS)
def test_named_layers_and_shapes(name):
  model, spec = default_model(name), MODELS[name]
  assert spec.name == name
  assert model.input_shape == (None, *spec.image_shape)
  assert model.output_shape == (None, spec.num_classes)
  assert model.layers[-1].name == "classifier"
  assert model.layers[-1].activation is tf.keras.activations.linear
  width = {"mobilenet": 1024, "resnet18": 512, "resnet50": 2048, "resnet101": 2048}
  assert model.get_layer("penultimate").output_shape == (None, width.get(name, 128))


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_finite(name):
  images = np.random.default_rng(0).integers(0, 256, (2, *MODELS[name].image_shape))
  logits = default_model(name)(images.astype(np.uint8))
  assert logits.shape == (2, MODELS[name].num_classes)
  assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", SMALL)
def test_one_seed_one_model(name):
  first, again = default_model(name), MODELS[name].build(seed=1)
  other = MODELS[name].build(seed=2)
  for a, b, c in zip(first.weights, again.weights, other.weights, strict=True):
    np.testing.assert_array_equal(a, b)
    if "kernel" in a.name:
      assert np.any(a.numpy() != c.numpy()), a.name


def test_layers_of_equal_shape_start_differently():
  model = default_model("cifar_cnn")
  kernels = [model.get_layer(name).kernel.numpy() for name in ("conv2", "conv3")]
  assert np.any(kernels[0] != kernels[1])


@pytest.mark.parametrize("name", MODELS)
def test_every_variable_is_on_exactly_one_side_of_every_cut(name):
  spec = MODELS[name]
  names = split.trainable_names(default_model(name))
  assert names == [v.name for v in default_model(name).trainable_variables]
  for label, patterns in {"default": spec.shared_layers, **spec.cuts}.items():
    shared = split.is_shared(names, patterns)
    layers = {True: set(), False: set()}
    for variable, flag in zip(names, shared, strict=True):
      layers[flag].add(split.layer_of(variable))
    assert not layers[True] & layers[False], label
    assert all(shared) == (patterns == ALL_SHARED), label
    assert all(shared) or not shared[-1], label


def last_shared(name, patterns):
  shared = split.is_shared(split.trainable_names(default_model(name)), patterns)
  last = max(i for i, flag in enumerate(shared) if flag)
  assert shared == [i <= last for i in range(len(shared))]
  return last


@pytest.mark.parametrize(
  ("name", "index"),
  [("lenet", 3), ("mobilenet", 80), ("resnet18", 59), ("cifar_cnn", 7)],
)
def test_default_cut_is_the_authors_index(name, index):
  assert last_shared(name, MODELS[name].shared_layers) == index


@pytest.mark.parametrize(
  ("cut", "index"),
  [
    ("table7_a_10", 68),
    ("table7_a_11", 74),
    ("table7_a_12", 80),
    ("table7_a_13", 82),
    ("table7_b_10", 62),
    ("table7_b_11", 68),
    ("table7_b_12", 74),
    ("table7_b_13", 80),
  ],
)
def test_both_readings_of_table_7(cut, index):
  assert last_shared("mobilenet", MODELS["mobilenet"].cuts[cut]) == index


def test_resnet18_readme_cut_shares_everything():
  cuts = MODELS["resnet18"].cuts
  assert last_shared("resnet18", cuts["authors_59"]) == 59
  assert last_shared("resnet18", cuts["authors_readme_69"]) == 61


def test_patterns_of_the_specification_select_the_default_cut_of_mobilenet():
  patterns = ["stem*", *(f"block{b}*" for b in range(13))]
  assert last_shared("mobilenet", patterns) == 80


def test_lenet_shares_little():
  model = default_model("lenet")
  shared = split.is_shared(split.trainable_names(model), MODELS["lenet"].shared_layers)
  kept = [v for v, flag in zip(model.trainable_variables, shared, strict=True) if flag]
  assert size(kept) == 18_816 == conv(1, 32, 3) + conv(32, 64, 3)
  assert round(100 * size(kept) / size(model.trainable_variables), 2) == 1.57


def test_lenet_has_no_activation_after_conv1_unless_asked():
  assert default_model("lenet").get_layer("conv1").activation(-1.0) == -1.0
  asked = MODELS["lenet"].build(activation_after_conv1=True)
  assert float(asked.get_layer("conv1").activation(-1.0)) == 0.0


def test_norms_have_pytorchs_settings():
  norms = [
    layer
    for layer in default_model("mobilenet").layers
    if isinstance(layer, tf.keras.layers.BatchNormalization)
  ]
  assert len(norms) == 27
  assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}


def test_resnet_maps_have_torchvisions_sizes():
  model = default_model("resnet50")
  layers = ["stem_bn", "stem_pool", *(f"stage{s}_block2_add" for s in (1, 2, 3, 4))]
  sizes = [model.get_layer(layer).output_shape[1] for layer in layers]
  assert sizes == [16, 8, 8, 4, 2, 1]


def test_strided_convolution_pads_both_sides_as_pytorch_does():
  model = default_model("resnet18")
  kernel = model.get_layer("stem_conv").kernel
  image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
  expected = tf.nn.conv2d(image, kernel, 2, [[0, 0], [3, 3], [3, 3], [0, 0]])
  padded = model.get_layer("stem_conv_pad")(image)
  np.testing.assert_allclose(model.get_layer("stem_conv")(padded), expected, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(33, 40, 3), (36, 36, 1)])
def test_other_images_and_classes_work(name, shape):
  model = MODELS[name].build(image_shape=shape, num_classes=7)
  assert model(np.zeros((2, *shape), np.float32)).shape == (2, 7)


@pytest.mark.parametrize(
  ("name", "least"),
  [("fmnist_cnn", 9), ("cifar_cnn", 22), ("kather_cnn", 32), ("lenet", 6)],
)
def test_too_small_images_raise_and_the_least_size_works(name, least):
  MODELS[name].build(image_shape=(least, least, 1))
  with pytest.raises(ValueError, match=rf"{name}: `image_shape`.*{least}x{least}"):
    MODELS[name].build(image_shape=(least, least - 1, 1))


@pytest.mark.parametrize("name", ["mobilenet", "resnet18"])
def test_padded_models_take_any_size(name):
  assert MODELS[name].build(image_shape=(1, 1, 1)).output_shape[0] is None


def test_unknown_depth_raises_with_its_name():
  with pytest.raises(ValueError, match="depth"):
    MODELS["resnet18"].build(depth=34)


def test_specs_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    MODELS["lenet"].num_classes = 3
  with pytest.raises(TypeError):
    MODELS["lenet"].cuts["new"] = ("conv1",)


def test_reading_the_registry_imports_no_tensorflow():
  code = "import sys, models; print(len(models.MODELS), 'tensorflow' in sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == [str(len(MODELS)), "False"]
