"""Goes over the columns of a matrix with the values of each in order of size.

Columns go through in blocks that fit the cache, so nothing of the size of the updates
is copied. A block is sorted by a network whose comparators work on whole rows. The
number of rows is often known only in the round, but a network has a fixed number of
wires: there is one for each of `SIZES`, and rows of -inf and of inf fill up the rest,
as many on either side, so that the middle of the rows stays in the middle of the
network. More rows than that, and few columns, are sorted by `tf.sort`.
"""

import functools
import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_defenses.aggregators import sorting_network

MANY_COLUMNS = 1 << 16  # ours: below, building networks costs more than sorting
# Ours: even; the papers' rounds have 10, 30, 50 and 100 clients. More sizes would save
# little time in a round, and every one makes the first round start later.
SIZES = (10, 20, 32, 50, 100)
_WIDTH = 1 << 14  # ours: columns of a block; the fastest of 2**11 to 2**15


def reduce(
  values: tf.Tensor,
  rule: Callable[..., tf.Tensor],
  *settings,
  num_dropped: int | None = 0,
  in_order: bool = True,
) -> tf.Tensor:
  """Applies `rule` to each column; [n, d] -> [d].

  Args:
    values: [n, d] float32, finite; d is known.
    rule: (ranked [n - 2k, b], part [n, b], *settings) -> [b], on a part of the columns
      and its values of rank k to n - 1 - k, from 0. A function of a module: what is
      built for it is kept.
    *settings: for `rule`; hashable.
    num_dropped: k; None: as many as leave one value or two. More are never dropped.
    in_order: whether `ranked` must be sorted; fewer comparators do without.
  """
  values = tf.convert_to_tensor(values)
  if values.shape[1] < MANY_COLUMNS:
    return rule(_by_sorting(values, num_dropped), values, *settings)
  if tf.executing_eagerly():
    return _function(rule, settings, num_dropped, in_order)(values)
  return _over_blocks(values, rule, settings, num_dropped, in_order)


def dropped(num_rows, num_dropped: int | None):
  """min(k, (n - 1) // 2) for a number or a tensor n."""
  most = (num_rows - 1) // 2
  if num_dropped is None:
    return most
  return (tf.minimum if tf.is_tensor(most) else min)(num_dropped, most)


@functools.cache
def _function(rule, settings, num_dropped, in_order):
  """For eager calls: otherwise every comparator would be dispatched by Python."""
  return tf.function(
    lambda values: _over_blocks(values, rule, settings, num_dropped, in_order),
    autograph=False,
  )


def _over_blocks(values, rule, settings, num_dropped, in_order):
  def with_network(sizes):
    rank = functools.partial(
      _by_network, sizes=sizes, num_dropped=num_dropped, in_order=in_order
    )
    return lambda: _blocks(values, rank, rule, settings)

  def with_sorting():
    rank = functools.partial(_by_sorting, num_dropped=num_dropped)
    return _blocks(values, rank, rule, settings)

  num_rows = values.shape[0]
  if num_rows is not None:
    known = with_network([num_rows]) if num_rows <= SIZES[-1] else with_sorting
    return known()
  bounds = itertools.pairwise((0, *SIZES))
  branches = [with_network(range(low + 1, high + 1)) for low, high in bounds]
  fitting = tf.reduce_sum(tf.cast(tf.constant(SIZES) < tf.shape(values)[0], tf.int32))
  return tf.switch_case(fitting, [*branches, with_sorting])


def _blocks(values, rank, rule, settings):
  num_rows, num_columns = tf.shape(values)[0], values.shape[1]
  width = min(_WIDTH, num_columns)
  count = -(-num_columns // width)

  def body(i, results):
    # The last block starts earlier, to be whole.
    start = tf.minimum(i * width, num_columns - width)
    part = tf.slice(values, [0, start], [num_rows, width])
    part.set_shape([values.shape[0], width])
    return i + 1, results.write(i, rule(rank(part), part, *settings))

  results = tf.TensorArray(tf.float32, count, element_shape=[width])
  _, results = tf.while_loop(
    lambda i, _: i < count, body, (0, results), parallel_iterations=2
  )
  blocks = results.stack()
  rest = num_columns - (count - 1) * width
  return tf.concat([tf.reshape(blocks[:-1], [-1]), blocks[-1, width - rest :]], axis=0)


def _by_sorting(part, num_dropped):
  num_rows = tf.shape(part)[0]
  first = dropped(num_rows, num_dropped)
  return tf.sort(part, axis=0)[first : num_rows - first]


def _by_network(part, sizes, num_dropped, in_order):
  """`sizes`: the numbers of rows that may come, consecutive."""
  num_wires = sizes[-1]
  ranges = [_kept_wires(n, num_wires, num_dropped) for n in sizes]
  first, last = min(r.start for r in ranges), max(r.stop for r in ranges)
  always = set.intersection(*(set(range(r.start, r.stop)) for r in ranges))
  pooled = () if in_order else always
  network = sorting_network.prune(
    sorting_network.merge_exchange(num_wires),
    exact=set(range(first, last)).difference(pooled),
    pooled=pooled,
  )
  wires = tf.unstack(_filled_up(part, num_wires), num_wires)
  wires = sorting_network.run(network, wires)
  kept = _kept_wires(tf.shape(part)[0], num_wires, num_dropped)
  return tf.stack(wires[first:last])[kept.start - first : kept.stop - first]


def _kept_wires(num_rows, num_wires, num_dropped):
  below = (num_wires - num_rows) // 2
  first = dropped(num_rows, num_dropped)
  return slice(below + first, below + num_rows - first)


def _filled_up(part, num_wires):
  if part.shape[0] == num_wires:
    return part
  num_rows, width = tf.shape(part)[0], part.shape[1]
  below = (num_wires - num_rows) // 2
  least = tf.fill([below, width], np.float32(-np.inf))
  most = tf.fill([num_wires - num_rows - below, width], np.float32(np.inf))
  return tf.concat([least, part, most], axis=0)
