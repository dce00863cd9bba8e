"""RSA in FL-PLAS's form: the mean of the updates' signs, in steps that shrink.

Reference: Li et al., AAAI 2019; FL-PLAS Eq. (1).
Symbols: n updates, t the round from 1, beta_t its step.
"""

import collections
import dataclasses

import tensorflow as tf

from tff_defenses.aggregators import base, checks


def step(round_number, *, step_size: float = 5e-5, decay: float = 0.998) -> tf.Tensor:
  """beta_t = step_size * decay^t; [] int32 -> [] float32."""
  exponent = tf.cast(round_number, tf.float64)
  return tf.cast(step_size * tf.constant(decay, tf.float64) ** exponent, tf.float32)


def aggregate(
  updates: tf.Tensor,
  *,
  round_number=1,
  step_size: float = 5e-5,
  decay: float = 0.998,
) -> tf.Tensor:
  """beta_t times the mean of the rows' signs; [n, d] -> [d]; sign(0) = 0.

  >>> rows = tf.constant([[0.3, -2.0, 0.0], [1.0, 1.0, 0.0]])
  >>> aggregate(rows, step_size=0.125, decay=1.0).numpy().tolist()
  [0.125, 0.0, 0.0]
  """
  beta = step(round_number, step_size=step_size, decay=decay)
  return beta * tf.reduce_mean(tf.sign(updates), axis=0)


@dataclasses.dataclass(frozen=True)
class RsaFactory(base.StackedFactory):
  """Moves each parameter by a fixed small step, as the majority of clients votes.

  result = beta_t / n * sum_i sign(u_i): no client moves a parameter by more than
  beta_t / n. The step has the unit of the weights and depends on no learning rate.
  This is the form that FL-PLAS compares with. In RSA as published the workers keep
  models of their own between rounds and an l1 penalty pulls them and the server's
  model together; that needs client states, which an aggregation rule has not.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER; the state
    is the number of rounds that have passed.
  Measurements: weight [n] float32, 1 / n each, sums to 1; step float32, beta_t;
    num_rejected int32.
  Args:
    step_size: > 0. FL-PLAS: 5e-5.
    decay: factor from round to round, in (0, 1]. FL-PLAS: 0.998.
  Raises:
    ValueError: a setting is outside its range. TypeError (in create): U holds a
      non-float.
  Deviations: beta_t = step_size * decay^t with t = 1 in the first round, as in the
    code of FL-PLAS, whose Eq. (1) writes a sum and leaves out the previous global
    model. Li et al. use steps that fall with the square root of t. Rounds without any
    finite update count.
  """

  step_size: float = 5e-5
  _: dataclasses.KW_ONLY
  decay: float = 0.998

  def __post_init__(self):
    advice = " FL-PLAS uses 5e-5."
    who = "RsaFactory"
    checks.check_positive(who, "step_size", "beta", self.step_size, advice=advice)
    checks.check_fraction(who, "decay", "of beta_t", self.decay)

  def _initial_state(self, specs):
    del specs
    return tf.constant(0)

  def _step(self, state, updates, client_index, specs):
    del specs
    round_number = state + 1
    settings = {"step_size": self.step_size, "decay": self.decay}
    row = aggregate(updates, round_number=round_number, **settings)
    ones = tf.ones_like(client_index, tf.float32)
    measurements = collections.OrderedDict(
      weight=ones / tf.reduce_sum(ones), step=step(round_number, **settings)
    )
    return round_number, row, measurements
