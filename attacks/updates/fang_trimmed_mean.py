"""Attack-TM-Untargeted: just beyond the benign values, against where they all go.

References: Fang et al., USENIX Security 2020, Sec. 4.3; FLARE Sec. 7.2.1, Table 4.
Symbols: s_j sign of the benign change of parameter j, w = theta + delta local weights,
  min_j, max_j over the benign w_j, b = 2, f malicious, d parameters.
"""

import dataclasses

import tensorflow as tf

from attacks.updates import base
from tff_defenses.aggregators import checks

SPACES = ("weights", "updates")


def beyond(
  known: tf.Tensor, origin: tf.Tensor, draws: tf.Tensor, factor: float
) -> tf.Tensor:
  """Full knowledge: values on the side of B opposite to s; [b, d] -> [k, d].

  s = -1: between max and b max, or max / b if max <= 0; s = +1: between min and
  min / b, or b min if min <= 0; s = 0: the mean.

  Args:
    known: Benign changes.
    origin: [d], what the changes count from: theta.
    draws: [k, d] in [0, 1), where in the interval.
    factor: b.

  Returns:
    Changes; sums would round some back between the benign ones.

  >>> rows = tf.constant([[1.0, -1.0], [2.0, -4.0]])
  >>> beyond(rows, tf.zeros([2]), tf.constant([[0.0, 0.5]]), 2.0).numpy().tolist()
  [[1.0, -0.75]]
  """
  sign = tf.sign(tf.reduce_sum(known, axis=0))
  least, most = tf.reduce_min(known, axis=0), tf.reduce_max(known, axis=0)
  edge = tf.where(sign < 0, most, least)
  place = origin + edge
  outwards = tf.not_equal(sign, tf.sign(place))  # away from zero
  width = tf.abs(place) * tf.where(outwards, factor - 1.0, 1.0 - 1.0 / factor)
  values = edge - sign * draws * width
  return tf.where(tf.equal(sign, 0.0), tf.reduce_mean(known, axis=0), values)


def beyond_estimate(known: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
  """Partial knowledge: 3 to 4 standard deviations from the mean; [b, d] -> [k, d].

  >>> rows = tf.constant([[1.0], [3.0]])
  >>> beyond_estimate(rows, tf.constant([[0.5]])).numpy().tolist()
  [[-1.5]]
  """
  mean, spread = tf.reduce_mean(known, axis=0), tf.math.reduce_std(known, axis=0)
  sign = tf.sign(tf.reduce_sum(known, axis=0))
  return mean - sign * (3.0 + draws) * spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class FangTrimmedMeanAttack(base.UpdateAttack):
  """Sends values beyond the benign ones, which drag a trimmed mean or median back.

  Threat model: knows the benign updates ("full") or the malicious clients' honest ones.

  Measurements: no_attack (1: nobody malicious, or too little known).
  Args:
    factor: b > 1. Fang et al.: 2.
    space: what is scaled by b: "weights", or "updates", which moves much less because
      changes are smaller than weights.
    shared_draw: all malicious clients send the same (FLARE's code); otherwise each
      draws for itself.
    knowledge: "full" or "partial", where the standard deviations of the malicious
      clients' honest updates tell how far to go.
  Raises:
    ValueError: a setting is outside its range.
  Deviations: FLARE's text has s the sign of the average weights, and calls the range of
    the crafted values that of the benign ones; both are read as in Fang et al.
    FLARE's code works on mirrored weights, theta - delta, and takes a sign of 0 for +;
    here w = theta + delta, and 0 leaves the benign mean.
  """

  factor: float = 2.0
  space: str = "weights"
  shared_draw: bool = False
  knowledge: str = "full"
  needs_spread = True

  def __post_init__(self):
    super().__post_init__()
    who = "FangTrimmedMeanAttack"
    if not checks.is_number(self.factor) or self.factor <= 1:
      raise ValueError(
        f"{who}: `factor` (b) must be > 1, got {self.factor!r}. The paper uses 2."
      )
    checks.check_choice(who, "space", self.space, SPACES)
    defaults = FangTrimmedMeanAttack.factor, FangTrimmedMeanAttack.space
    if self.knowledge == "partial" and (self.factor, self.space) != defaults:
      raise ValueError(
        f"{who}: `factor` and `space` must be left out with `knowledge` 'partial', "
        "which goes by standard deviations, got "
        f"{self.factor!r} and {self.space!r}."
      )

  def _crafted(self, view):
    count = 1 if self.shared_draw else view.num_malicious
    shape = [count, view.known.shape[1]]
    draws = tf.random.stateless_uniform(shape, tf.cast(view.seed, tf.int32))
    if self.knowledge == "partial":
      values = beyond_estimate(view.known, draws)
    else:
      origin = view.weights if self.space == "weights" else tf.zeros_like(view.weights)
      values = beyond(view.known, origin, draws, self.factor)
    return (values[0] if self.shared_draw else values), {}
