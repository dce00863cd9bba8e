"""Rows that come one after the other, collected in time linear in their number.

TFF hands an accumulator from client to client. Handing a tensor on costs nothing, but
appending a row to a matrix copies the matrix, so n rows would cost n^2 / 2 copies of a
row. Here a row waits in a slot; full slots are joined to a block of the next level, as
digits carry, and only what overflows the last level is appended to `overflow`.
"""

import collections

import tensorflow as tf

NUM_SLOTS = 8  # a level's; ours: fast for 10 to 100 clients
NUM_LEVELS = 3  # hold 512 rows before anything overflows


def empty(num_columns: int):
  """A collection without rows: structure of [None, d] float32 and a row count."""

  def no_rows():
    # The placeholder keeps the first dimension unknown, as the declared type wants it.
    zeros = tf.zeros([0, num_columns])
    return tf.compat.v1.placeholder_with_default(zeros, [None, num_columns])

  levels = [[no_rows() for _ in range(NUM_SLOTS)] for _ in range(NUM_LEVELS)]
  return _pack(no_rows(), levels, tf.constant(0))


def push(collected, row: tf.Tensor):
  """Adds [1, d] to a collection."""
  levels = [list(level) for level in collected["levels"]]
  above = [*levels[1:], [collected["overflow"]]]
  count = collected["count"] + 1
  levels[0] = [row, *levels[0][:-1]]
  for k in range(NUM_LEVELS):
    is_full = tf.equal(count % NUM_SLOTS ** (k + 1), 0)
    levels[k], above[k] = _carry(is_full, levels[k], above[k])
    if k + 1 < NUM_LEVELS:
      levels[k + 1] = above[k]
  return _pack(above[-1][0], levels, count)


def join(left, right):
  """All rows of both, those of `left` first."""
  joined = empty(left["overflow"].shape[1])
  joined["overflow"] = tf.concat([to_matrix(left), to_matrix(right)], axis=0)
  return joined


def to_matrix(collected) -> tf.Tensor:
  """All rows in the order of their arrival; -> [n, d]."""
  blocks = [collected["overflow"]]
  for level in reversed(list(collected["levels"])):
    blocks += reversed(list(level))  # the oldest stands last
  return tf.concat(blocks, axis=0)


def _carry(is_full, level, above):
  """Joins a full level to one block that goes to the level above."""

  def carried():
    block = tf.concat(level[::-1], axis=0)
    is_last = len(above) == 1
    higher = [tf.concat([above[0], block], 0)] if is_last else [block, *above[:-1]]
    return [*[block[:0] for _ in level], *higher]

  blocks = tf.cond(is_full, carried, lambda: [*level, *above])
  shape = [None, level[0].shape[1]]
  blocks = [tf.ensure_shape(block, shape) for block in blocks]
  return blocks[: len(level)], blocks[len(level) :]


def _pack(overflow, levels, count):
  return collections.OrderedDict(overflow=overflow, levels=levels, count=count)
