"""Order statistics of every coordinate: means of the values in the middle.

The rules that look at each parameter by itself need the r-th smallest of n values, d
times. Columns go through in blocks that fit the cache, so nothing of the size of the
updates is copied. Floats are compared as integers of the same order, which makes every
way to find a rank exact; all ways share the arithmetic behind it and so agree.

Reference: Knuth, TAOCP vol. 3, Sec. 5.2.2, algorithm M (Batcher's merge exchange).
Symbols: n rows, d columns, k values dropped at either end.
"""

import functools

import numpy as np
import tensorflow as tf

_BLOCK = 1024  # ours: n = 100 rows of a block stay in a second-level cache of 512 kB
_CHUNKS = 8  # ours: parts of the columns that may run at the same time
_SMALL = 1 << 16  # ours: below so many columns compiling costs more than sorting
_NETWORKS = (16, 32)  # rows up to which a sorting network beats the search by bits
_SIGN = np.int32(2**31 - 1)
_ONE = 1 << 14  # a kept value, in parts that tied rows share; sums stay below 2^31


def kept_mean(
  values: tf.Tensor, num_dropped: int | None, *, compiled: bool | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
  """Mean without the k largest and k smallest of each column; [n, d] -> [d], [n].

  Args:
    values: [n, d] float32, finite.
    num_dropped: k; at most (n - 1) // 2 are dropped, as many as for None.
    compiled: whether the blocks run through XLA; None: if there are many columns.

  Returns:
    The means, and for each row how often it is among the kept values. Equal values
    that compete for the last places share them equally.

  >>> kept_mean(tf.constant([[0.0], [1.0], [2.0], [100.0]]), 1)[0].numpy().tolist()
  [1.5]
  """
  return _over_blocks(_kept_block, values, num_dropped, compiled)


def median(values: tf.Tensor, *, compiled: bool | None = None) -> tf.Tensor:
  """The means of `kept_mean` without k, alone and faster; [n, d] -> [d]."""
  return _over_blocks(_median_block, values, None, compiled)[0]


def nearest_mean(
  values: tf.Tensor,
  num_left_out: int,
  *,
  medoid: bool = False,
  compiled: bool | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Mean of the values nearest to the median of their column; [n, d] -> [d], [n].

  Args:
    values: [n, d] float32, finite.
    num_left_out: how many values are not averaged; one is kept at least. Ties go to
      the lowest row.
    medoid: take a middle value, the one in the lowest row, for the median.
    compiled: see `kept_mean`.

  Returns:
    The means, and for each row how often it is among the kept values.
  """
  block = _medoid_block if medoid else _nearest_block
  return _over_blocks(block, values, num_left_out, compiled)


def exchanges(num_rows: int) -> list[tuple[int, int]]:
  """Algorithm M: the exchanges (i, j), i < j, that sort `num_rows` values.

  >>> exchanges(4)
  [(0, 2), (1, 3), (0, 1), (2, 3), (1, 2)]
  """
  top = 1 << max((num_rows - 1).bit_length() - 1, 0)
  found, p = [], top
  while p > 0 and num_rows > 1:
    q, r, step = top, 0, p
    while True:
      found += [(i, i + step) for i in range(num_rows - step) if i & p == r]
      if q == p:
        break
      step, q, r = q - p, q >> 1, p
    p >>= 1
  return found


def _ranks(part, num_dropped):
  """Ranks, from 0, of the lowest and the highest value kept.

  From the block's own shape, which XLA knows: with constant ranks it drops all of a
  network that they do not need.
  """
  num_rows = tf.shape(part)[0]
  most = (num_rows - 1) // 2
  dropped = most if num_dropped is None else tf.minimum(num_dropped, most)
  return dropped, num_rows - 1 - dropped


# The way over the columns.


def _over_blocks(block, values, setting, compiled):
  values = tf.convert_to_tensor(values)
  num_columns = values.shape[1]
  if compiled is None:
    compiled = num_columns >= _SMALL
  if not compiled:
    return block(values, tf.ones([num_columns], tf.bool), setting, _by_sorting)
  ways = [functools.partial(_by_network, size=size) for size in _NETWORKS]
  run = _by_bits
  branches = [lambda way=way: _compiled(block, values, setting, way) for way in ways]
  last = functools.partial(_compiled, block, values, setting, run)
  for size, branch in zip(reversed(_NETWORKS), reversed(branches), strict=True):
    last = functools.partial(tf.cond, tf.shape(values)[0] <= size, branch, last)
  return last()


def _compiled(block, values, setting, way):
  """Runs `block` over all columns by XLA, in chunks that may run side by side."""
  num_columns = values.shape[1]
  width = min(_BLOCK, num_columns)
  total = -(-num_columns // width)
  per_chunk = -(-total // _CHUNKS)

  @tf.function(jit_compile=True, autograph=False)
  def chunk(values, first):
    return _chunk(block, values, setting, first, way, (width, per_chunk))

  firsts = range(0, total, per_chunk)
  parts = [chunk(values, tf.constant(first)) for first in firsts]
  blocks = tf.concat([means for means, _ in parts], axis=0)
  whole = num_columns // width
  flat = tf.reshape(blocks[:whole], [-1])
  if num_columns % width:
    flat = tf.concat([flat, blocks[whole, -(num_columns % width) :]], axis=0)
  return flat, tf.add_n([kept for _, kept in parts])


def _chunk(block, values, setting, first, way, size):
  """`size`: columns of a block and blocks of a chunk; -> [blocks, width], [n]."""
  width, count = size
  num_rows, num_columns = tf.shape(values)[0], values.shape[1]

  def body(i, means, kept):
    # The last block starts earlier, to be whole; its first columns count once.
    begin = (first + i) * width
    start = tf.minimum(begin, num_columns - width)
    part = tf.slice(values, [0, start], [num_rows, width])
    new = start + tf.range(width) >= begin
    mean, share = block(part, new, setting, way)
    return i + 1, tf.tensor_scatter_nd_update(means, [[i]], [mean]), kept + share

  start = (0, tf.zeros([count, width]), tf.zeros([num_rows]))
  return tf.while_loop(lambda i, *_: i < count, body, start)[1:]


# What happens to one block of columns, [n, b].


def _median_block(part, new, num_dropped, way):
  del new
  low, high = way(_keys(part), *_ranks(part, num_dropped))
  return _middle(low, high), tf.zeros([tf.shape(part)[0]])


def _middle(low, high):
  mean = 0.5 * _floats(low) + 0.5 * _floats(high)  # the sum might overflow
  return tf.where(tf.equal(low, high), _floats(low), mean)


def _kept_block(part, new, num_dropped, way):
  keys = _keys(part)
  first, last = _ranks(part, num_dropped)
  low, high = way(keys, first, last)
  num_kept = last - first + 1
  at_low, at_high = _ties(keys, low, high)
  single = tf.equal(low, high)
  # Of the values equal to a bound some may be dropped: as many as are out of range.
  kept_low = tf.where(single, num_kept, at_low[0] - first)
  kept_high = tf.where(single, 0, at_high[0] - first)
  share_low, share_high = kept_low * _ONE // at_low[1], kept_high * _ONE // at_high[1]
  scale = 1.0 / tf.cast(num_kept, tf.float32)  # at once: the sum might overflow
  ends = _real(kept_low) * scale * _floats(low)
  ends += _real(kept_high) * scale * _floats(high)
  num_rows = tf.shape(part)[0]

  def body(i, mean, kept):
    key = keys[i]
    inner = (key > low) & (key < high)
    share = tf.where(inner, _ONE, 0) + tf.where(tf.equal(key, low), share_low, 0)
    share += tf.where(tf.equal(key, high), share_high, 0)
    total = tf.reduce_sum(tf.where(new, share, 0))
    kept += tf.where(tf.equal(tf.range(num_rows), i), _real(total) / _ONE, 0.0)
    return i + 1, mean + tf.where(inner, part[i] * scale, 0.0), kept

  start = (0, ends, tf.zeros([num_rows]))
  _, mean, kept = tf.while_loop(lambda i, *_: i < num_rows, body, start)
  return tf.where(single, _floats(low), mean), kept


def _ties(keys, low, high):
  """(values up to `low`, equal to it), (values from `high` on, equal to it)."""

  def body(i, up_to, at_low, at_high, onward):
    key = keys[i]
    up_to += tf.cast(key <= low, tf.int32)
    at_low += tf.cast(tf.equal(key, low), tf.int32)
    at_high += tf.cast(tf.equal(key, high), tf.int32)
    return i + 1, up_to, at_low, at_high, onward + tf.cast(key >= high, tf.int32)

  num_rows, zero = tf.shape(keys)[0], tf.zeros_like(low)
  start = (0, zero, zero, zero, zero)
  counts = tf.while_loop(lambda i, *_: i < num_rows, body, start)
  return (counts[1], counts[2]), (counts[4], counts[3])


def _nearest_block(part, new, num_left_out, way):
  low, high = way(_keys(part), *_ranks(part, None))
  center = _middle(low, high)
  return _nearest_to(center, part, new, num_left_out, way)


def _medoid_block(part, new, num_left_out, way):
  keys = _keys(part)
  low, high = way(keys, *_ranks(part, None))
  middle = tf.equal(keys, low) | tf.equal(keys, high)
  row = tf.range(tf.shape(part)[0])[:, tf.newaxis]
  first = tf.reduce_min(tf.where(middle, row, tf.shape(part)[0]), axis=0)
  is_center = tf.equal(row, first)
  center = tf.reduce_sum(tf.where(is_center, part, 0.0), axis=0)
  return _nearest_to(center, part, new, num_left_out, way)


def _nearest_to(center, part, new, num_left_out, way):
  num_rows = tf.shape(part)[0]
  num_kept = tf.maximum(num_rows - num_left_out, 1)
  # Infinite distances (beyond float32) come last, as they should.
  keys = tf.bitcast(tf.abs(part - center), tf.int32)
  bound, _ = way(keys, num_kept - 1, num_kept - 1)
  places = num_kept - _count(keys < bound)
  scale = 1.0 / tf.cast(num_kept, tf.float32)

  def body(i, seen, mean, kept):
    tie = tf.equal(keys[i], bound)
    keep = (keys[i] < bound) | (tie & (seen < places))
    mean += tf.where(keep, part[i] * scale, 0.0)
    count = tf.math.count_nonzero(keep & new, dtype=tf.int32)
    kept += tf.where(tf.equal(tf.range(num_rows), i), _real(count), 0.0)
    return i + 1, seen + tf.cast(tie, tf.int32), mean, kept

  start = (0, tf.zeros_like(places), tf.zeros_like(center), tf.zeros([num_rows]))
  _, _, mean, kept = tf.while_loop(lambda i, *_: i < num_rows, body, start)
  return mean, kept


# Three ways to the values of rank `low` and `high`: [n, b] int32 -> two [b].


def _by_sorting(keys, low, high):
  ordered = tf.sort(keys, axis=0)
  return ordered[low], ordered[high]


def _by_network(keys, low, high, *, size):
  """A sorting network of `size` rows; XLA drops what no result depends on."""
  num_rows, width = tf.shape(keys)[0], tf.shape(keys)[1]
  # The padding sorts behind all rows; XLA folds the exchanges with it.
  padded = tf.concat([keys, tf.fill([size - num_rows, width], _SIGN)], axis=0)
  wires = [padded[row] for row in range(size)]
  for i, j in exchanges(size):
    small, large = tf.minimum(wires[i], wires[j]), tf.maximum(wires[i], wires[j])
    wires[i], wires[j] = small, large
  ordered = tf.stack(wires)
  return ordered[low], ordered[high]


def _by_bits(keys, low, high):
  """Builds the value of rank `low` bit by bit; `high` in the same way if not near."""
  lowest = _search(keys, low)
  beyond = tf.reduce_min(tf.where(keys > lowest, keys, _SIGN), axis=0)
  reached = tf.reduce_sum(tf.cast(keys <= lowest, tf.int32), axis=0)
  near = tf.where(reached > high, lowest, beyond)
  return lowest, tf.cond(high - low <= 1, lambda: near, lambda: _search(keys, high))


def _search(keys, rank):
  """The largest number below which at most `rank` values lie."""
  group = 8  # ours: rows counted in one pass over the counters
  num_rows, width = tf.shape(keys)[0], keys.shape[1]
  missing = tf.math.floormod(-num_rows, group)
  padded = tf.pad(keys, [[0, missing], [0, 0]], constant_values=_SIGN)
  groups = tf.reshape(padded, [-1, group, width])

  def count_below(candidate):
    def body(g, counts):
      rows = groups[g]
      smaller = [tf.cast(rows[r] < candidate, tf.int32) for r in range(group)]
      return g + 1, counts + tf.add_n(smaller)

    zero = (0, tf.zeros_like(candidate))
    return tf.while_loop(lambda g, _: g < tf.shape(groups)[0], body, zero)[1]

  def bit(i, found):
    candidate = found + tf.bitwise.left_shift(1, 31 - i)  # wraps at the sign
    return i + 1, tf.where(count_below(candidate) <= rank, candidate, found)

  least = tf.fill([width], np.int32(-(2**31)))
  return tf.while_loop(lambda i, _: i < 32, bit, (0, least))[1]


def _count(mask):
  return tf.reduce_sum(tf.cast(mask, tf.int32), axis=0)


def _real(counts):
  return tf.cast(counts, tf.float32)


def _flip(bits):
  """Swaps the order of the negative numbers; its own inverse."""
  sign = tf.bitwise.right_shift(bits, 31)
  return tf.bitwise.bitwise_xor(bits, tf.bitwise.bitwise_and(sign, _SIGN))


def _keys(values):
  """Floats -> integers of the same order (-0 before 0)."""
  return _flip(tf.bitcast(values, tf.int32))


def _floats(keys):
  return tf.bitcast(_flip(keys), tf.float32)
