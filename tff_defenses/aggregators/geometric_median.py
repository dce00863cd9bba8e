"""Geometric median (RFA): the point with the smallest mean distance to all updates.

Reference: Pillutla et al., IEEE Transactions on Signal Processing 2022, the smoothed
  Weiszfeld algorithm.
Symbols: n updates x_i, z the running point, nu the smoothing, b_i a row's weight.
"""

import collections
import dataclasses

import tensorflow as tf

from tff_defenses.aggregators import base, checks, geometry

STARTS = ("mean", "clipped_mean")


def clipped_mean(updates: tf.Tensor) -> tf.Tensor:
  """Mean of the rows, each shortened to the rows' median norm; [n, d] -> [d].

  >>> clipped_mean(tf.constant([[1.0], [4.0], [100.0]])).numpy().tolist()
  [3.0]
  """
  norms = geometry.row_norms(updates)
  median = tf.sort(norms)[(tf.shape(norms)[0] - 1) // 2]
  share = tf.where(norms > median, median / norms, 1.0)
  return _weighted_mean(updates, share / tf.cast(tf.shape(norms)[0], tf.float64))


def weiszfeld(
  updates: tf.Tensor,
  *,
  max_iterations: int = 4,
  smoothing: float = 1e-5,
  tolerance: float = 1e-6,
  start: str = "mean",
) -> tuple[tf.Tensor, collections.OrderedDict]:
  """Repeats b_i = 1 / max(nu, ||z - x_i||), z = sum b_i x_i / sum b_i.

  It ends early once the objective, the mean distance of the rows to z, changes by no
  more than `tolerance` times itself.

  Returns:
    z [d], and the measurements of `GeometricMedianFactory`.

  >>> rows = tf.constant([[0.0], [0.0], [0.0], [100.0]])  # from 25: (100/75)/(10/75)
  >>> weiszfeld(rows, max_iterations=1)[0].numpy().round(4).tolist()
  [10.0]
  """
  checks.check_choice("weiszfeld", "start", start, STARTS)
  first = _mean(updates) if start == "mean" else clipped_mean(updates)
  distances = geometry.distances_to(updates, first)

  def body(iteration, done, point, weight, distances):
    del done, point, weight
    closeness = 1.0 / tf.maximum(distances, smoothing)
    weight = closeness / tf.reduce_sum(closeness)
    point = _weighted_mean(updates, weight)
    found = geometry.distances_to(updates, point)
    before, after = tf.reduce_mean(distances), tf.reduce_mean(found)
    done = tf.abs(before - after) <= tolerance * after
    return iteration + 1, done, point, weight, found

  iterations, _, point, weight, distances = tf.while_loop(
    lambda iteration, done, *_: (iteration < max_iterations) & ~done,
    body,
    (tf.constant(0), tf.constant(False), first, distances, distances),
    parallel_iterations=1,
  )
  return point, collections.OrderedDict(
    weight=tf.cast(weight, tf.float32),
    distance=geometry.to_float32(distances),
    objective=geometry.to_float32(tf.reduce_mean(distances)),
    num_iterations=iterations,
  )


def aggregate(updates: tf.Tensor, **settings) -> tf.Tensor:
  """Geometric median of the rows; [n, d] -> [d]. For the settings see `weiszfeld`."""
  return weiszfeld(updates, **settings)[0]


@dataclasses.dataclass(frozen=True)
class GeometricMedianFactory(base.StackedFactory):
  """Smoothed Weiszfeld iterations towards the geometric median of the updates.

  The result is a weighted mean of the updates, whatever they are. The defaults are
  those of the authors' code; FL-PLAS's authors run 5 iterations with a smoothing of
  0.1 and a tolerance of 1e-5.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER.
  Measurements: weight [n] float32, b_i / sum b of the last iteration, sums to 1;
    distance [n] float32, to the result; objective float32, their mean; num_iterations
    int32; num_rejected int32.
  Args:
    max_iterations: at most that many, >= 1. Authors' code: 4.
    smoothing: nu > 0, in the unit of the updates' norms. Authors' code:
      1e-5.
    tolerance: > 0, see `weiszfeld`. Authors' code: 1e-6.
    start: "mean" (authors' code), or "clipped_mean": of the rows shortened to
      their median norm, for clients that send huge updates.
  Raises:
    ValueError: a setting is outside its range. TypeError (in create): U holds a
      non-float.
  Deviations: the exact geometric median stands against less than half of the updates,
    however far out; a few iterations from the mean do not. Each of them divides what
    f huge updates add by about (n - f) / f only, and the objective, which they fill,
    soon stops changing. From "clipped_mean" the pull of f such updates stays about
    f / (n - f) times the others' distance from the start. No form bounds a single
    coordinate by the honest ones.
  """

  _: dataclasses.KW_ONLY
  max_iterations: int = 4
  smoothing: float = 1e-5
  tolerance: float = 1e-6
  start: str = "mean"

  def __post_init__(self):
    who = "GeometricMedianFactory"
    checks.check_at_least(who, "max_iterations", "of z", self.max_iterations, 1)
    checks.check_positive(who, "smoothing", "nu", self.smoothing)
    checks.check_positive(who, "tolerance", "of the objective", self.tolerance)
    checks.check_choice(who, "start", self.start, STARTS)

  def _rule(self, updates, specs):
    del specs
    return weiszfeld(
      updates,
      max_iterations=self.max_iterations,
      smoothing=self.smoothing,
      tolerance=self.tolerance,
      start=self.start,
    )


def _mean(updates):
  ones = tf.ones_like(updates[:, 0])
  return _weighted_mean(updates, ones / tf.reduce_sum(ones))


def _weighted_mean(updates, weight):
  return geometry.combine(weight[tf.newaxis], updates)[0]
