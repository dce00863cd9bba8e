"""Norm clipping (NDC): no update counts for more than its direction at a norm M.

Reference: Sun et al., "Can You Really Backdoor Federated Learning?", 2019; FL-PLAS
  Eq. (2).
Symbols: n updates, M the norm that none may exceed.
"""

import collections
import dataclasses

import tensorflow as tf

from tff_defenses.aggregators import base, checks, geometry


def clip_factors(norms: tf.Tensor, max_norm: tf.Tensor) -> tf.Tensor:
  """Eq. (2): 1 / max(1, norm / M); [n] -> [n].

  >>> clip_factors(tf.constant([1.0, 8.0]), 2.0).numpy().tolist()
  [1.0, 0.25]
  """
  return tf.where(norms > max_norm, max_norm / norms, tf.ones_like(norms))


def aggregate(updates: tf.Tensor, *, max_norm: float | None = None) -> tf.Tensor:
  """Mean of the clipped rows; [n, d] -> [d]. None: M is the mean norm of the rows."""
  return _clip(updates, max_norm)[0]


@dataclasses.dataclass(frozen=True)
class NormClippingFactory(base.StackedFactory):
  """Averages updates after shortening those longer than M.

  result = 1/n sum_i u_i / max(1, ||u_i|| / M).

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER.
  Measurements: weight [n] float32, clip_factor / their sum, sums to 1; clip_factor [n]
    float32 in (0, 1], an update enters the result with this / n; clipped [n] bool;
    norm [n] float32, before clipping; max_norm float32, the M used; num_rejected int32.
  Args:
    max_norm: M > 0, or None: the mean norm of the round's updates (FL-PLAS's authors'
      code; its text leaves M to the server).
  Raises:
    ValueError: `max_norm` is not > 0. TypeError (in create): U holds a non-float.
  Deviations: FL-PLAS's Table 1 says that long updates are discarded, its Eq. (2) that
    they are clipped, as here. The mean norm counts malicious updates too: one huge
    update lifts M to 1 / n of its own length and is clipped to that, which is still any
    length. Only a fixed M bounds the result.
  """

  max_norm: float | None = None

  def __post_init__(self):
    if self.max_norm is not None:
      advice = " Or pass None for the round's mean norm."
      checks.check_positive(
        "NormClippingFactory", "max_norm", "M", self.max_norm, advice=advice
      )

  def _rule(self, updates, specs):
    del specs
    return _clip(updates, self.max_norm)


def _clip(updates, max_norm):
  """The whole rule: ([d], measurements)."""
  norms = geometry.row_norms(updates)
  if max_norm is None:
    limit = tf.reduce_mean(norms)
  else:
    limit = tf.constant(max_norm, tf.float64)
  factors = tf.cast(clip_factors(norms, limit), tf.float32)
  num_clients = tf.cast(tf.shape(factors)[0], tf.float32)
  row = geometry.combine(factors[tf.newaxis] / num_clients, updates)[0]
  return row, collections.OrderedDict(
    weight=factors / tf.reduce_sum(factors),
    clip_factor=factors,
    clipped=norms > limit,
    norm=geometry.to_float32(norms),
    max_norm=geometry.to_float32(limit),
  )
