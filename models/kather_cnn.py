"""CNN for the Kather histology tiles. Reference: FLARE Table 8 (appendix C)."""

import tensorflow as tf

from models import inputs as model_inputs
from models import layers

_MIN_SIZE = 32  # five poolings halve it to 1


def build(
  *,
  image_shape: tuple[int, int, int] | None = None,
  num_classes: int | None = None,
  seed: int = 0,
  normalisation: str | None = None,
) -> tf.keras.Model:
  """Five 3x3 convolutions with max-pooling, dense 128, logits; 449,736 parameters.

  Args:
    image_shape: (height, width, channels), at least 32x32. Paper: 128x128x3.
    num_classes: number of logits. Paper: 8.
    seed: of all initialisers.
    normalisation: see `models.inputs`. Default "unit".
  Raises:
    ValueError: a setting is out of range.
  Deviations: the fifth convolution has 128 filters and the dense layer a ReLU, as in
    the authors' code and Table 8's output column (its filter column prints 64, its
    activation column "/").
  """
  image, x, num_classes = model_inputs.scaled_input(
    "kather_cnn",
    image_shape=image_shape,
    num_classes=num_classes,
    normalisation=normalisation,
    min_size=_MIN_SIZE,
  )
  for i, filters in enumerate((64, 64, 64, 64, 128), start=1):
    x = layers.conv(x, f"conv{i}", filters, 3, seed, padding="same")
    x = layers.max_pool(x, f"pool{i}")
  x = layers.dense(layers.flatten(x), "penultimate", 128, seed, relu=True)
  return layers.classify(image, x, num_classes, seed, "kather_cnn")
