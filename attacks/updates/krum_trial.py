"""What Krum would pick if some clients sent -lambda s, without making the updates.

Reference: Fang et al., USENIX Security 2020, Sec. 4.2, Theorem 1; FLARE Eq. (8).
Symbols: B the b known updates b_i, s a vector of signs, lambda length of the step, n
  updates, c of them crafted, d parameters.

||b_i + lambda s||^2 = ||b_i||^2 + 2 lambda <b_i, s> + lambda^2 ||s||^2, and crafted
updates are equal: B is gone over once, and every lambda costs [n, n] numbers.
"""

import numpy as np
import tensorflow as tf

from tff_defenses.aggregators import krum, stacking


class KrumTrial:
  """The distances between known updates, and to a crafted one for any lambda.

  Args:
    known: B, [b, d] float32, finite.
    sign: s, [d] float32.
  """

  def __init__(self, known: tf.Tensor, sign: tf.Tensor):
    self._distances = krum.squared_distances(known)
    self._norms = tf.reduce_sum(known**2, axis=1)
    self._products = tf.linalg.matvec(known, sign)
    self._square = tf.reduce_sum(sign**2)

  def places_among(self, view) -> tf.Tensor:
    """For each row that the rule sees: its place in B, or b for a crafted one; [n]."""
    place = tf.cumsum(tf.cast(view.is_known, tf.int32)) - 1
    place = tf.where(view.malicious, self._num_known, place)
    return tf.boolean_mask(place, view.malicious | view.is_known)

  def places_before(self, num_crafted) -> tf.Tensor:
    """So many crafted rows, and B behind them; as `places_among`.

    They come first, as in Fang et al.: two rows that are each other's nearest tie, and
    Krum takes the first.
    """
    crafted = tf.fill([num_crafted], self._num_known)
    return tf.concat([crafted, tf.range(self._num_known)], axis=0)

  def copies_decide(
    self, num_crafted, num_byzantine, *, variant: str, num_selected
  ) -> tf.Tensor:
    """Whether `places_before` has a crafted row selected at any lambda; -> [] bool.

    So it is where the c - 1 copies of a crafted row are all the neighbours that count,
    each at distance 0, or where B has fewer rows than are selected.
    """
    spare = 3 if variant == "authors" else num_byzantine + 2  # see `krum.scores_of`
    num_neighbours = tf.maximum(self._num_known + num_crafted - spare, 1)
    return (num_crafted > num_neighbours) | (num_selected > self._num_known)

  def squared_distances(self, step, place) -> tf.Tensor:
    """Between the rows that the rule would see; -> [n, n]."""
    added = self._norms + 2.0 * step * self._products + step**2 * self._square
    added = tf.where(tf.math.is_nan(added), np.inf, tf.maximum(added, 0.0))
    beside = tf.concat([self._distances, added[:, tf.newaxis]], axis=1)
    below = tf.concat([added, [0.0]], axis=0)[tf.newaxis]
    table = tf.concat([beside, below], axis=0)
    return tf.gather(tf.gather(table, place), place, axis=1)

  def picks_crafted(
    self, step, place, num_byzantine, *, variant: str, num_selected: int
  ) -> tf.Tensor:
    """Whether Krum selects a crafted row; -> [] bool."""
    distances = self.squared_distances(step, place)
    scores = krum.scores_of(distances, num_byzantine, variant=variant)
    picked = krum.select(scores, num_selected)
    return tf.reduce_any(picked & tf.equal(place, self._num_known))

  def bound(self, num_rows, num_crafted) -> tf.Tensor:
    """Where the search for lambda starts, after Theorem 1; -> [] float32.

    min_i sum_j dist(b_i, b_j) / ((n - 2c - 1) sqrt(d)) + max_i ||b_i|| / sqrt(d), with
    j over the n - c - 2 nearest. d counts the parameters with s != 0.
    """
    others = tf.linalg.set_diag(
      tf.sqrt(self._distances), tf.fill([self._num_known], np.float32(np.inf))
    )
    most = self._num_known - 1
    nearest = tf.minimum(tf.maximum(num_rows - num_crafted - 2, 1), most)
    sums = tf.reduce_sum(tf.sort(others, axis=1)[:, :nearest], axis=1)
    share = tf.cast(tf.maximum(num_rows - 2 * num_crafted - 1, 1), tf.float32)
    reach = tf.reduce_min(sums) / share + tf.sqrt(tf.reduce_max(self._norms))
    return tf.math.divide_no_nan(reach, tf.sqrt(self._square))

  @property
  def _num_known(self):
    return tf.shape(self._norms)[0]


def kernels(sign: tf.Tensor, known: tf.Tensor, shapes) -> tuple[tf.Tensor, tf.Tensor]:
  """Without the biases, which Krum's variant "authors" does not compare."""
  specs = [tf.TensorSpec(shape) for shape in shapes]
  columns = stacking.kernel_columns(specs)
  return tf.boolean_mask(sign, columns), tf.boolean_mask(known, columns, axis=1)


def sizes(shapes) -> list[int]:
  """Numbers of parameters of variables."""
  return [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
