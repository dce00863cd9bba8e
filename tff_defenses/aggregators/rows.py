"""Which rows of the stack a rule may see, and where its measurements belong."""

import collections
from collections.abc import Callable

import numpy as np
import tensorflow as tf

Measurements = collections.OrderedDict


def all_finite(value) -> tf.Tensor:
  """Whether no tensor of a structure holds NaN or infinity; -> [] bool.

  Whole numbers, a layer's counter of steps for example, never do.
  """
  floats = [x for x in tf.nest.flatten(value) if tf.as_dtype(x.dtype).is_floating]
  leaves = [tf.reduce_all(tf.math.is_finite(x)) for x in floats]
  return tf.reduce_all(tf.stack([tf.constant(True), *leaves]))


def finite_rows(matrix: tf.Tensor) -> tf.Tensor:
  """Marks the rows without NaN or infinity; [n, d] -> [n] bool."""
  # A product with zero is zero unless the number is not finite. TensorFlow's optimizer
  # thinks otherwise where it knows the shape, so these zeros are none that it can see.
  zeros = tf.cast(tf.reduce_any(matrix[:1] > np.inf, axis=0), matrix.dtype)
  return tf.equal(tf.linalg.matvec(matrix, zeros), 0.0)


def on_kept_rows(
  keep: tf.Tensor, rule: Callable, *matrices: tf.Tensor
) -> tuple[tf.Tensor, Measurements]:
  """Runs a rule on the rows that `keep` marks and spreads what it measured.

  If no row is kept, or there is none, the rule runs on one row of zeros and its result
  is replaced by zero: the round then leaves the global weights as they are. What it
  measured of that row is replaced too: flags are False, numbers 0.

  Args:
    keep: [n] bool.
    rule: Takes the kept rows of each matrix; returns ([d], measurements), where a
      measurement is a number, a value per client [k], or one per pair [k, k].
    *matrices: Tensors with n rows.

  Returns:
    The aggregate, [d], and the measurements for all n clients: those left out get 0,
    pairs with them NaN (0 where NaN is no value). `num_rejected` counts them.
  """
  any_kept = tf.reduce_any(keep)
  positions = tf.cond(
    any_kept, lambda: tf.where(keep), lambda: tf.zeros([1, 1], tf.int64)
  )
  all_kept = any_kept & tf.reduce_all(keep)

  def kept(matrix):
    # Guards in this order, so that the usual round copies nothing.
    def some():
      zeros = tf.zeros(tf.concat([[1], tf.shape(matrix)[1:]], axis=0), matrix.dtype)
      return tf.cond(any_kept, lambda: tf.boolean_mask(matrix, keep), lambda: zeros)

    rows = tf.cond(all_kept, lambda: matrix, some)
    return tf.ensure_shape(rows, [None, *matrix.shape[1:]])

  aggregate, measured = rule(*[kept(matrix) for matrix in matrices])
  spread = collections.OrderedDict(
    (name, _spread(value, keep, positions)) for name, value in measured.items()
  )
  spread["num_rejected"] = tf.math.count_nonzero(~keep, dtype=tf.int32)
  return tf.where(any_kept, aggregate, tf.zeros_like(aggregate)), spread


def _spread(value, keep, positions):
  """Puts per-client and per-pair values of the kept clients at their places."""
  num_clients = tf.shape(keep)[0]
  # TensorFlow refuses to scatter into nothing: at least one place, cut off again.
  places = tf.maximum(tf.cast(num_clients, tf.int64), 1)
  if value.shape.rank == 0:
    return tf.where(tf.reduce_any(keep), value, tf.zeros_like(value))
  if value.shape.rank == 1:
    full = tf.scatter_nd(positions[:, 0:1], value, [places])[:num_clients]
    return tf.where(keep, full, tf.zeros_like(full))
  index = positions[:, 0]
  pairs = tf.stack(tf.meshgrid(index, index, indexing="ij"), axis=-1)
  full = tf.scatter_nd(pairs, value, [places, places])[:num_clients, :num_clients]
  left_out = tf.constant(np.nan if value.dtype.is_floating else 0, value.dtype)
  return tf.where(keep[:, tf.newaxis] & keep, full, left_out)
