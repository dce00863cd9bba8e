"""Min-max and min-sum: as far from the mean as benign updates are from each other.

Reference: Shejwalkar and Houmansadr, Manipulating the Byzantine, NDSS 2021, Eq. (8)
(min-max) and Eq. (9) (min-sum).
Symbols: B the b known updates b_i, mu, sd their mean and (population) standard
  deviation, p direction of the perturbation, gamma its length, delta = w - theta.

With x_i = mu - b_i the squared distance of mu + gamma p to b_i is
||x_i||^2 + 2 gamma <x_i, p> + gamma^2 ||p||^2: the largest gamma is a root, no search.
"""

import dataclasses

import tensorflow as tf

from attacks.updates import base
from tff_defenses.aggregators import checks, geometry

DIRECTIONS = ("inverse_std", "inverse_unit", "inverse_sign")


def perturbation(known: tf.Tensor, direction: str) -> tf.Tensor:
  """p: -sd, -mu / ||mu|| or -sign(mu); [b, d] -> [d].

  >>> rows = tf.constant([[3.0, 0.0], [3.0, 8.0]])
  >>> perturbation(rows, "inverse_std").numpy().tolist()
  [-0.0, -4.0]
  """
  mean = tf.reduce_mean(known, axis=0)
  if direction == "inverse_std":
    return -tf.math.reduce_std(known, axis=0)
  if direction == "inverse_sign":
    return -tf.sign(mean)
  return -tf.math.divide_no_nan(mean, tf.norm(mean))


def largest_gamma_max(known: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
  """Eq. (8): largest gamma with max_i dist <= largest distance in B; -> [] float32."""
  moved, square, limit = _parts(known, p)
  products = geometry.to_float64(tf.linalg.matvec(moved, p))
  room = tf.reduce_max(limit) - _squares(moved)  # >= 0: the mean is within reach
  roots = tf.sqrt(products**2 + square * tf.maximum(room, 0.0)) - products
  return _divide(tf.reduce_min(roots), square)


def largest_gamma_sum(known: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
  """Eq. (9): the same with sums of squared distances; -> [] float32.

  The x_i sum to zero, so that the sum has no term in gamma.
  """
  moved, square, limit = _parts(known, p)
  room = tf.reduce_max(tf.reduce_sum(limit, axis=1)) - tf.reduce_sum(_squares(moved))
  count = geometry.to_float64(tf.shape(moved)[0])
  return _divide(tf.sqrt(count * square * tf.maximum(room, 0.0)), count * square)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinMaxAttack(base.UpdateAttack):
  """All malicious clients send mu + gamma p, no farther from any benign update than
  the two benign updates farthest apart.

  Threat model: knows the benign updates ("full") or the malicious clients' honest ones.

  Measurements: gamma; no_attack (1: nobody malicious, or too little known).
  Args:
    direction: p: "inverse_std" (paper's best), "inverse_unit" or "inverse_sign".
    knowledge: "full" or "partial".
  Raises:
    ValueError: a setting is outside its range.
  Deviations: gamma is computed, where the paper searches for it.
  """

  direction: str = "inverse_std"
  knowledge: str = "full"
  measures = ("gamma",)
  needs_spread = True

  def __post_init__(self):
    super().__post_init__()
    checks.check_choice(type(self).__name__, "direction", self.direction, DIRECTIONS)

  def _crafted(self, view):
    p = perturbation(view.known, self.direction)
    gamma = self._largest(view.known, p)
    return tf.reduce_mean(view.known, axis=0) + gamma * p, {"gamma": gamma}

  def _largest(self, known, p):
    return largest_gamma_max(known, p)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinSumAttack(MinMaxAttack):
  """All malicious clients send mu + gamma p, with squared distances to the benign
  updates that sum to no more than those of the benign update farthest from the others.

  Threat model, measurements and settings: as `MinMaxAttack`.
  """

  def _largest(self, known, p):
    return largest_gamma_sum(known, p)


def _parts(known, p):
  """x_i [b, d], ||p||^2, and the squared distances in B, [b, b] float64."""
  moved = tf.reduce_mean(known, axis=0) - known
  return moved, _squares(p), geometry.squared_distances(moved)


def _squares(values):
  return geometry.to_float64(tf.reduce_sum(values**2, axis=-1))


def _divide(value, by):
  """0 where there is no direction to go."""
  return tf.cast(tf.math.divide_no_nan(value, by), tf.float32)
