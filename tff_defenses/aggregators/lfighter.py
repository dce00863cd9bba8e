"""LFighter: two clusters of classifier gradients, of which the denser one is kept.

Reference: Jebreel et al., Neural Networks 170, 2024, Algorithm 1; FL-PLAS Appendix A.
Symbols: n updates, c classes, g_c the magnitude of class c in the classifier layer,
  ds_k the density of cluster k.
"""

import collections
import dataclasses
import math

import numpy as np
import tensorflow as tf

from tff_defenses.aggregators import base, geometry, stacking

_MAX_STEPS = 100  # ours: Lloyd's steps; a few are enough for tens of points


def class_magnitudes(kernels, biases) -> tf.Tensor:
  """g_c: sum over clients of ||dw_i[:, c]|| and |db_i[c]|; -> [c] float64.

  Args:
    kernels: dw, [n, inputs, c].
    biases: db, [n, c], or None.

  >>> dw = tf.constant([[[3.0, 1.0], [4.0, 0.0]]])
  >>> class_magnitudes(dw, tf.constant([[0.0, -2.0]])).numpy().tolist()
  [5.0, 3.0]
  """
  magnitudes = tf.reduce_sum(tf.norm(tf.cast(kernels, tf.float64), axis=1), axis=0)
  if biases is None:
    return magnitudes
  return magnitudes + tf.reduce_sum(tf.abs(tf.cast(biases, tf.float64)), axis=0)


def two_means(points: tf.Tensor) -> tf.Tensor:
  """Splits points in two by k-means; [n, p] -> [n] bool, the second cluster.

  Lloyd's algorithm n times, from point i and the point farthest from it; the partition
  of least inertia wins, ties the lowest i. The cluster of the first point is the first.
  Equal points are all in the first cluster.

  >>> two_means(tf.constant([[0.0], [9.0], [1.0]])).numpy().tolist()
  [False, True, False]
  """
  points = tf.cast(points, tf.float64)
  lengths = tf.norm(points, axis=1)
  middle = geometry.middle_row(lengths)
  points -= points[middle]  # equal points then differ by exactly 0
  gram = tf.linalg.matmul(points, points, transpose_b=True)
  squares = tf.linalg.diag_part(gram)
  distances = squares[:, tf.newaxis] + squares - 2.0 * gram
  farthest = tf.argmax(distances, axis=1)
  second = distances > tf.gather(distances, farthest)
  second = _lloyd(gram, second)
  best = tf.gather(second, tf.argmin(_inertia(gram, second)))
  return tf.not_equal(best, best[0])


