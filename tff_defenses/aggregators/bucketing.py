"""Bucketing: the updates are averaged in small random groups.

Reference: Karimireddy et al., ICLR 2022, Algorithm 1.
Symbols: n updates, s the size of a bucket, m = ceil(n / s) buckets.
"""

import collections
import dataclasses
from typing import Any

import tensorflow as tf

from tff_defenses.aggregators import checks, geometry, mixing


def buckets(num_clients, *, bucket_size: int = 2, seed: int = 0, round_number=1):
  """The bucket of each client, in 0..m-1; -> [n] int32; the last may be smaller.

  Clients in random order fill one bucket after the other; `seed` and `round_number`
  decide the order.

  >>> sorted(buckets(5).numpy().tolist())
  [0, 0, 1, 1, 2]
  """
  key = tf.stack([tf.constant(seed, tf.int64), tf.cast(round_number, tf.int64)])
  places = tf.random.experimental.stateless_shuffle(tf.range(num_clients), key)
  return places // bucket_size


def check_bucket_size(bucket_size: int) -> None:
  """Raises ValueError unless `bucket_size` is a whole number >= 1."""
  checks.check_at_least("BucketingFactory", "bucket_size", "s", bucket_size, 1)


def mix(updates: tf.Tensor, bucket_of_client: tf.Tensor) -> tf.Tensor:
  """Mean of each bucket; [n, d] and [n] int32 -> [m, d]."""
  num_buckets = tf.reduce_max(bucket_of_client) + 1
  members = tf.one_hot(bucket_of_client, num_buckets, axis=0)
  return geometry.combine(
    members / tf.reduce_sum(members, axis=1, keepdims=True), updates
  )


@dataclasses.dataclass(frozen=True)
class BucketingFactory(mixing.MixingFactory):
  """Gives an inner rule the means of random buckets of s updates.

  Honest rows then differ less, while f malicious clients spoil f of the m rows at
  most: `inner` must stand f among m. It should be told f, not f / s.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER (and
    W@SERVER as second argument if `inner` is model-aware); the state is the number of
    rounds and that of `inner`.
  Measurements: bucket [n] int32, from 1, 0 if rejected; num_rejected int32; those of
    `inner`, a client's value being that of its bucket and its weight or trust the
    bucket's divided by the number of its clients (a model-aware `inner` counts the
    buckets that it rejects in num_rejected_mixed).
  Args:
    inner: A robust rule of this package, model-aware or not, or `FiniteMeanFactory`.
    bucket_size: s >= 1; 1 changes nothing but the order. Paper: 2.
    seed: of the random order, >= 0.
  Raises:
    ValueError: a number is outside its range, or `inner` weighs by examples. TypeError:
      `inner` does not work on rows or remembers clients; in create: U holds a
      non-float.
  Deviations: the order is drawn from (seed, round) over the finite updates sorted by
    client index, so that neither arrival nor a repeated run changes it. Where indices
    are not known (plain TFF) it follows the order of arrival. The last bucket weighs as
    much as the others, though it may hold fewer clients.
  """

  inner: Any
  bucket_size: int = 2
  _: dataclasses.KW_ONLY
  seed: int = 0

  def __post_init__(self):
    who = "BucketingFactory"
    mixing.check_inner(who, self.inner)
    if mixing.needs_client_identity(self.inner):
      raise TypeError(
        f"{who}: `inner` must not remember clients, got {self.inner!r}; buckets are "
        "drawn anew every round. Put it into td.NearestNeighbourMixingFactory instead."
      )
    check_bucket_size(self.bucket_size)
    checks.check_at_least(who, "seed", "of the order", self.seed, 0)

  def _mix(self, updates, round_number):
    bucket = buckets(
      tf.shape(updates)[0],
      bucket_size=self.bucket_size,
      seed=self.seed,
      round_number=round_number,
    )
    measurements = collections.OrderedDict(bucket=bucket + 1)
    return mixing.Mix(mix(updates, bucket), bucket, measurements)
