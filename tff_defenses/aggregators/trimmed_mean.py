"""Trimmed mean: each parameter averages the values left without the extremes.

Reference: Yin et al., ICML 2018, definition 2; FLARE Sec. 2.
Symbols: n updates, d parameters, k values dropped at either end.
"""

import collections
import dataclasses

import tensorflow as tf

from tff_defenses.aggregators import base, checks, order_statistics


def aggregate(updates: tf.Tensor, num_trimmed: int) -> tf.Tensor:
  """Mean of each column without its k largest and k smallest values; [n, d] -> [d].

  Raises:
    ValueError: 2 k >= n, where n is known.

  >>> rows = tf.constant([[0.0], [1.0], [2.0], [4.0], [100.0]])
  >>> round(float(aggregate(rows, 1)[0]), 6)
  2.333333
  """
  updates = tf.convert_to_tensor(updates)
  who, num_clients = "trimmed_mean.aggregate", updates.shape[0]
  checks.check_at_least(who, "num_trimmed", "k", num_trimmed, 0)
  if num_clients is not None and 2 * num_trimmed >= num_clients:
    raise ValueError(
      f"{who}: `num_trimmed` (k) must be below n / 2 = {num_clients / 2}, got "
      f"{num_trimmed}. Trim fewer values or pass more updates."
    )
  return order_statistics.kept_mean(updates, num_trimmed)


@dataclasses.dataclass(frozen=True)
class TrimmedMeanFactory(base.StackedFactory):
  """Averages every parameter without its k largest and k smallest values.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER.
  Measurements: weight [n] float32, share of the kept values that are the client's,
    counted on 8,192 evenly spaced parameters at most, sums to 1; selected [n] bool,
    whether that share is above 0; guarantee_holds bool (n > 2k); num_rejected int32.
  Args:
    num_trimmed: k >= 0, how many values are dropped at either end; at least the number
      of malicious updates to expect. 0 is the mean. FLARE: 1.
  Raises:
    ValueError: a number is outside its range. TypeError (in create): U holds a
      non-float.
  Deviations: with n <= 2k finite updates nothing would be left; k is then (n - 1) // 2,
    the median, and `guarantee_holds` is False: n is not known before the round. Equal
    values share the last places equally in `weight`.
  """

  num_trimmed: int

  def __post_init__(self):
    who = "TrimmedMeanFactory"
    checks.check_at_least(who, "num_trimmed", "k", self.num_trimmed, 0)

  def _rule(self, updates, specs):
    del specs
    num_clients = tf.shape(updates)[0]
    row = order_statistics.kept_mean(updates, self.num_trimmed)
    weight = order_statistics.kept_weight(updates, self.num_trimmed)
    measurements = collections.OrderedDict(
      weight=weight,
      selected=weight > 0,
      guarantee_holds=num_clients > 2 * self.num_trimmed,
    )
    return row, measurements
