"""Means of the values in the middle of each column, and which rows they come from.

The rules that look at each parameter by itself need a part of its n values in order of
size, d times; `ranked_columns` brings them. What a row contributes is counted on
`NUM_SAMPLED` columns at most: on all of them it would take longer than the rule itself.

Symbols: n rows, d columns, k values dropped at either end.
"""

import tensorflow as tf

from tff_defenses.aggregators import ranked_columns

NUM_SAMPLED = 1 << 13  # ours: a share of 0.1 is then 0.003 off (standard error)


def kept_mean(values: tf.Tensor, num_dropped: int | None) -> tf.Tensor:
  """Mean without the k largest and k smallest of each column; [n, d] -> [d].

  Args:
    values: [n, d] float32, finite.
    num_dropped: k; at most (n - 1) // 2 are dropped. None: as many, the median.

  >>> kept_mean(tf.constant([[0.0], [1.0], [2.0], [100.0]]), 1).numpy().tolist()
  [1.5]
  """
  return ranked_columns.reduce(values, _mean, num_dropped=num_dropped, in_order=False)


def kept_weight(values: tf.Tensor, num_dropped: int | None) -> tf.Tensor:
  """Share of the values averaged by `kept_mean` that are a row's; [n, d] -> [n].

  Equal values that compete for the last places share them equally. Sums to 1; columns
  as in `sampled`.

  >>> kept_weight(tf.constant([[0.0], [1.0], [1.0], [9.0]]), None).numpy().tolist()
  [0.0, 0.5, 0.5, 0.0]
  """
  columns = sampled(values)
  ranks = tf.range(tf.shape(columns)[0])
  first = ranked_columns.dropped(tf.shape(columns)[0], num_dropped)
  kept = (ranks >= first) & (ranks < tf.shape(columns)[0] - first)
  shares = tf.ones_like(columns) * tf.cast(kept, tf.float32)[:, tf.newaxis]
  return _weight(columns, tf.sort(columns, axis=0), shares)


def nearest_mean(
  values: tf.Tensor, num_left_out: int, *, medoid: bool = False
) -> tf.Tensor:
  """Mean of the values nearest to the median of their column; [n, d] -> [d].

  Args:
    values: [n, d] float32, finite.
    num_left_out: how many values are not averaged; one is kept at least. A pair of
      equally near values that competes for a place counts by half each.
    medoid: take a middle value, the one in the lowest row, for the median.
  """
  return ranked_columns.reduce(values, _nearest_mean, num_left_out, medoid)


def nearest_weight(
  values: tf.Tensor, num_left_out: int, *, medoid: bool = False
) -> tf.Tensor:
  """Share of the values averaged by `nearest_mean` that are a row's; [n, d] -> [n].

  Equal values share equally. Sums to 1; columns as in `sampled`.
  """
  columns = sampled(values)
  ranked = tf.sort(columns, axis=0)
  return _weight(columns, ranked, _shares(ranked, columns, num_left_out, medoid))


def sampled(values: tf.Tensor) -> tf.Tensor:
  """At most `NUM_SAMPLED` columns at equal distances, all if they are so few."""
  step = max(-(-values.shape[1] // NUM_SAMPLED), 1)
  return values[:, ::step]


def _mean(ranked, part=None):
  del part
  scale = 1.0 / tf.cast(tf.shape(ranked)[0], tf.float32)
  return tf.reduce_sum(ranked * scale, axis=0)  # the bare sum might overflow


def _nearest_mean(ranked, part, num_left_out, medoid):
  shares = _shares(ranked, part, num_left_out, medoid)
  num_kept = tf.maximum(tf.shape(ranked)[0] - num_left_out, 1)
  return tf.reduce_sum(ranked * (shares / tf.cast(num_kept, tf.float32)), axis=0)


def _shares(ranked, part, num_left_out, medoid):
  """How much of the value of each rank is kept; [n, b] -> [n, b] in 0..1.

  What is kept is a window of the sorted values. It moves up from rank r, giving up
  that value for the one that comes after the window, if that one is nearer.
  """
  num_rows = tf.shape(ranked)[0]
  num_moves = tf.minimum(num_left_out, num_rows - 1)
  center = 0.5 * (_medoid(ranked, part) if medoid else _median(ranked))
  first, after = 0.5 * ranked[:num_moves], 0.5 * ranked[num_rows - num_moves :]
  # Halves, or sums might overflow. In this form two middle values are equally near.
  moves = 0.5 + 0.5 * tf.sign((center + center) - (first + after))
  stay = tf.ones_like(ranked[num_moves:])
  taken = tf.concat([stay, moves], axis=0)
  given_up = tf.concat([moves, tf.zeros_like(stay)], axis=0)
  return taken - given_up  # sums to what is kept, however many values are equal


def _median(ranked):
  num_rows = tf.shape(ranked)[0]
  low, high = ranked[(num_rows - 1) // 2], ranked[num_rows // 2]
  return 0.5 * low + 0.5 * high


def _medoid(ranked, part):
  num_rows = tf.shape(part)[0]
  low, high = ranked[(num_rows - 1) // 2], ranked[num_rows // 2]
  is_middle = tf.equal(part, low) | tf.equal(part, high)
  row = tf.range(num_rows)[:, tf.newaxis]
  first = tf.reduce_min(tf.where(is_middle, row, num_rows), axis=0)
  return tf.reduce_sum(tf.where(tf.equal(row, first), part, 0.0), axis=0)


def _weight(columns, ranked, shares):
  """Mean share of each row, where equal values have the mean share of their ranks."""
  totals = tf.transpose(tf.pad(tf.cumsum(shares, axis=0), [[1, 0], [0, 0]]))
  ranked, columns = tf.transpose(ranked), tf.transpose(columns)
  below = tf.searchsorted(ranked, columns, side="left")
  up_to = tf.searchsorted(ranked, columns, side="right")
  share = tf.gather(totals, up_to, batch_dims=1) - tf.gather(
    totals, below, batch_dims=1
  )
  kept = tf.reduce_sum(share / tf.cast(up_to - below, tf.float32), axis=0)
  return kept / tf.reduce_sum(kept)
