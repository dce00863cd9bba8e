"""FL-PLAS's "LeNet" for MNIST. Reference: FL-PLAS Sec. 6.1, layers from its code."""

import tensorflow as tf

from models import inputs as model_inputs
from models import layers

_MIN_SIZE = 6  # two 3x3 valid convolutions take 4, the pooling halves the rest


def build(
  *,
  image_shape: tuple[int, int, int] | None = None,
  num_classes: int | None = None,
  seed: int = 0,
  normalisation: str | None = None,
  activation_after_conv1: bool = False,
) -> tf.keras.Model:
  """Two 3x3 convolutions, dense 128, logits; 1,199,882 parameters in 8 tensors.

  Args:
    image_shape: (height, width, channels), at least 6x6. Paper: 28x28x1.
    num_classes: number of logits. Paper: 10.
    seed: of all initialisers.
    normalisation: see `models.inputs`. Default "mnist".
    activation_after_conv1: put a ReLU after `conv1`. The authors' code computes one
      there and does not use it, so the faithful model has none.
  Raises:
    ValueError: a setting is out of range.
  Deviations: dropout is `StatelessDropout`; initialisers are Keras's, not PyTorch's.
  """
  image, x, num_classes = model_inputs.scaled_input(
    "lenet",
    image_shape=image_shape,
    num_classes=num_classes,
    normalisation=normalisation,
    min_size=_MIN_SIZE,
  )
  x = layers.conv(x, "conv1", 32, 3, seed, relu=activation_after_conv1)
  x = layers.conv(x, "conv2", 64, 3, seed)
  x = layers.max_pool(x, "pool")
  x = layers.dropout(x, "dropout1", 0.25, seed, spatial=True)
  x = layers.dense(layers.flatten(x), "penultimate", 128, seed, relu=True)
  x = layers.dropout(x, "dropout2", 0.5, seed)
  return layers.classify(image, x, num_classes, seed, "lenet")
