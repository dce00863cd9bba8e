"""ResNet-18, -50 and -101 in ImageNet form. Reference: FL-PLAS Sec. 6.1, He 2016.

Shapes and parameter counts are those of torchvision's models, which FL-PLAS uses; on
32x32 images: stem 16, pooling 8, stages 8, 4, 2, 1.
"""

import tensorflow as tf

from models import inputs as model_inputs
from models import layers

_STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # He 2016, Table 1
_EXPANSION = 4  # output width over inner width of a bottleneck


def build(
  *,
  image_shape: tuple[int, int, int] | None = None,
  num_classes: int | None = None,
  seed: int = 0,
  normalisation: str | None = None,
  depth: int = 18,
) -> tf.keras.Model:
  """Stem, four stages of residual blocks, pooling, logits.

  `penultimate` is the pooled feature vector, o = 512 (depth 18) or 2048. Layers are
  named `stem*` and `stage1_block0_conv1`, ...; only `classifier` lies after them.

  Args:
    image_shape: (height, width, channels). Paper: 32x32x3.
    num_classes: number of logits. Paper: 100.
    seed: of all initialisers.
    normalisation: see `models.inputs`. Default "cifar".
    depth: 18 (basic blocks; 11,227,812 parameters), 50 (bottlenecks; 23,712,932) or
      101 (42,705,060).
  Raises:
    ValueError: a setting is out of range.
  Deviations: random initial weights; the authors start from ImageNet weights, which
    cannot be shipped. Initialisers are Keras's, not PyTorch's. A bottleneck's stride is
    in its 3x3 convolution, as in torchvision (He 2016: in the first 1x1).
  """
  if depth not in _STAGES:
    raise ValueError(f"resnet: `depth` must be one of {[*_STAGES]}, got {depth}.")
  name = f"resnet{depth}"
  image, x, num_classes = model_inputs.scaled_input(
    name, image_shape=image_shape, num_classes=num_classes, normalisation=normalisation
  )
  x = _stem(x, seed)
  block = _basic_block if depth == 18 else _bottleneck
  for stage, num_blocks in enumerate(_STAGES[depth]):
    for index in range(num_blocks):
      stride = 2 if stage > 0 and index == 0 else 1
      x = block(x, f"stage{stage + 1}_block{index}", 64 * 2**stage, stride, seed)
  x = tf.keras.layers.GlobalAveragePooling2D(name="penultimate")(x)
  return layers.classify(image, x, num_classes, seed, name)


def _stem(x, seed):
  x = layers.norm(layers.padded_conv(x, "stem_conv", 64, 7, seed, stride=2), "stem_bn")
  # Padding with 0 equals PyTorch's -inf here: nothing after a ReLU is below 0.
  x = tf.keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
  return tf.keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)


def _basic_block(x, name, width, stride, seed):
  y = layers.padded_conv(x, f"{name}_conv1", width, 3, seed, stride=stride)
  y = layers.norm(y, f"{name}_bn1")
  y = layers.padded_conv(y, f"{name}_conv2", width, 3, seed)
  y = layers.norm(y, f"{name}_bn2", relu=False)
  return _add(_shortcut(x, name, width, stride, seed), y, name)


def _bottleneck(x, name, width, stride, seed):
  y = layers.norm(layers.padded_conv(x, f"{name}_conv1", width, 1, seed), f"{name}_bn1")
  y = layers.padded_conv(y, f"{name}_conv2", width, 3, seed, stride=stride)
  y = layers.norm(y, f"{name}_bn2")
  y = layers.padded_conv(y, f"{name}_conv3", _EXPANSION * width, 1, seed)
  y = layers.norm(y, f"{name}_bn3", relu=False)
  return _add(_shortcut(x, name, _EXPANSION * width, stride, seed), y, name)


def _shortcut(x, name, width, stride, seed):
  if stride == 1 and x.shape[-1] == width:
    return x
  x = layers.padded_conv(x, f"{name}_shortcut_conv", width, 1, seed, stride=stride)
  return layers.norm(x, f"{name}_shortcut_bn", relu=False)


def _add(x, y, name):
  x = tf.keras.layers.Add(name=f"{name}_add")([x, y])
  return tf.keras.layers.ReLU(name=f"{name}_relu")(x)
