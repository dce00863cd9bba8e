"""Bulyan: Krum picks updates, then each parameter averages what is near its median.

Reference: El Mhamdi et al., ICML 2018, Sec. 4; FLARE Sec. 2.
Symbols: n updates, f of them malicious at most, d parameters, theta picked updates,
  beta values averaged in each parameter.
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf

from tff_defenses.aggregators import base, checks, krum, order_statistics

VARIANTS = ("paper", "authors")
STAGES = ("median", "trim")
_HUGE = np.float32(np.finfo(np.float32).max)


def pick(
  distances: tf.Tensor, num_byzantine: int, *, variant: str = "paper"
) -> tf.Tensor:
  """Stage 1: theta = max(1, n - 2f) times Krum on the rows left; [n, n] -> [n] bool.

  Args:
    distances: squared L2 distances.
    num_byzantine: f.
    variant: "paper": max(1, n_left - f - 2) squared distances count; "authors":
      n_left - 2 plain ones, f = 1.

  Raises:
    ValueError: an unknown variant.
  """
  checks.check_choice("bulyan.pick", "variant", variant, VARIANTS)
  num_rows = tf.shape(distances)[0]
  spare = num_byzantine + 2
  if variant == "authors":
    distances, num_byzantine, spare = tf.sqrt(distances), 1, 2
  others = tf.linalg.set_diag(distances, tf.fill([num_rows], np.float32(np.inf)))
  num_picks = tf.maximum(num_rows - 2 * num_byzantine, 1)

  def body(i, left):
    num_left = num_rows - i
    near = tf.sort(tf.where(left, others, np.inf), axis=1)
    count = tf.minimum(tf.maximum(num_left - spare, 1), num_left - 1)
    scores = tf.reduce_sum(tf.where(tf.range(num_rows) < count, near, 0.0), axis=1)
    # Rows too far for float32 come after all others, but before those removed.
    scores = tf.where(left, tf.minimum(scores, _HUGE), np.inf)
    best = tf.argsort(scores, stable=True)[0]
    return i + 1, left & tf.not_equal(tf.range(num_rows), best)

  start = (0, tf.fill([num_rows], True))
  return ~tf.while_loop(lambda i, _: i < num_picks, body, start)[1]


def aggregate(
  updates: tf.Tensor,
  num_byzantine: int,
  *,
  variant: str = "paper",
  stage2: str = "median",
  sizes: tuple[int, ...] | None = None,
) -> tf.Tensor:
  """Both stages; [n, d] float32 -> [d].

  `sizes` are the numbers of parameters of the variables, which variant "authors" takes
  one by one (default: one variable).

  Raises:
    ValueError: an unknown variant or second stage.

  >>> rows = tf.constant([[0.0], [1.0], [2.5], [3.0], [5.0], [8.0], [100.0]])
  >>> round(float(aggregate(rows, 1)[0]), 6)
  2.166667
  """
  checks.check_choice("bulyan.aggregate", "stage2", stage2, STAGES)
  updates = tf.convert_to_tensor(updates)
  return _bulyan(updates, num_byzantine, variant, stage2, sizes)[0]


@dataclasses.dataclass(frozen=True)
class BulyanFactory(base.StackedFactory):
  """Averages, in every parameter, the values near the median of Krum's picks.

  Stage 1 picks n - 2f updates by Krum, one by one; stage 2 averages the n - 4f picked
  values nearest to their median, parameter by parameter.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER.
  Measurements: weight [n] float32, share of the averaged values that are the client's,
    counted on 8,192 evenly spaced parameters (of each variable in variant "authors")
    at most, sums to 1; selected [n] bool, picked in stage 1 (of any variable);
    guarantee_holds bool (n >= 4f + 3); num_rejected int32.
  Args:
    num_byzantine: f >= 0, the number of malicious updates to expect.
    variant: "paper", or "authors" (FLARE's code: every variable by itself, f = 1,
      n_left - 2 plain distances, the medoid for the median).
    stage2: "median" (nearest to the median), or "trim" (FLARE's prose: f values
      dropped at either end).
  Raises:
    ValueError: a setting is outside its range. TypeError (in create): U holds a
      non-float.
  Deviations: below n = 4f + 3 there is no guarantee: at least one update is picked and
    one value averaged, and `guarantee_holds` is False, as it is in "authors" for any
    f > 1, for which that form is not made. In stage 1 ties go to the lowest
    index. In stage 2 a value below and one above the median that are equally near count
    by half each, so that the order of the clients does not matter there.
  """

  num_byzantine: int
  _: dataclasses.KW_ONLY
  variant: str = "paper"
  stage2: str = "median"

  def __post_init__(self):
    who = "BulyanFactory"
    checks.check_at_least(who, "num_byzantine", "f", self.num_byzantine, 0)
    checks.check_choice(who, "variant", self.variant, VARIANTS)
    checks.check_choice(who, "stage2", self.stage2, STAGES)

  def _rule(self, updates, specs):
    sizes = tuple(spec.shape.num_elements() for spec in specs)
    settings = (self.num_byzantine, self.variant, self.stage2, sizes)
    row, weight, selected = _bulyan(updates, *settings)
    byzantine = 1 if self.variant == "authors" else self.num_byzantine
    counts_f = self.num_byzantine <= byzantine
    measurements = collections.OrderedDict(
      weight=weight,
      selected=selected,
      guarantee_holds=(tf.shape(updates)[0] >= 4 * byzantine + 3) & counts_f,
    )
    return row, measurements


def _bulyan(updates, num_byzantine, variant, stage2, sizes):
  """([d], share of each row in the averaged values [n], picked [n])."""
  if variant == "paper" or sizes is None:
    return _one_part(updates, num_byzantine, variant, stage2)
  sizes = [size for size in sizes if size]  # of an empty variable nothing is picked
  parts = [
    _one_part(part, num_byzantine, variant, stage2)
    for part in tf.split(updates, sizes, axis=1)
  ]
  rows, weights, picked = zip(*parts, strict=True)
  part_of_all = tf.constant(sizes, tf.float32) / updates.shape[1]
  weight = tf.linalg.matvec(tf.stack(weights), part_of_all, transpose_a=True)
  return tf.concat(rows, axis=0), weight, tf.reduce_any(tf.stack(picked), axis=0)


def _one_part(updates, num_byzantine, variant, stage2):
  byzantine = 1 if variant == "authors" else num_byzantine
  picked = pick(krum.squared_distances(updates), byzantine, variant=variant)
  left = tf.boolean_mask(updates, picked)
  if stage2 == "trim":
    row = order_statistics.kept_mean(left, byzantine)
    weight = order_statistics.kept_weight(left, byzantine)
  else:  # beta = theta - 2f
    settings = {"num_left_out": 2 * byzantine, "medoid": variant == "authors"}
    row = order_statistics.nearest_mean(left, **settings)
    weight = order_statistics.nearest_weight(left, **settings)
  spread = tf.scatter_nd(tf.where(picked), weight, tf.shape(picked, tf.int64))
  return row, spread, picked
