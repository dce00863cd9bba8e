"""FoolsGold: clients whose updates have always pointed the same way count for less.

Reference: Fung et al., RAID 2020, Algorithm 1.
Symbols: n updates of this round, H_i the sum of all updates of client i so far, cs_ij
  the cosine of H_i and H_j (cs_ii = 0), v_i its maximum over j, hence >= 0, alpha_i the
  learning rate (weight) of client i.
"""

import collections
import dataclasses
from typing import ClassVar

import tensorflow as tf

from tff_defenses.aggregators import base, checks, geometry, stacking

SIMILARITIES = ("classifier", "all")

# Cosines of equal directions differ from 1 by rounding; dividing by the largest
# learning rate must not turn that into a difference between clients.
ROUNDING = 1e-12


def cosines(histories: tf.Tensor) -> tf.Tensor:
  """cs: cosine of each pair, [n, s] -> [n, n] float64, 0 on the diagonal.

  A history of norm 0 has cosine 0 with all.
  """
  products = geometry.gram(histories)
  norms = tf.sqrt(tf.linalg.diag_part(products))
  found = tf.math.divide_no_nan(products, norms[:, tf.newaxis] * norms)
  return tf.linalg.set_diag(found, tf.zeros_like(norms))


def learning_rates(similarities: tf.Tensor) -> tf.Tensor:
  """Algorithm 1 from the cosines on: alpha; [n, n] -> [n] float64 in [0, 1].

  >>> sybils = tf.constant([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
  >>> learning_rates(sybils).numpy().tolist()
  [1.0, 0.0, 0.0]
  """
  similarities = tf.cast(similarities, tf.float64)
  largest = tf.reduce_max(similarities, axis=1)
  share = tf.math.divide_no_nan(largest[:, tf.newaxis], largest[tf.newaxis])
  pardoned = tf.where(largest[:, tf.newaxis] < largest, share, 1.0) * similarities
  alpha = tf.clip_by_value(1.0 - tf.reduce_max(pardoned, axis=1), 0.0, 1.0)
  alpha = tf.where(alpha > ROUNDING, alpha, 0.0)
  alpha = tf.math.divide_no_nan(alpha, tf.reduce_max(alpha))
  alpha = tf.minimum(alpha, 0.99)
  logit = tf.math.log(alpha / (1.0 - alpha)) + 0.5
  return tf.clip_by_value(logit, 0.0, 1.0)


def aggregate(
  updates: tf.Tensor, *, histories: tf.Tensor | None = None, normalise: bool = True
) -> tf.Tensor:
  """sum_i alpha_i u_i / sum_i alpha_i; [n, d] -> [d]; 0 if all alpha_i are.

  Args:
    updates: [n, d].
    histories: H, [n, s], this round's updates included; None: the updates alone.
    normalise: If False, the sum is divided by n.
  """
  histories = updates if histories is None else histories
  return _weigh(updates, histories, normalise)[0]


@dataclasses.dataclass(frozen=True)
class FoolsGoldFactory(base.StackedFactory):
  """Weighs clients down whose updates have summed up to the same direction.

  It stands against sybils, any number of them, that push for one goal in round after
  round; a malicious client alone looks like an honest one and weighs as much.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER; the state
    is H, [largest client index so far + 1, s], row k for the client of index k.
  Measurements: weight [n] float32, alpha / their sum, sums to 1, or 0 if all alpha
    are; alpha [n] float32 in [0, 1]; selected [n] bool, alpha > 0; max_similarity [n]
    float32, v; num_rejected int32.
  Args:
    similarity_layer: what H holds: "classifier", the last layer's kernel (where label
      flips show), or "all" parameters. Of the shared ones, under partial aggregation.
    normalise: divide by the sum of alpha, or, if False, by n.
  Raises:
    ValueError: an unknown similarity layer. TypeError: `normalise` is not a bool; in
      create: U holds a non-float.
  Deviations: equal histories all get alpha 0, as in Algorithm 1; so do directions that
    differ by rounding alone (1 - cosine below 1e-12). The round then leaves the
    weights. alpha is capped at 0.99 before the logit, where the authors' code does so
    for 1 only; both give alpha 1. The authors weigh features by their importance,
    here the last kernel's numbers all count alike. Without client indices (plain TFF)
    H belongs to the places in the order of arrival.
  """

  similarity_layer: str = "classifier"
  _: dataclasses.KW_ONLY
  normalise: bool = True

  needs_client_identity: ClassVar[bool] = True

  def __post_init__(self):
    checks.check_choice(
      "FoolsGoldFactory", "similarity_layer", self.similarity_layer, SIMILARITIES
    )
    if not isinstance(self.normalise, bool):
      raise TypeError(
        f"FoolsGoldFactory: `normalise` must be True or False, got {self.normalise!r}."
      )

  def _columns(self, specs) -> slice:
    """The part of a row that is compared."""
    sizes = [spec.shape.num_elements() for spec in specs]
    if self.similarity_layer == "all":
      return slice(0, sum(sizes))
    first, shape, _ = stacking.last_kernel(specs)
    return slice(first, first + tf.TensorShape(shape).num_elements())

  def _initial_state(self, specs):
    columns = self._columns(specs)
    width = columns.stop - columns.start
    # The placeholder keeps the number of clients unknown: H grows.
    return tf.compat.v1.placeholder_with_default(tf.zeros([0, width]), [None, width])

  def _step(self, state, updates, client_index, specs):
    columns = self._columns(specs)
    state = remember(state, updates[:, columns], client_index)
    histories = tf.gather(state, client_index)
    return (state, *_weigh(updates, histories, self.normalise))


def remember(
  histories: tf.Tensor, features: tf.Tensor, client_index: tf.Tensor
) -> tf.Tensor:
  """H_k + this round's features of client k; [ids, s] and [n, s] -> [ids', s].

  Clients not seen before start at 0. Sums end at the largest float32.
  """
  known = tf.shape(histories)[0]
  wanted = tf.maximum(known, tf.reduce_max(client_index) + 1)
  grown = tf.pad(histories, [[0, wanted - known], [0, 0]])
  summed = tf.tensor_scatter_nd_add(grown, client_index[:, tf.newaxis], features)
  return tf.clip_by_value(summed, tf.float32.min, tf.float32.max)


def _weigh(updates, histories, normalise):
  """The rule on given histories: ([d], measurements)."""
  similarities = cosines(histories)
  alpha = tf.cast(learning_rates(similarities), tf.float32)
  weight = tf.math.divide_no_nan(alpha, tf.reduce_sum(alpha))
  num_clients = tf.cast(tf.shape(alpha)[0], tf.float32)
  share = weight if normalise else alpha / num_clients
  return geometry.combine(share[tf.newaxis], updates)[0], collections.OrderedDict(
    weight=weight,
    alpha=alpha,
    selected=alpha > 0,
    max_similarity=tf.cast(tf.reduce_max(similarities, axis=1), tf.float32),
  )
