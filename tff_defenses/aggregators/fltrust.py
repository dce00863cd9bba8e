"""FLTrust: clients weighted by their agreement with the server's own training.

Reference: Cao et al., NDSS 2021, Eq. (2)-(4), Algorithm 2; FL-PLAS Sec. 2.
Symbols: n updates, d parameters, g_0 the server's update on its root data, TS_i the
  trust score of update g_i.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_defenses.aggregators import base, checks, huge, rows, stacking

NEGATIVE = ("relu", "abs")
_EPSILON = 1e-9  # ours: the paper divides by the bare norms


def cosines(updates: tf.Tensor, root_update: tf.Tensor) -> tf.Tensor:
  """Cosine of each update with the root update; [n, d] and [d] -> [n] float32.

  1e-9 is added to either norm, so that a zero update has cosine 0.

  >>> found = cosines(tf.constant([[2.0, 0.0], [-3.0, -3.0]]), tf.constant([1.0, 0.0]))
  >>> [round(float(c), 6) for c in found]
  [1.0, -0.707107]
  """
  updates, squares = huge.shorten(updates)
  # By the unit vector: the plain product could overflow.
  unit = root_update / (tf.norm(root_update) + _EPSILON)
  return tf.linalg.matvec(updates, unit) / (tf.sqrt(squares) + _EPSILON)


def trust_scores(cosine: tf.Tensor, negative: str = "relu") -> tf.Tensor:
  """Eq. (2): TS_i = ReLU(cosine_i), or its absolute value; [n] -> [n].

  >>> trust_scores(tf.constant([0.5, -0.25])).numpy().tolist()
  [0.5, 0.0]
  """
  checks.check_choice("trust_scores", "negative", negative, NEGATIVE)
  return tf.abs(cosine) if negative == "abs" else tf.nn.relu(cosine)


def aggregate(
  updates: tf.Tensor,
  *,
  root_update: tf.Tensor,
  negative: str = "relu",
  columns: np.ndarray | None = None,
) -> tf.Tensor:
  """Eq. (4): sum of TS_i ||g_0|| g_i / ||g_i|| over the sum of TS; [n, d] -> [d].

  Args:
    updates: [n, d] float32.
    root_update: g_0, [d], in the sign of the updates; if it is zero, or its norm is not
      finite, so is the result zero.
    negative: "relu" or "abs".
    columns: [d] bool, limits the cosines (not the lengths) to some parameters.
  """
  return _rule(updates, root_update, negative, columns)[0]


@dataclasses.dataclass(frozen=True)
class FLTrustFactory(base.StackedModelAwareFactory):
  """Averages updates of equal length, weighted by their cosine with the server's own.

  g_0 = root_update_fn(theta); TS_i = ReLU(cos(g_i, g_0)); the result is
  sum_i TS_i (||g_0|| / ||g_i||) g_i / sum_i TS_i, and zero if nobody is trusted.

  Type: next: <state@SERVER, W@SERVER, {W}@CLIENTS> -> <state, W, measurements>@SERVER;
    updates in TFF's sign (initial minus trained).
  Measurements: weight [n] float32, TS_i / sum TS, sums to 1 unless all TS are 0;
    selected [n] bool, TS_i > 0; cosine [n] float32; root_norm float32, ||g_0||, 0 if it
    is not finite; num_rejected int32.
  Args:
    root_update_fn: weights -> the server's own update, initial minus trained, as the
      same structure or flat, [d]. If it has a method `in_round` (weights, number of the
      round, from 1), that one is used. `learning.root_training.build_root_update_fn`
      makes one.
    negative: "relu" (paper), or "abs" (code of FLARE's authors): a reversed update is
      then trusted like a straight one.
    kernels_only: cosines leave out biases (tensors of rank 1), as FLARE's authors do.
    is_shared: one bool per variable, or None for all: g_0 is taken as zero in the
      others. `PartialAggregationFactory` sets it.
  Raises:
    ValueError: an unknown `negative`; in create: the root update has another size than
      the weights, or there is no kernel to compare. TypeError: `root_update_fn` cannot
      be called; in create: W holds a non-float.
  Deviations: 1e-9 is added to each norm and to the sum of TS. With `kernels_only` the
    lengths are still those of whole updates. An update whose squared norm passes 1e30
    is shortened first; its length plays no part in the rule.
  """

  root_update_fn: Callable
  _: dataclasses.KW_ONLY
  negative: str = "relu"
  kernels_only: bool = False
  is_shared: tuple[bool, ...] | None = None

  def __post_init__(self):
    who = "FLTrustFactory"
    checks.check_choice(who, "negative", self.negative, NEGATIVE)
    if not callable(self.root_update_fn):
      raise TypeError(
        f"{who}: `root_update_fn` must be callable, got "
        f"{type(self.root_update_fn).__name__}. "
        "`learning.root_training.build_root_update_fn` makes one."
      )

  def on_shared(self, is_shared):
    # What the server trained in private layers would lengthen the shared updates.
    return dataclasses.replace(self, is_shared=tuple(is_shared))

  def _initial_state(self, specs):
    del specs
    return tf.constant(0)  # rounds done

  def _step(self, state, weights, updates, specs):
    root_update = self._root_update(weights, specs, state + 1)
    columns = stacking.kernel_columns(specs) if self.kernels_only else None
    rule = functools.partial(
      _rule, root_update=root_update, negative=self.negative, columns=columns
    )
    kept = rows.finite_rows(updates)
    return (state + 1, *rows.on_kept_rows(kept, rule, updates))

  def _root_update(self, weights, specs, round_number):
    """g_0, [d]."""
    theta = stacking.unflatten(weights, specs)
    in_round = getattr(self.root_update_fn, "in_round", None)
    if in_round is None:
      found = self.root_update_fn(theta)
    else:
      found = in_round(theta, round_number)
    flat = stacking.flatten(found)
    if not flat.shape.is_compatible_with(weights.shape):
      raise ValueError(
        "FLTrustFactory: `root_update_fn` (g_0) must return as many numbers as the "
        f"weights have, {weights.shape[0]}, got {flat.shape[0]}. Return one tensor for "
        "each trainable variable."
      )
    flat = tf.ensure_shape(flat, weights.shape)
    if self.is_shared is None:
      return flat
    return tf.where(stacking.columns_of(specs, self.is_shared), flat, 0.0)


def _rule(updates, root_update, negative, columns):
  """The whole rule: ([d], measurements)."""
  root_update, root_norm = _usable(tf.convert_to_tensor(root_update))
  shortened, squares = huge.shorten(tf.convert_to_tensor(updates))
  cosine = _cosines_on(shortened, root_update, columns)
  trust = trust_scores(cosine, negative)
  total = tf.reduce_sum(trust)
  factor = trust * root_norm / (tf.sqrt(squares) + _EPSILON)
  row = tf.linalg.matvec(shortened, factor, transpose_a=True) / (total + _EPSILON)
  measurements = collections.OrderedDict(
    weight=tf.math.divide_no_nan(trust, total),
    selected=trust > 0,
    cosine=cosine,
    root_norm=root_norm,
  )
  return row, measurements


def _usable(root_update):
  """The root update and its norm, both zero if the norm is not finite."""
  norm = tf.norm(root_update)
  finite = tf.math.is_finite(norm)
  return tf.where(finite, root_update, 0.0), tf.where(finite, norm, 0.0)


def _cosines_on(updates, root_update, columns):
  if columns is None or columns.all():
    return cosines(updates, root_update)
  kept = tf.boolean_mask(updates, columns, axis=1)
  return cosines(kept, tf.boolean_mask(root_update, columns))
