"""Centered clipping: each update may move the last aggregate by a bounded step only.

Reference: Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust
  Optimization", ICML 2021.
Symbols: n updates x_i, v the centre, tau the longest step.
"""

import collections
import dataclasses

import tensorflow as tf

from tff_defenses.aggregators import base, checks, geometry, norm_clipping


def aggregate(
  updates: tf.Tensor, *, center: tf.Tensor, radius: float = 10.0, num_iterations=1
) -> tf.Tensor:
  """v + 1/n sum_i (x_i - v) min(1, tau / ||x_i - v||), repeated; [n, d] -> [d].

  >>> rows = tf.constant([[1.0, 0.0], [0.0, 8.0]])
  >>> aggregate(rows, center=tf.zeros([2]), radius=4.0).numpy().tolist()
  [0.5, 2.0]
  """
  for _ in range(num_iterations):
    center, _ = _clip_once(updates, center, radius)
  return center


@dataclasses.dataclass(frozen=True)
class CenteredClippingFactory(base.StackedFactory):
  """Clips every update around the previous round's result and averages.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER; the state
    is v, the last result, zero before the first round.
  Measurements: weight [n] float32, clip_factor / their sum, sums to 1; clip_factor [n]
    float32 in (0, 1], of the last iteration; num_rejected int32.
  Args:
    radius: tau > 0, in the unit of the weights. Paper: 10 for gradients of its models;
      updates need a value of their own.
    num_iterations: how often the centre is moved in a round, >= 1. Paper: 1.
  Raises:
    ValueError: a setting is outside its range. TypeError (in create): U holds a
      non-float.
  Deviations: the paper's workers send momenta; here they send updates. A round without
    any finite update keeps the global weights and moves v towards zero.
  """

  radius: float = 10.0
  _: dataclasses.KW_ONLY
  num_iterations: int = 1

  def __post_init__(self):
    who = "CenteredClippingFactory"
    checks.check_positive(who, "radius", "tau", self.radius, advice=" Paper: 10.")
    checks.check_at_least(who, "num_iterations", "l", self.num_iterations, 1)

  def _initial_state(self, specs):
    return tf.zeros([sum(spec.shape.num_elements() for spec in specs)])

  def _step(self, state, updates, client_index, specs):
    del client_index, specs
    center = state
    for _ in range(self.num_iterations):
      center, factors = _clip_once(updates, center, self.radius)
    weight = factors / tf.reduce_sum(factors)
    measurements = collections.OrderedDict(weight=weight, clip_factor=factors)
    return center, center, measurements


def _clip_once(updates, center, radius):
  """One iteration: (new centre [d], clip factors [n])."""
  distances = geometry.distances_to(updates, center)
  limit = tf.constant(radius, tf.float64)
  factors = tf.cast(norm_clipping.clip_factors(distances, limit), tf.float32)
  share = factors / tf.cast(tf.shape(factors)[0], tf.float32)
  moved = geometry.combine(share[tf.newaxis], updates)[0]
  return moved + (1.0 - tf.reduce_sum(share)) * center, factors
