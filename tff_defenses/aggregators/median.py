"""Coordinate-wise median: each parameter takes the middle of the clients' values.

Reference: Yin et al., ICML 2018, definition 1; FLARE Sec. 2.
Symbols: n updates, f of them malicious at most, d parameters.
"""

import collections
import dataclasses

import tensorflow as tf

from tff_defenses.aggregators import base, order_statistics


def aggregate(updates: tf.Tensor) -> tf.Tensor:
  """Median of each column, the mean of the two middle values for even n; -> [d].

  >>> aggregate(tf.constant([[0.0], [1.0], [2.0], [100.0]])).numpy().tolist()
  [1.5]
  """
  return order_statistics.kept_mean(updates, None)


@dataclasses.dataclass(frozen=True)
class CoordinateMedianFactory(base.StackedFactory):
  """Takes the median of every parameter over the clients.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER.
  Measurements: weight [n] float32, share of the middle values that are the client's,
    counted on 8,192 evenly spaced parameters at most, sums to 1; selected [n] bool,
    whether that share is above 0; num_rejected int32.
  Args:
    none.
  Raises:
    TypeError (in create): U holds a non-float.
  Deviations: equal values share their middle places equally in `weight`, so that equal
    clients weigh the same.
  """

  def _rule(self, updates, specs):
    del specs
    weight = order_statistics.kept_weight(updates, None)
    measurements = collections.OrderedDict(weight=weight, selected=weight > 0)
    return aggregate(updates), measurements
