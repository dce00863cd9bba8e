"""FLAME: cluster the models by angle, clip to the median length, add noise.

Reference: Nguyen et al., USENIX Security 2022, Algorithm 1.
Symbols: n updates, d parameters, theta global weights, w_i local weights, S_t the
  clipping bound, lambda the noise factor, sigma = lambda S_t the noise level.
"""

import collections
import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tff_defenses.aggregators import (
  base,
  checks,
  geometry,
  hdbscan,
  huge,
  rows,
  stacking,
)

FEATURES = ("weights", "updates")
VARIANTS = ("paper", "fl_plas")
# Ours: what float32 cannot tell from 0, for weights and for a plain cosine; equal
# clients must count as equal wherever they stand in the matrix.
_SAME_DIRECTION = {"weights": 1e-14, "updates": 1e-6}


def cosine_distances(updates, weights, *, features: str = "weights") -> tf.Tensor:
  """Algorithm 1, line 6: 1 - cosine of all pairs; [n, d] and [d] -> [n, n] float64.

  Models of one round are nearly parallel: a float32 cosine of theirs is 1. From the
  Gram matrix of the updates, moved by the one of median norm (v_i = u_i - u_mid, so
  that w_i = a - v_i with a = theta - u_mid), the products
  w_i w_j = a a - a v_i - a v_j + v_i v_j are exact where it matters: the relative error
  of float32 is one of the small distances then. Angles between updates are large; a
  plain Gram matrix resolves them to 1e-6.

  Args:
    updates: [n, d] float32, squares not beyond float32 (see `huge`).
    weights: theta, [d].
    features: "weights": of w_i = theta - update_i; "updates": of the updates.

  Raises:
    ValueError: unknown features.

  >>> rows = tf.constant([[1.0, 0.0], [0.0, 1.0]])
  >>> round(float(cosine_distances(rows, tf.constant([1.0, 1.0]))[0, 1]), 6)
  1.0
  """
  checks.check_choice("cosine_distances", "features", features, FEATURES)
  if features == "weights":
    products = _products_of_weights(updates, weights)
  else:
    products = _gram(updates)
  norms = tf.sqrt(tf.maximum(tf.linalg.diag_part(products), 0.0))
  cosines = tf.math.divide_no_nan(products, norms[:, tf.newaxis] * norms)
  distances = tf.clip_by_value(1.0 - cosines, 0.0, 2.0)
  distinct = distances >= _SAME_DIRECTION[features]
  distances = tf.where(distinct, distances, tf.zeros_like(distances))
  return tf.linalg.set_diag(distances, tf.zeros_like(norms))


def majority_cluster(distances: tf.Tensor) -> tf.Tensor:
  """Algorithm 1, line 7: the cluster of more than half of the rows; -> [n] bool.

  HDBSCAN with `min_cluster_size` n // 2 + 1 and `min_samples` 1 knows one cluster at
  most: the rows of the component that is the first to reach that size when rows are
  merged by single linkage, all merges of one and the same distance at once.

  Args:
    distances: [n, n], symmetric, zero diagonal.

  >>> line = tf.constant([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [5.0, 2.0, 0.0]])
  >>> majority_cluster(line).numpy().tolist()
  [True, True, False]
  """
  joined = hdbscan.bottlenecks(distances)
  half = tf.shape(distances)[0] // 2  # and the row itself
  reached = tf.sort(joined, axis=1)[:, half]
  first = tf.argmin(reached)
  return joined[first] <= reached[first]


def commonest_cluster(distances: tf.Tensor) -> tf.Tensor:
  """The cluster of FL-PLAS's code: [n, n] cosine distances -> [n] bool.

  HDBSCAN with `min_cluster_size` 2 on the rows of the matrix of cosine similarities, as
  points; the commonest label is kept even if it is noise (ties: the first client's).
  With one or two clients all are kept.
  """
  points = 1.0 - distances
  chords = tf.norm(points[:, tf.newaxis] - points, axis=2)
  # Their library does not count the point itself and takes 2 samples by default.
  labels = hdbscan.cluster_labels(chords, min_samples=3)
  same = tf.equal(labels[:, tf.newaxis], labels)
  return same[tf.argmax(tf.reduce_sum(tf.cast(same, tf.int32), axis=1))]


def clip_bound(norms: tf.Tensor) -> tf.Tensor:
  """Algorithm 1, line 10: S_t, the median of all n norms; [n] -> [].

  >>> float(clip_bound(tf.constant([1.0, 9.0, 2.0, 4.0])))
  3.0
  """
  ordered = tf.sort(norms)
  count = tf.shape(norms)[0]
  return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2.0


def aggregate(
  updates: tf.Tensor,
  *,
  weights: tf.Tensor,
  noise_multiplier: float = 0.001,
  seed: int = 0,
  round_number: int | tf.Tensor = 1,
  features: str | None = None,
  variant: str = "paper",
) -> tf.Tensor:
  """The whole rule; [n, d] float32 and theta [d] -> [d] float32.

  Args:
    updates: [n, d], TFF's sign.
    weights: theta, [d].
    noise_multiplier: lambda.
    seed: with `round_number` the seed of the noise.
    round_number: from 1.
    features: "weights" or "updates"; None: what the variant takes.
    variant: "paper" or "fl_plas".

  Raises:
    ValueError: an unknown variant, or unknown features.
  """
  checks.check_choice("flame.aggregate", "variant", variant, VARIANTS)
  key = _noise_key(seed, round_number)
  return _rule(updates, weights, noise_multiplier, key, features, variant)[0]