def density(cosines: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
  """ds_k = (n_k / n) (1 - mean over i of min over j of cos_ij), 0 if empty.

  Args:
    cosines: [n, n]; the diagonal counts as 0.
    members: [n] bool, the cluster.

  >>> same = tf.ones([3, 3], tf.float64)
  >>> round(float(density(same, tf.constant([True, True, False]))), 6)
  0.666667
  """
  hollow = tf.linalg.set_diag(cosines, tf.zeros_like(cosines[0]))
  inside = tf.boolean_mask(tf.boolean_mask(hollow, members), members, axis=1)
  count = tf.cast(tf.shape(inside)[0], cosines.dtype)
  lowest = tf.reduce_sum(tf.reduce_min(inside, axis=1))
  share = count / tf.cast(tf.shape(cosines)[0], cosines.dtype)
  return share * (1.0 - tf.math.divide_no_nan(lowest, count))


def aggregate(
  updates: tf.Tensor, *, first_column: int, shape, has_bias: bool
) -> tf.Tensor:
  """Mean of the updates in the denser cluster; [n, d] -> [d] float32.

  Args:
    updates: [n, d] float32.
    first_column: where the classifier's kernel starts in a row.
    shape: of the kernel, classes last.
    has_bias: whether its bias follows.
  """
  return _rule(updates, (first_column, shape, has_bias))[0]


@dataclasses.dataclass(frozen=True)
class LFighterFactory(base.StackedFactory):
  """Keeps the denser of two clusters of the clients' classifier gradients.

  The two classes whose gradients are largest tell source and target of a label flip;
  2-means on the kernel's columns of these two; of both clusters the one with the larger
  ds_k = (n_k / n) (1 - mean_i min_j cos_ij) is averaged (ties: the first client's).

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER.
  Measurements: weight [n] float32, sums to 1; selected [n] bool; density_kept float32,
    ds_k of the cluster kept; density_dropped float32, of the other; num_rejected int32.
  Args:
    (none)
  Raises:
    TypeError (in create): U holds a non-float.
  Deviations: the classifier is the last variable of rank 2 or more, with the bias
    behind it. The authors start 2-means from random points; here it starts from every
    client and the one farthest from it and the best partition wins, so that the result
    depends neither on a seed nor on the order of the clients. With fewer than three
    clients, or one cluster, all are kept. Nothing but two columns of the classifier is
    looked at: what else an update holds passes with them.
  """

  def _rule(self, updates, specs):
    return _rule(updates, stacking.last_kernel(specs))


def _rule(updates, layer):
  """The whole rule: ([d], measurements)."""
  updates = tf.convert_to_tensor(updates)
  points = relevant_columns(updates, layer)
  second = two_means(points)
  cosines = _cosines(points)
  densities = tf.stack([density(cosines, ~second), density(cosines, second)])
  chosen = tf.equal(second, densities[1] > densities[0])
  single = ~tf.reduce_any(second) | (tf.shape(updates)[0] < 3)
  selected = chosen | single
  mask = tf.cast(selected, tf.float32)
  measurements = collections.OrderedDict(
    weight=mask / tf.reduce_sum(mask),
    selected=selected,
    density_kept=tf.cast(tf.reduce_max(densities), tf.float32),
    density_dropped=tf.cast(tf.reduce_min(densities), tf.float32),
  )
  # Not a weighted sum: a huge update that is dropped must leave no rounding behind.
  return geometry.mean(tf.boolean_mask(updates, selected)), measurements


def relevant_columns(updates: tf.Tensor, layer) -> tf.Tensor:
  """The kernel's columns of the two classes of largest g_c; -> [n, 2 inputs] float64.

  Ties go to the lowest class. `layer` is what `stacking.last_kernel` returns.
  """
  first, shape, has_bias = layer
  classes = shape[-1]
  size = math.prod(shape)
  kernels = tf.reshape(updates[:, first : first + size], [-1, size // classes, classes])
  end = first + size
  biases = updates[:, end : end + classes] if has_bias else None
  order = tf.argsort(
    class_magnitudes(kernels, biases), direction="DESCENDING", stable=True
  )
  columns = tf.gather(kernels, order[:2], axis=2)
  width = size // classes * min(2, classes)
  return tf.cast(tf.reshape(columns, [-1, width]), tf.float64)


def _lloyd(gram, second):
  """Lloyd's algorithm on s partitions at once; [s, n] bool -> [s, n] bool."""

  def step(_, second):
    to_first, to_second = _to_means(gram, second)
    return second, to_second < to_first

  def moved(before, second):
    return tf.reduce_any(tf.not_equal(before, second))

  return tf.while_loop(moved, step, (~second, second), maximum_iterations=_MAX_STEPS)[1]


def _to_means(gram, second):
  """Squared distances of all points to both means of s partitions, 2 times [s, n].

  From the Gram matrix: ||x - m||^2 = x x - 2 x m + m m, m the mean of some rows.
  """
  found = []
  for members in (~second, second):
    share = tf.cast(members, gram.dtype)
    share = tf.math.divide_no_nan(share, tf.reduce_sum(share, axis=1, keepdims=True))
    products = tf.linalg.matmul(share, gram)
    own = tf.reduce_sum(products * share, axis=1, keepdims=True)
    squares = tf.linalg.diag_part(gram) - 2.0 * products + own
    empty = ~tf.reduce_any(members, axis=1, keepdims=True)
    found.append(tf.where(empty, tf.constant(np.inf, squares.dtype), squares))
  return found


def _inertia(gram, second):
  """Sum of squared distances to the own mean; [s, n] -> [s]."""
  first_squares, second_squares = _to_means(gram, second)
  return tf.reduce_sum(tf.where(second, second_squares, first_squares), axis=1)


def _cosines(points):
  norms = tf.norm(points, axis=1)
  products = tf.linalg.matmul(points, points, transpose_b=True)
  return tf.math.divide_no_nan(products, norms[:, tf.newaxis] * norms)
