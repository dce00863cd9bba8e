"""Sorting networks: fixed lists of comparators that sort any input of one size.

A comparator puts the smaller of two values on the first of its wires and the larger on
the second. A network has no branches, so whole rows of numbers go through it at once,
two TensorFlow operations a comparator.

Reference: Knuth, TAOCP vol. 3, Sec. 5.2.2, algorithm M (Batcher's merge exchange).
"""

import dataclasses
from collections.abc import Collection, Sequence

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Comparator:
  """Two wires, `low` < `high`, and which of its outputs are needed."""

  low: int
  high: int
  needs_low: bool = True
  needs_high: bool = True


def merge_exchange(num_wires: int) -> list[Comparator]:
  """Algorithm M: a network that sorts `num_wires` values.

  >>> [(c.low, c.high) for c in merge_exchange(4)]
  [(0, 2), (1, 3), (0, 1), (2, 3), (1, 2)]
  """
  top = 1 << max((num_wires - 1).bit_length() - 1, 0)
  found, p = [], top
  while p > 0 and num_wires > 1:
    q, r, step = top, 0, p
    while True:
      lows = (i for i in range(num_wires - step) if i & p == r)
      found += [Comparator(i, i + step) for i in lows]
      if q == p:
        break
      step, q, r = q - p, q >> 1, p
    p >>= 1
  return found


def prune(
  network: Sequence[Comparator],
  *,
  exact: Collection[int],
  pooled: Collection[int] = (),
) -> list[Comparator]:
  """Leaves out what no wanted wire depends on.

  Args:
    network: sorts.
    exact: wires that must carry the value of their own rank at the end.
    pooled: wires that must carry, together, the values of their ranks in any order.

  Returns:
    The comparators that are left; other wires carry anything at the end.
  """
  state = dict.fromkeys(pooled, "pooled") | dict.fromkeys(exact, "exact")
  kept = []
  for comparator in reversed(network):
    low, high = (state.get(w, "free") for w in (comparator.low, comparator.high))
    # To exchange two wires that nobody tells apart changes nothing.
    if low != high or low == "exact":
      needed = low != "free", high != "free"
      kept.append(Comparator(comparator.low, comparator.high, *needed))
      state |= {comparator.low: "exact", comparator.high: "exact"}
  return kept[::-1]


def run(network: Sequence[Comparator], wires: Sequence[tf.Tensor]) -> list[tf.Tensor]:
  """Sends tensors of one shape through a network, entry by entry."""
  wires = list(wires)
  for comparator in network:
    one, two = wires[comparator.low], wires[comparator.high]
    if comparator.needs_low:
      wires[comparator.low] = tf.minimum(one, two)
    if comparator.needs_high:
      wires[comparator.high] = tf.maximum(one, two)
  return wires
