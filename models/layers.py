"""Layers the builders share: stateless dropout, seeded convolutions, BatchNorm.

Keras defaults throughout (Glorot uniform kernels, zero biases); every initialiser is
seeded from the model's seed and the layer's name, so that two builds are equal.
"""

import zlib

import tensorflow as tf

# FL-PLAS code: PyTorch's BatchNorm2d (momentum 0.1 there means 0.9 here).
_NORM_MOMENTUM = 0.9
_NORM_EPSILON = 1e-5


class StatelessDropout(tf.keras.layers.Layer):
  """Dropout whose mask is a pure function of its input.

  Stock `tf.keras.layers.Dropout` keeps the state of its random stream in the kernel.
  In TFF's worker that kernel lives in a cached session which concurrent clients
  share: the mask a client draws depends on which client came first, and a resumed run
  starts the stream anew. So no run could be repeated, not even with seeds.

  Here the seed of each mask is made of the bits of the input itself and a static salt.
  Every step changes the weights or the batch, hence the bits, hence the mask; the same
  weights and batch give the same mask in any worker, order or resumed run. The bits
  are summed as integers, which is exact: the number of threads changes nothing.

  Deviations: none in distribution. Equal inputs get equal masks (two clients that hold
  the same weights and the same batch), where stock dropout would draw twice. A
  processor whose convolution rounds otherwise gets other masks, not nearly equal ones.

  Args:
    rate: share of values set to 0, in [0, 1); the others are divided by 1 - rate.
    spatial: drop whole feature maps of [batch, height, width, channels] inputs.
    salt: tells apart layers that see the same input, 0 <= salt < 2**31.

  Raises:
    ValueError: `rate` is outside [0, 1).
  """

  def __init__(self, rate: float, spatial: bool = False, salt: int = 0, **kwargs):
    super().__init__(**kwargs)
    if not 0.0 <= rate < 1.0:
      raise ValueError(
        f"StatelessDropout: `rate` must be in [0, 1), got {rate}. "
        "It is the share of values dropped."
      )
    self.rate = float(rate)
    self.spatial = bool(spatial)
    self.salt = int(salt)

  def call(self, inputs, training=None):
    """Drops in training; returns `inputs` as they are in inference."""
    if training is None or self.rate == 0.0:
      return inputs
    if tf.is_tensor(training):
      return tf.where(tf.cast(training, tf.bool), self._drop(inputs), inputs)
    return self._drop(inputs) if training else inputs

  def _drop(self, inputs):
    shape = tf.shape(inputs)
    if self.spatial:
      ones = tf.ones([tf.size(shape) - 2], tf.int32)
      shape = tf.concat([shape[:1], ones, shape[-1:]], axis=0)
    seed = tf.random.experimental.stateless_fold_in(input_seed(inputs), self.salt)
    kept = tf.random.stateless_uniform(shape, seed, alg="philox") >= self.rate
    return tf.where(kept, inputs / (1.0 - self.rate), tf.zeros_like(inputs))

  def get_config(self):
    """Settings, for saving."""
    own = {"rate": self.rate, "spatial": self.spatial, "salt": self.salt}
    return {**super().get_config(), **own}


def input_seed(inputs) -> tf.Tensor:
  """Two int32 numbers made of the bits of `inputs`; they wrap around by design.

  The first is the sum of the bit patterns, the second weights each by an odd number
  that depends on its place, so that swapped values change the seed too.
  """
  values = tf.reshape(tf.cast(tf.stop_gradient(inputs), tf.float32), [-1])
  bits = tf.bitcast(values, tf.int32)
  places = 2 * tf.range(tf.size(bits)) + 1
  return tf.stack([tf.reduce_sum(bits), tf.reduce_sum(bits * places)])


def layer_seed(seed: int, name: str) -> int:
  """A seed for one layer, in 0..2**31-1; distinct by layer, equal in every process."""
  return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


def conv(
  x, name, filters, size, seed, *, stride=1, padding="valid", relu=True, bias=True
):
  """Convolution; ReLU follows it inside the layer unless `relu` is False."""
  layer = tf.keras.layers.Conv2D(
    filters,
    size,
    strides=stride,
    padding=padding,
    activation="relu" if relu else None,
    use_bias=bias,
    kernel_initializer=_glorot(seed, name),
    name=name,
  )
  return layer(x)


def padded_conv(x, name, filters, size, seed, *, stride=1):
  """PyTorch's convolution without bias, `padding=size//2` on both sides.

  Keras's "same" pads the right side only when the stride is 2 and the size even.
  """
  x = _pad(x, name, size, stride)
  padding = "same" if stride == 1 else "valid"
  return conv(
    x, name, filters, size, seed, stride=stride, padding=padding, relu=False, bias=False
  )


def padded_depthwise_conv(x, name, size, seed, *, stride=1):
  """Depthwise counterpart of `padded_conv`."""
  layer = tf.keras.layers.DepthwiseConv2D(
    size,
    strides=stride,
    padding="same" if stride == 1 else "valid",
    use_bias=False,
    depthwise_initializer=_glorot(seed, name),
    name=name,
  )
  return layer(_pad(x, name, size, stride))


def norm(x, name, *, relu=True):
  """BatchNorm with PyTorch's settings, then ReLU unless `relu` is False."""
  x = tf.keras.layers.BatchNormalization(
    momentum=_NORM_MOMENTUM, epsilon=_NORM_EPSILON, name=name
  )(x)
  return tf.keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def dense(x, name, units, seed, *, relu=False):
  """Dense layer."""
  layer = tf.keras.layers.Dense(
    units,
    activation="relu" if relu else None,
    kernel_initializer=_glorot(seed, name),
    name=name,
  )
  return layer(x)


def max_pool(x, name):
  """Maximum over 2x2, odd borders dropped."""
  return tf.keras.layers.MaxPooling2D(2, name=name)(x)


def flatten(x):
  """[batch, h, w, c] -> [batch, h*w*c]."""
  return tf.keras.layers.Flatten(name="flatten")(x)


def dropout(x, name, rate, seed, *, spatial=False):
  """`StatelessDropout` salted with the layer's name."""
  salt = layer_seed(seed, name)
  return StatelessDropout(rate, spatial=spatial, salt=salt, name=name)(x)


def classify(inputs, x, num_classes, seed, name) -> tf.keras.Model:
  """Ends a model with `classifier`, the layer of logits."""
  logits = dense(x, "classifier", num_classes, seed)
  return tf.keras.Model(inputs, logits, name=name)


def _pad(x, name, size, stride):
  if stride == 1 or size == 1:
    return x
  return tf.keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)


def _glorot(seed, name):
  return tf.keras.initializers.GlorotUniform(seed=layer_seed(seed, name))
