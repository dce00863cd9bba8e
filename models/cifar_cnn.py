"""CNN for CIFAR-10. Reference: FLARE Table 7 (appendix C)."""

import numpy as np
import tensorflow as tf

from models import inputs as model_inputs
from models import layers

_MIN_SIZE = 22  # 22 -> 20 -> 10 -> 8 -> 4 -> 2 -> 1


def build(
  *,
  image_shape: tuple[int, int, int] | None = None,
  num_classes: int | None = None,
  seed: int = 0,
  normalisation: str | None = None,
  mean_image: np.ndarray | None = None,
) -> tf.keras.Model:
  """Three 3x3 convolutions with max-pooling, dense 128, logits; 109,834 parameters.

  Args:
    image_shape: (height, width, channels), at least 22x22. Paper: 32x32x3.
    num_classes: number of logits. Paper: 10.
    seed: of all initialisers.
    normalisation: see `models.inputs`. Default "cifar_mean".
    mean_image: [H, W, C], mean of the training images in 0..255. The authors subtract
      it; with it `penultimate` sees exactly their input.
  Raises:
    ValueError: a setting is out of range or `mean_image` has another shape.
  Deviations: without `mean_image` one mean a channel is subtracted, CIFAR's; the
    ReLU of the dense layer is the authors' code (Table 7 prints "/").
  """
  image, x, num_classes = model_inputs.scaled_input(
    "cifar_cnn",
    image_shape=image_shape,
    num_classes=num_classes,
    normalisation=normalisation,
    min_size=_MIN_SIZE,
    mean_image=mean_image,
  )
  for i in (1, 2, 3):
    x = layers.conv(x, f"conv{i}", 64, 3, seed)
    x = layers.max_pool(x, f"pool{i}")
  x = layers.dense(layers.flatten(x), "penultimate", 128, seed, relu=True)
  return layers.classify(image, x, num_classes, seed, "cifar_cnn")
