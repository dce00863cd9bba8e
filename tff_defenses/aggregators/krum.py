"""Krum and Multi-Krum: keep the updates with the closest neighbours.

Reference: Blanchard et al., NIPS 2017; FL-PLAS Eq. (4); FLARE Sec. 2.
Symbols: n updates, f of them malicious at most, d parameters.
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf

from tff_defenses.aggregators import base, checks, geometry, stacking

VARIANTS = ("paper", "authors")
_FAR = 0.1  # ours: such distances lose one digit of float32 at most


def squared_distances(updates: tf.Tensor) -> tf.Tensor:
  """Pairwise squared L2 distances; [n, d] -> [n, n], zero diagonal.

  From one Gram matrix. Where two rows are much closer to each other than to zero, their
  difference would drown in the rounding of their norms; such pairs are taken from a
  second Gram matrix, seen from the row of median norm, which an outlier cannot be while
  most updates are honest. Distances too large for float32 are infinite.

  Rows near each other but far from zero and from that row, a second group, keep float32
  rounding of their common distance L: their squared distances are off by about
  1e-7 L^2, which matters where L is a thousand times what they differ by.
  """
  gram = _symmetric(tf.linalg.matmul(updates, updates, transpose_b=True))
  norms = tf.linalg.diag_part(gram)
  sums = norms[:, tf.newaxis] + norms
  distances = sums - 2.0 * gram
  is_far = tf.linalg.set_diag(distances >= _FAR * sums, tf.fill(tf.shape(norms), True))

  def seen_from_the_middle():
    moved = updates - updates[geometry.middle_row(norms)]
    gram = _symmetric(tf.linalg.matmul(moved, moved, transpose_b=True))
    squares = tf.linalg.diag_part(gram)
    near = squares[:, tf.newaxis] + squares - 2.0 * gram
    return tf.where(is_far, distances, near)

  distances = tf.cond(tf.reduce_all(is_far), lambda: distances, seen_from_the_middle)
  distances = tf.where(tf.math.is_nan(distances), np.inf, tf.maximum(distances, 0.0))
  return tf.linalg.set_diag(distances, tf.zeros_like(norms))


def _symmetric(gram):
  """To the last bit: two rows are as far apart seen from either, so ties are ties."""
  return (gram + tf.transpose(gram)) / 2.0


def krum_scores(
  updates: tf.Tensor, num_byzantine: int, *, variant: str = "paper"
) -> tf.Tensor:
  """Sum of the distances to the nearest other updates; [n, d] -> [n] float32.

  Args:
    updates: [n, d] float32.
    num_byzantine: f.
    variant: "paper": max(1, n - f - 2) squared distances; "authors" (FLARE's code):
      n - 3 plain distances whatever f is.

  Raises:
    ValueError: an unknown variant.

  >>> rows = tf.constant([[0.0], [1.0], [2.0], [4.0], [100.0]])
  >>> krum_scores(rows, 1).numpy().tolist()
  [5.0, 2.0, 5.0, 13.0, 18820.0]
  """
  return scores_of(squared_distances(updates), num_byzantine, variant=variant)


def scores_of(
  distances: tf.Tensor, num_byzantine: int | tf.Tensor, *, variant: str = "paper"
) -> tf.Tensor:
  """`krum_scores` from squared distances; [n, n] -> [n]; the diagonal is not read.

  Raises:
    ValueError: an unknown variant.
  """
  checks.check_choice("krum", "variant", variant, VARIANTS)
  num_clients = tf.shape(distances)[0]
  spare = num_byzantine + 2
  if variant == "authors":
    distances, spare = tf.sqrt(distances), 3
  others = tf.linalg.set_diag(distances, tf.fill([num_clients], np.float32(np.inf)))
  num_neighbours = tf.minimum(tf.maximum(num_clients - spare, 1), num_clients - 1)
  return tf.reduce_sum(tf.sort(others, axis=1)[:, :num_neighbours], axis=1)


def select(scores: tf.Tensor, num_selected: int) -> tf.Tensor:
  """Marks the smallest scores, ties to the lowest index; [n] -> [n] bool."""
  ranks = tf.argsort(tf.argsort(scores, stable=True), stable=True)
  return ranks < num_selected


def aggregate(
  updates: tf.Tensor,
  num_byzantine: int,
  *,
  num_selected: int = 1,
  variant: str = "paper",
  columns: np.ndarray | None = None,
) -> tf.Tensor:
  """Mean of the `num_selected` updates of smallest score; [n, d] -> [d].

  `columns` [d] bool limits the distances to some parameters (all by default).

  Raises:
    ValueError: `num_selected` is below 1 or above the number of updates, or an unknown
      variant.
  """
  num_clients = tf.convert_to_tensor(updates).shape[0]
  checks.check_at_least("krum.aggregate", "num_selected", "m", num_selected, 1)
  if num_clients is not None and num_selected > num_clients:
    raise ValueError(
      f"krum.aggregate: `num_selected` (m) must be at most n = {num_clients}, got "
      f"{num_selected}. Select fewer updates or pass more."
    )
  selected, _ = _select(updates, num_byzantine, num_selected, variant, columns)
  return _mean_of(updates, selected)


@dataclasses.dataclass(frozen=True)
class KrumFactory(base.StackedFactory):
  """Krum, or Multi-Krum if more than one update is selected.

  score_i = sum of the max(1, n - f - 2) smallest squared distances to other updates.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER.
  Measurements: weight [n] float32, sums to 1; selected [n] bool; score [n] float32;
    guarantee_holds bool (n >= 2f + 3 and m <= n - f - 2); num_rejected int32.
  Args:
    num_byzantine: f >= 0, the number of malicious updates to expect.
    num_selected: how many updates are averaged, >= 1; usual for Multi-Krum:
      n - f - 2. With fewer updates than that all are averaged.
    variant: "paper", or "authors" (FLARE's code: n - 3 plain distances, kernels only).
  Raises:
    ValueError: a number is outside its range; in create, variant "authors": U has no
      kernel. TypeError (in create): U holds a non-float.
  Deviations: below n = 2f + 3 Krum has no guarantee; it then counts one neighbour at
    least, as FL-PLAS needs (f = 27 of n = 30), and says so in `guarantee_holds`, which
    "authors" fulfils for f <= 1 only: its n - 3 neighbours are those for f = 1.
    Distances are float32's: within a group of updates that lies a thousand times
    farther from most others than its members from each other, they round.
  """

  num_byzantine: int
  num_selected: int = 1
  _: dataclasses.KW_ONLY
  variant: str = "paper"

  def __post_init__(self):
    who = "KrumFactory"
    checks.check_at_least(who, "num_byzantine", "f", self.num_byzantine, 0)
    checks.check_at_least(who, "num_selected", "m", self.num_selected, 1)
    checks.check_choice(who, "variant", self.variant, VARIANTS)

  def _rule(self, updates, specs):
    columns = stacking.kernel_columns(specs) if self.variant == "authors" else None
    selected, scores = _select(
      updates, self.num_byzantine, self.num_selected, self.variant, columns
    )
    f, m = self.num_byzantine, self.num_selected
    counts_f = self.variant == "paper" or f <= 1  # n - 3 neighbours: those for f = 1
    measurements = collections.OrderedDict(
      weight=_uniform_weight(selected),
      selected=selected,
      score=scores,
      guarantee_holds=counts_f & (tf.shape(updates)[0] >= max(2 * f + 3, f + 2 + m)),
    )
    return _mean_of(updates, selected), measurements


def _select(updates, num_byzantine, num_selected, variant, columns):
  compared = updates
  if columns is not None and not columns.all():
    compared = tf.boolean_mask(updates, columns, axis=1)
  scores = krum_scores(compared, num_byzantine, variant=variant)
  return select(scores, num_selected), scores


def _uniform_weight(selected):
  mask = tf.cast(selected, tf.float32)
  return mask / tf.reduce_sum(mask)


def _mean_of(updates, selected):
  # Not a weighted sum: zero times a huge update is still rounding, or infinite.
  return geometry.mean(tf.boolean_mask(updates, selected))