@dataclasses.dataclass(frozen=True)
class FlameFactory(base.StackedModelAwareFactory):
  """Averages the clipped updates of the largest cluster of models, and adds noise.

  Models w_i = theta - update_i are clustered by cosine distance (HDBSCAN, more than
  half of the clients in one cluster); S = median of all ||update_i||; the result is the
  mean of update_i min(1, S / ||update_i||) over the cluster, plus N(0, (lambda S)^2) on
  every trainable variable.

  Type: next: <state@SERVER, W@SERVER, {W}@CLIENTS> -> <state, W, measurements>@SERVER;
    updates in TFF's sign (initial minus trained); the state is the round's number.
  Measurements: weight [n] float32, sums to 1; selected [n] bool, in the cluster;
    clip_bound float32, S; noise_std float32; num_rejected int32.
  Args:
    noise_multiplier: lambda >= 0; 0: no noise. FLAME's image tasks and FL-PLAS's code:
      0.001; FL-PLAS Sec. 6.1: sigma 0.01.
    seed: of the noise, with the round's number (from 1). Keep it secret in deployment.
    features: "weights": angles between the models w_i; "updates": between the updates;
      None: weights, or updates in the variant "fl_plas".
    variant: "paper", or "fl_plas" (code of FL-PLAS): HDBSCAN with clusters of two or
      more on the rows of the similarity matrix, the commonest label is kept even if it
      is noise, and the noise has standard deviation (lambda S)^2.
    is_shared: Which variables the angles are taken of; None: all. Partial aggregation
      sets it.
  Raises:
    ValueError: a setting is outside its range. TypeError (in create): W holds a
      non-float.
  Deviations: the paper's threshold for HDBSCAN's labels is kept, its library is not:
    the one possible cluster is found by single linkage in TensorFlow. Angles below the
    resolution of float32 count as 0. S is the median over all finite updates, those
    outside of the cluster included, as in the paper; an update whose squared norm
    passes 1e30 is shortened first. With one or two clients all are kept. In "fl_plas"
    merges of equal distance happen at once, so that labels do not depend on the order
    of the clients, and S is the mean of the two middle norms if n is even, where
    FL-PLAS takes the lower one.
  """

  noise_multiplier: float = 0.001
  _: dataclasses.KW_ONLY
  seed: int = 0
  features: str | None = None
  variant: str = "paper"
  is_shared: tuple[bool, ...] | None = None

  def __post_init__(self):
    who = "FlameFactory"
    if not checks.is_number(self.noise_multiplier) or self.noise_multiplier < 0:
      raise ValueError(
        f"{who}: `noise_multiplier` (lambda) must be >= 0, got "
        f"{self.noise_multiplier!r}. The paper uses 0.001 for images; 0 adds no noise."
      )
    checks.check_at_least(who, "seed", "of the noise", self.seed, 0)
    checks.check_choice(who, "variant", self.variant, VARIANTS)
    if self.features is not None:
      checks.check_choice(who, "features", self.features, FEATURES)

  def _initial_state(self, specs):
    del specs
    return tf.constant(0, tf.int32)

  def on_shared(self, is_shared):
    # Private layers never move: in w_i they would be one large part that all agree in.
    return dataclasses.replace(self, is_shared=tuple(is_shared))

  def _step(self, state, weights, updates, specs):
    round_number = state + 1
    if self.is_shared is not None:
      weights = tf.where(stacking.columns_of(specs, self.is_shared), weights, 0.0)
    rule = functools.partial(
      _rule,
      weights=weights,
      noise_multiplier=self.noise_multiplier,
      key=_noise_key(self.seed, round_number),
      features=self.features,
      variant=self.variant,
    )
    keep = rows.finite_rows(updates)
    return round_number, *rows.on_kept_rows(keep, rule, updates)


def _rule(updates, weights, noise_multiplier, key, features, variant):
  """The whole rule: ([d], measurements)."""
  shortened, squares = huge.shorten(tf.convert_to_tensor(updates))
  selected = _cluster(shortened, weights, features, variant)
  norms = tf.sqrt(squares)
  bound = clip_bound(norms)
  kept = tf.cast(selected, tf.float32)
  weight = kept / tf.reduce_sum(kept)
  factor = tf.where(norms > bound, bound / norms, 1.0)
  row = tf.linalg.matvec(shortened, weight * factor, transpose_a=True)
  noise_std = np.float32(noise_multiplier) * bound
  if variant == "fl_plas":
    noise_std = noise_std**2
  if noise_multiplier > 0:
    row += noise_std * tf.random.stateless_normal(tf.shape(row), key)
  measurements = collections.OrderedDict(
    weight=weight, selected=selected, clip_bound=bound, noise_std=noise_std
  )
  return row, measurements


def _cluster(updates, weights, features, variant):
  if features is None:
    features = "weights" if variant == "paper" else "updates"
  distances = cosine_distances(updates, weights, features=features)
  pick = majority_cluster if variant == "paper" else commonest_cluster
  return pick(distances)


def _products_of_weights(updates, weights):
  """w_i w_j of all pairs; [n, n] float64."""
  squares = tf.reduce_sum(updates**2, axis=1)
  middle = geometry.middle_row(squares)
  moved = updates - updates[middle]
  anchor = weights - updates[middle]
  along = tf.cast(tf.linalg.matvec(moved, anchor), tf.float64)
  length = tf.cast(tf.reduce_sum(anchor**2), tf.float64)
  return length - (along[:, tf.newaxis] + along) + _gram(moved)


def _gram(matrix):
  gram = tf.cast(tf.linalg.matmul(matrix, matrix, transpose_b=True), tf.float64)
  return (gram + tf.transpose(gram)) / 2.0  # symmetric to the last bit


def _noise_key(seed, round_number):
  return tf.stack([tf.constant(seed, tf.int64), tf.cast(round_number, tf.int64)])
