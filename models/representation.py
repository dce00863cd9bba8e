"""One layer's output as a differentiable function of images and weights.

Reference: FLARE Sec. 4.1 (penultimate layer representations).
Symbols: m images, o width of the layer.
"""

from collections.abc import Callable

import tensorflow as tf

from models import pure_forward


class Representation:
  """h(x; w): a layer's output in inference mode, for training through it.

  Holds no variable. Gradients flow to images, weights and moving statistics. Works in a
  `tf.function` and in a TFF computation, loops included.

  Make it before the model that is trained, not between that model's making and its
  use: Keras turns its classes to and fro as models are built eagerly or in a plain
  graph such as TFF's, and layers of the other kind stop working meanwhile.

  Args:
    model_fn: function without arguments that returns a Keras model, or one made by
      `models.split.make_model_fn`. Called at once.
    layer: name of the layer.
  Raises:
    TypeError: `model_fn` is neither of the two. ValueError: there is no such layer.
  """

  def __init__(self, model_fn: Callable, layer: str = "penultimate"):
    self._layer = layer
    self._pure = pure_forward.trace(getattr(model_fn, "keras_fn", model_fn), layer)
    # A function of its own: a gradient tape passes by the nodes of an imported graph,
    # and differentiates a call.
    self._forward = tf.function(self._import, autograph=False, reduce_retracing=True)

  def __repr__(self):
    return f"Representation(layer={self._layer!r})"

  def __call__(self, images, weights, moving_statistics) -> tf.Tensor:
    """[m, H, W, C] in 0..255 and variables in model order -> [m, o] float32."""
    weights = [tf.convert_to_tensor(w) for w in weights]
    moving_statistics = [tf.convert_to_tensor(s) for s in moving_statistics]
    images = tf.convert_to_tensor(images)
    return self._forward(images, weights, moving_statistics)

  @property
  def width(self) -> int:
    """o, the number of values an image."""
    return self._pure.width

  @property
  def num_classes(self) -> int:
    """The number of the model's logits."""
    return self._pure.num_classes

  @property
  def image_shape(self) -> tuple[int, ...]:
    """(height, width, channels)."""
    return self._pure.image_shape

  def _import(self, images, weights, moving_statistics):
    output = self._pure(images, weights, moving_statistics)
    return tf.ensure_shape(output, [None, self.width])
