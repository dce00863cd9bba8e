"""Norms, products, distances and weighted sums of rows that cannot overflow.

Squares of float32 numbers overflow from 1.8e19 on, and distances of near-equal rows
drown in the rounding of float32 products. In float64 neither happens; the columns are
converted block by block, so that the matrix does not stand in memory twice.
"""

from collections.abc import Callable

import tensorflow as tf

BLOCK_SIZE = 2**21  # numbers converted at a time: 16 MiB


def row_norms(matrix: tf.Tensor) -> tf.Tensor:
  """L2 norms; [n, d] -> [n] float64."""
  return distances_to(matrix, tf.zeros_like(matrix[0]))


def distances_to(matrix: tf.Tensor, point: tf.Tensor) -> tf.Tensor:
  """L2 distances of the rows to one point; [n, d] and [d] -> [n] float64.

  >>> distances_to(tf.constant([[3.0, 0.0], [0.0, 4.0]]), tf.zeros([2])).numpy()
  array([3., 4.])
  """

  def squares(columns):
    moved = to_float64(matrix[:, columns]) - to_float64(point[columns])
    return tf.reduce_sum(moved**2, axis=1)

  return tf.sqrt(_sum_over_blocks(matrix, squares))


def gram(matrix: tf.Tensor, origin: tf.Tensor | None = None) -> tf.Tensor:
  """Inner products of all pairs of rows; [n, d] -> [n, n] float64.

  `origin` [d], if given, is subtracted from every row first.
  """

  def products(columns):
    block = to_float64(matrix[:, columns])
    if origin is not None:
      block -= to_float64(origin[columns])
    return tf.linalg.matmul(block, block, transpose_b=True)

  return _sum_over_blocks(matrix, products)


def middle_row(sizes: tf.Tensor) -> tf.Tensor:
  """Which row has the median size, the lower of two; [n] -> [] int32.

  >>> middle_row(tf.constant([7.0, 1.0, 3.0, 2.0])).numpy()
  3
  """
  return tf.argsort(sizes, stable=True)[(tf.shape(sizes)[0] - 1) // 2]


def squared_differences(matrix: tf.Tensor) -> tf.Tensor:
  """Like `squared_distances`, row by row from differences: slower, for short rows.

  A Gram matrix cancels where rows differ by little, and it rounds a row by its place:
  copies of one row would not be equally far from the others.
  """
  matrix = to_float64(matrix)
  return tf.map_fn(lambda row: tf.reduce_sum((matrix - row) ** 2, axis=1), matrix)


def squared_distances(matrix: tf.Tensor) -> tf.Tensor:
  """Squared L2 distances of all pairs of rows; [n, d] -> [n, n] float64.

  Seen from the row of median norm: what near-equal rows have in common then leaves no
  rounding, and an outlier cannot be that row while most rows are honest.

  >>> squared_distances(tf.constant([[0.0], [3.0]])).numpy().tolist()
  [[0.0, 9.0], [9.0, 0.0]]
  """
  products = gram(matrix, matrix[middle_row(row_norms(matrix))])
  squares = tf.linalg.diag_part(products)
  distances = tf.maximum(squares[:, tf.newaxis] + squares - 2.0 * products, 0.0)
  return tf.linalg.set_diag(distances, tf.zeros_like(squares))


def mean(matrix: tf.Tensor) -> tf.Tensor:
  """Mean of the rows; [n, d] -> [d]; finite if the rows are.

  >>> mean(tf.constant([[3e38, 1.0], [3e38, 3.0]])).numpy().tolist()[1]
  2.0
  """
  plain = tf.reduce_mean(matrix, axis=0)
  finite = tf.math.is_finite(plain)

  def scaled():  # what the bare sum lost; the usual round does not come here
    num_rows = tf.shape(matrix)[0]
    share = tf.fill([1, num_rows], 1.0 / tf.cast(num_rows, tf.float32))
    sums = combine(share, tf.cast(matrix, tf.float32))[0]
    return tf.where(finite, plain, tf.cast(sums, plain.dtype))

  return tf.cond(tf.reduce_all(finite), lambda: plain, scaled)


def combine(weights: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
  """Weighted sums of the rows; [m, n] and [n, d] -> [m, d] float32, always finite.

  Weights >= 0 that sum to 1 at most: a sum can then pass the largest float32 by
  rounding alone, and is cut off there.
  """
  sums = tf.linalg.matmul(tf.cast(weights, tf.float32), matrix)
  return tf.clip_by_value(sums, tf.float32.min, tf.float32.max)


def to_float64(values: tf.Tensor) -> tf.Tensor:
  """Numbers of any type -> float64, in which squares of float32 do not overflow."""
  return tf.cast(values, tf.float64)


def to_float32(values: tf.Tensor) -> tf.Tensor:
  """float64 -> float32; what is too large becomes the largest number, not infinite."""
  return tf.cast(tf.clip_by_value(values, tf.float32.min, tf.float32.max), tf.float32)


def _sum_over_blocks(matrix, term: Callable[[slice], tf.Tensor]):
  """Sum of `term(columns)` over slices that together are all columns."""
  num_rows, num_columns = tf.unstack(tf.shape(matrix))
  width = tf.maximum(BLOCK_SIZE // num_rows, 1)

  def body(first, total):
    return first + width, total + term(slice(first, first + width))

  start = width, term(slice(0, width))
  _, total = tf.while_loop(
    lambda first, _: first < num_columns, body, start, parallel_iterations=1
  )
  return total
