"""Nearest-neighbour mixing: each update becomes the mean of those nearest to it.

Reference: Allouah et al., AISTATS 2023 (NNM).
Symbols: n updates x_i, f of them malicious at most.
"""

import collections
import dataclasses
from typing import Any

import tensorflow as tf

from tff_defenses.aggregators import checks, geometry, mixing


def neighbours(updates: tf.Tensor, num_byzantine: int) -> tf.Tensor:
  """Marks each row's n - f nearest rows, itself included; [n, d] -> [n, n] bool.

  Ties go to the lowest index, after the row itself; at least one row is marked.

  >>> rows = tf.constant([[0.0], [1.0], [3.0]])
  >>> neighbours(rows, 1).numpy().astype(int).tolist()
  [[1, 1, 0], [1, 1, 0], [0, 1, 1]]
  """
  distances = geometry.squared_distances(updates)
  itself = tf.fill(tf.shape(distances)[:1], tf.constant(-1.0, tf.float64))
  ranked = tf.argsort(tf.linalg.set_diag(distances, itself), axis=1, stable=True)
  ranks = tf.argsort(ranked, axis=1, stable=True)
  return ranks < tf.maximum(tf.shape(distances)[0] - num_byzantine, 1)


def mix(updates: tf.Tensor, num_byzantine: int) -> tf.Tensor:
  """NNM: y_i = mean of the n - f rows nearest to x_i; [n, d] -> [n, d]."""
  marked = tf.cast(neighbours(updates, num_byzantine), tf.float32)
  return geometry.combine(
    marked / tf.reduce_sum(marked, axis=1, keepdims=True), updates
  )


def aggregate(updates: tf.Tensor, num_byzantine: int, *, inner) -> tf.Tensor:
  """`inner` ([n, d] -> [d]) on the mixed rows; [n, d] -> [d]."""
  return inner(mix(updates, num_byzantine))


@dataclasses.dataclass(frozen=True)
class NearestNeighbourMixingFactory(mixing.MixingFactory):
  """Gives an inner rule the means of each update's n - f nearest ones.

  Honest updates that differ much, because their data do, make robust rules err; mixed
  ones differ less, while a mixed malicious row is mostly made of honest updates.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER (and
    W@SERVER as second argument if `inner` is model-aware); the state is the number of
    rounds and that of `inner`.
  Measurements: guarantee_holds bool (n >= 2f + 1, and what `inner` asks for);
    num_rejected int32; those of `inner`, a client's value being that of its mixed row
    (a model-aware `inner` counts the rows that it rejects in num_rejected_mixed).
  Args:
    inner: A robust rule of this package, model-aware or not, or `FiniteMeanFactory`.
    num_byzantine: f >= 0, the same number that `inner` expects.
  Raises:
    ValueError: `num_byzantine` is outside its range, or `inner` weighs by examples.
      TypeError: `inner` does not work on rows; in create: U holds a non-float.
  Deviations: non-finite updates are removed before the mixing. With no more than f
    updates each is mixed with none but itself.
  """

  inner: Any
  num_byzantine: int

  def __post_init__(self):
    who = "NearestNeighbourMixingFactory"
    mixing.check_inner(who, self.inner)
    checks.check_at_least(who, "num_byzantine", "f", self.num_byzantine, 0)

  def _mix(self, updates, round_number):
    del round_number
    num_clients = tf.shape(updates)[0]
    holds = num_clients >= 2 * self.num_byzantine + 1
    return mixing.Mix(
      mix(updates, self.num_byzantine),
      tf.range(num_clients),
      collections.OrderedDict(guarantee_holds=holds),
    )
