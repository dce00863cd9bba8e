"""Penultimate layer representations (PLR) as a pure function of a model's weights.

Reference: FLARE Sec. 4.1.
Symbols: n clients, m images, o width of the layer, d trainable parameters.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from models import pure_forward


class PlrFn:
  """Penultimate layer representations as a pure function of weights (FLARE Sec. 4.1).

  Inference mode: dropout is off and BatchNorm uses moving statistics, the model's
  initial ones unless they are given. Works eagerly, in a `tf.function` and in a TFF
  computation, loops included: it holds no variable. Made by `models.split.plr_fn`.

  Give `moving_statistics` for models with BatchNorm. The initial ones (mean 0,
  variance 1) belong to no data: they shrink an untrained MobileNet's representations
  to 1e-19, where all clients look alike.

  Frozen layers keep what `keras_fn` gives them. If that is drawn anew in each build,
  the representations are not those of the model that clients train: seed such layers,
  or give their values in `moving_statistics`.
  """

  def __init__(self, keras_fn: Callable, images: np.ndarray, layer: str):
    self._keras_fn = keras_fn
    self._images = images
    self._layer = layer
    self._one = tf.function(self._forward_one, autograph=False)
    self._many = tf.function(self._forward_many, autograph=False, reduce_retracing=True)

  def __repr__(self):
    return f"PlrFn(layer={self._layer!r}, images={list(self._images.shape)})"

  def __call__(self, weights, moving_statistics=None) -> tf.Tensor:
    """Trainable variables, in model order for `tf.nest` -> [m, o] float32.

    Args:
      weights: structure of the trainable variables.
      moving_statistics: structure of the non-trainable variables.

    Raises:
      ValueError: a structure has another number of tensors or other shapes, or a frozen
        layer differs from build to build and its values are not given.
    """
    weights = _tensors("weights", weights, self._pure.shapes)
    weights = [tf.cast(tensor, tf.float32) for tensor in weights]
    return self._one(weights, self._statistics(moving_statistics))

  def many(self, flat_weights, moving_statistics=None) -> tf.Tensor:
    """[n, d] float32, trainable variables flattened in model order -> [n, m, o].

    Args:
      flat_weights: one model a row; n may be unknown.
      moving_statistics: structure of the non-trainable variables, used for all rows.

    Raises:
      ValueError: rows are not of length d, or as above.
    """
    flat_weights = tf.cast(tf.convert_to_tensor(flat_weights), tf.float32)
    size = sum(math.prod(shape) for shape in self._pure.shapes)
    if not flat_weights.shape.is_compatible_with([None, size]):
      raise ValueError(
        f"plr_fn: `flat_weights` must be [n, d] with d = {size}, got "
        f"{flat_weights.shape}. Flatten all trainable variables in model order."
      )
    return self._many(flat_weights, self._statistics(moving_statistics))

  @property
  def width(self) -> int:
    """o, the number of values a sample."""
    return self._pure.width

  @property
  def has_moving_statistics(self) -> bool:
    """Whether the representations depend on BatchNorm's moving statistics."""
    return any(map(_is_moving, self._pure.fixed_names.values()))

  @property
  def num_samples(self) -> int:
    """m, the number of auxiliary images."""
    return len(self._images)

  @functools.cached_property
  def _pure(self) -> pure_forward.PureForward:
    pure = pure_forward.trace(self._keras_fn, self._layer)
    expected, found = pure.image_shape, self._images.shape[1:]
    if any(e not in (None, f) for e, f in zip(expected, found, strict=True)):
      raise ValueError(
        f"plr_fn: `images` must have the model's image shape {expected}, got {found}. "
        "Build the model for these images (`image_shape=`)."
      )
    return pure

  def _statistics(self, given):
    initial = self._pure.moving_statistics
    if given is None:
      return [tf.constant(value) for value in self._same_in_every_build]
    shapes = [value.shape for value in initial]
    given = _tensors("moving_statistics", given, shapes)
    return [tf.cast(g, value.dtype) for g, value in zip(given, initial, strict=True)]

  @functools.cached_property
  def _same_in_every_build(self) -> tuple[np.ndarray, ...]:
    """The non-trainable variables; a model with frozen layers is built twice."""
    initial, names = self._pure.moving_statistics, self._pure.fixed_names
    frozen = [i for i, name in names.items() if not _is_moving(name)]
    if not frozen:
      return initial
    again = pure_forward.trace(self._keras_fn, self._layer).moving_statistics
    drawn = [names[i] for i in frozen if not np.array_equal(initial[i], again[i])]
    if drawn:
      raise ValueError(
        f"plr_fn: frozen layers must be the same in every build, got {drawn} drawn "
        "anew. Give their initialisers a seed, or load their weights in `model_fn`."
      )
    return initial

  def _forward_one(self, weights, statistics):
    plr = self._pure(tf.constant(self._images), weights, statistics)
    return tf.ensure_shape(plr, [self.num_samples, self.width])

  def _forward_many(self, flat_weights, statistics):
    shapes = self._pure.shapes
    sizes = [math.prod(shape) for shape in shapes]

    def row(flat):
      parts = tf.split(flat, sizes)
      weights = [tf.reshape(p, s) for p, s in zip(parts, shapes, strict=True)]
      return self._forward_one(weights, statistics)

    # One model at a time uses all cores already, and keeps memory at one model's.
    signature = tf.TensorSpec([self.num_samples, self.width], tf.float32)
    return tf.map_fn(
      row, flat_weights, parallel_iterations=1, fn_output_signature=signature
    )


def _is_moving(variable_name: str) -> bool:
  """Whether a variable is a moving statistic of BatchNorm, as Keras names them."""
  name = variable_name.rsplit("/", 1)[-1]
  return name.startswith(("moving_mean", "moving_variance"))


def _tensors(name, structure, shapes) -> list[tf.Tensor]:
  tensors = [tf.convert_to_tensor(t) for t in tf.nest.flatten(structure)]
  expected = [tuple(shape) for shape in shapes]
  found = [tensor.shape for tensor in tensors]
  fits = len(found) == len(expected) and all(
    shape.is_compatible_with(e) for shape, e in zip(found, expected, strict=True)
  )
  if not fits:
    raise ValueError(
      f"plr_fn: `{name}` must be {len(expected)} tensors of shapes {expected}, got "
      f"{len(found)} of shapes {[tuple(s) for s in found]}. Give them in model order."
    )
  return tensors
