"""MobileNet for CIFAR-10. Reference: FL-PLAS Sec. 6.1 and Table 7, after Howard 2017.

Tensor index of the authors' `cut`: stem 0-2, block b = 3+6b .. 8+6b, classifier 81-82.
"""

import tensorflow as tf

from models import inputs as model_inputs
from models import layers

# Width and stride of each block (FL-PLAS code, the CIFAR form: the stem has stride 1).
BLOCKS = (
  (64, 1),
  (128, 2),
  (128, 1),
  (256, 2),
  (256, 1),
  (512, 2),
  *((512, 1),) * 5,
  (1024, 2),
  (1024, 1),
)


def build(
  *,
  image_shape: tuple[int, int, int] | None = None,
  num_classes: int | None = None,
  seed: int = 0,
  normalisation: str | None = None,
) -> tf.keras.Model:
  """A stem, 13 depthwise-separable blocks, pooling, logits; 3,217,226 parameters.

  `penultimate` is the pooled feature vector, o = 1024.

  Args:
    image_shape: (height, width, channels). Paper: 32x32x3.
    num_classes: number of logits. Paper: 10.
    seed: of all initialisers.
    normalisation: see `models.inputs`. Default "cifar".
  Raises:
    ValueError: a setting is out of range.
  Deviations: pooling is global, so that any image size works; on the paper's 2x2 maps
    that is its 2x2 average. Initialisers are Keras's, not PyTorch's.
  """
  image, x, num_classes = model_inputs.scaled_input(
    "mobilenet",
    image_shape=image_shape,
    num_classes=num_classes,
    normalisation=normalisation,
  )
  x = layers.norm(layers.padded_conv(x, "stem_conv", 32, 3, seed), "stem_bn")
  for index, (width, stride) in enumerate(BLOCKS):
    x = _block(x, f"block{index}", width, stride, seed)
  x = tf.keras.layers.GlobalAveragePooling2D(name="penultimate")(x)
  return layers.classify(image, x, num_classes, seed, "mobilenet")


def _block(x, name, width, stride, seed):
  x = layers.padded_depthwise_conv(x, f"{name}_dw_conv", 3, seed, stride=stride)
  x = layers.norm(x, f"{name}_dw_bn")
  x = layers.padded_conv(x, f"{name}_pw_conv", width, 1, seed)
  return layers.norm(x, f"{name}_pw_bn")
