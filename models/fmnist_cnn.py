"""CNN for Fashion-MNIST. Reference: FLARE Table 6 (appendix C)."""

import tensorflow as tf

from models import inputs as model_inputs
from models import layers

_MIN_SIZE = 9  # two 5x5 valid convolutions take 8 pixels


def build(
  *,
  image_shape: tuple[int, int, int] | None = None,
  num_classes: int | None = None,
  seed: int = 0,
  normalisation: str | None = None,
) -> tf.keras.Model:
  """Two 5x5 convolutions of 64 filters, dense 128, logits; 3,382,346 parameters.

  The text calls it a VGGNet; it is not one. `penultimate` is the dense layer with its
  ReLU; the dropout after it is a layer of its own and idle in inference.

  Args:
    image_shape: (height, width, channels), at least 9x9. Paper: 28x28x1.
    num_classes: number of logits. Paper: 10.
    seed: of all initialisers.
    normalisation: see `models.inputs`. Default "unit".
  Raises:
    ValueError: a setting is out of range.
  Deviations: dropout is `StatelessDropout`.
  """
  image, x, num_classes = model_inputs.scaled_input(
    "fmnist_cnn",
    image_shape=image_shape,
    num_classes=num_classes,
    normalisation=normalisation,
    min_size=_MIN_SIZE,
  )
  x = layers.conv(x, "conv1", 64, 5, seed)
  x = layers.conv(x, "conv2", 64, 5, seed)
  x = layers.dropout(x, "dropout1", 0.25, seed)
  x = layers.dense(layers.flatten(x), "penultimate", 128, seed, relu=True)
  x = layers.dropout(x, "dropout2", 0.5, seed)
  return layers.classify(image, x, num_classes, seed, "fmnist_cnn")
