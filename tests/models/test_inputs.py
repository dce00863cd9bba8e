"""Scaling inside the model: values by hand, and each documented error."""

import numpy as np
import pytest
import tensorflow as tf

from models import MODELS, inputs


def scaled(name, pixels, **options):
  """What the layers after the scaling of model `name` see."""
  model = MODELS[name].build(image_shape=pixels.shape, **options)
  layer = model.get_layer("scaling")
  assert not layer.weights
  return tf.keras.Model(model.input, layer.output)(pixels[None])[0].numpy()


def grey(value, channels=1):
  return np.full((32, 32, channels), value, np.float32)


@pytest.mark.parametrize(("pixel", "value"), [(0, 0.0), (51, 0.2), (255, 1.0)])
def test_unit(pixel, value):
  np.testing.assert_allclose(scaled("fmnist_cnn", grey(pixel)), value, atol=1e-6)


def test_mnist():
  np.testing.assert_allclose(scaled("lenet", grey(0)), -0.1307 / 0.3081, rtol=1e-5)
  np.testing.assert_allclose(scaled("lenet", grey(255)), 0.8693 / 0.3081, rtol=1e-5)


def test_cifar_is_per_channel():
  expected = (1 - np.array([0.4914, 0.4822, 0.4465])) / [0.2023, 0.1994, 0.2010]
  values = scaled("mobilenet", grey(255, 3))
  np.testing.assert_allclose(values[5, 7], expected, rtol=1e-5)


def test_flare_cifar_subtracts_the_mean_image():
  mean_image = np.random.default_rng(0).uniform(0, 255, (32, 32, 3))
  values = scaled("cifar_cnn", grey(102, 3), mean_image=mean_image)
  np.testing.assert_allclose(values, 0.4 - mean_image / 255, atol=1e-6)


def test_flare_cifar_without_mean_image_subtracts_the_channel_mean():
  values = scaled("cifar_cnn", grey(102, 3))
  np.testing.assert_allclose(values[0, 0], [-0.0914, -0.0822, -0.0465], atol=1e-6)


def test_default_falls_back_to_unit_on_other_channels():
  np.testing.assert_allclose(scaled("cifar_cnn", grey(51)), 0.2, atol=1e-6)


def test_named_normalisation_overrides_the_default():
  values = scaled("mobilenet", grey(255, 3), normalisation="unit")
  np.testing.assert_allclose(values, 1.0, atol=1e-6)


@pytest.mark.parametrize("spec", MODELS.values(), ids=lambda spec: spec.name)
def test_every_model_names_a_normalisation_that_fits_it(spec):
  channels = inputs.NORMALISATIONS[spec.normalisation].num_channels
  assert channels in (None, spec.image_shape[-1])


@pytest.mark.parametrize(
  ("options", "match"),
  [
    ({"normalisation": "imagenet"}, "lenet: `normalisation` must be one of"),
    ({"normalisation": "cifar"}, "`normalisation` 'cifar'.*3 channels, got 1"),
    ({"num_classes": 1}, "lenet: `num_classes` must be >= 2, got 1"),
    ({"image_shape": (28, 28)}, r"lenet: `image_shape` must be \(height"),
    ({"image_shape": (28, 28, 0)}, "lenet: `image_shape`.*all >= 1"),
  ],
)
def test_bad_settings_raise_with_their_name(options, match):
  with pytest.raises(ValueError, match=match):
    MODELS["lenet"].build(**options)


def test_mean_image_of_another_shape_raises():
  with pytest.raises(ValueError, match=r"cifar_cnn: `mean_image`.*\(3,\)"):
    MODELS["cifar_cnn"].build(mean_image=np.zeros(3))
