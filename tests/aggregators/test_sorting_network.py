"""Sorting networks sort; pruned ones still give what is wanted."""

import numpy as np
import pytest
import tensorflow as tf

from tff_defenses.aggregators import sorting_network


def run(network, values):
  """[wires, columns] through a network, in NumPy."""
  wires = list(values.copy())
  for c in network:
    one, two = wires[c.low], wires[c.high]
    wires[c.low] = np.minimum(one, two) if c.needs_low else np.full_like(one, np.nan)
    wires[c.high] = np.maximum(one, two) if c.needs_high else np.full_like(one, np.nan)
  return np.stack(wires)


@pytest.mark.parametrize("num_wires", range(1, 13))
def test_sorts_every_zero_one_input(num_wires):
  """By Knuth's zero-one principle it then sorts everything."""
  numbers = np.arange(2**num_wires)
  bits = (numbers >> np.arange(num_wires)[:, None] & 1).astype(np.float32)
  network = sorting_network.merge_exchange(num_wires)
  np.testing.assert_array_equal(run(network, bits), np.sort(bits, axis=0))


@pytest.mark.parametrize(("num_wires", "size"), [(2, 1), (4, 5), (8, 19), (16, 63)])
def test_has_batchers_number_of_comparators(num_wires, size):
  # (k^2 - k + 4) 2^(k - 2) - 1 for 2^k wires: 1, 5, 19, 63.
  assert len(sorting_network.merge_exchange(num_wires)) == size


@pytest.mark.parametrize(("n", "wanted"), [(7, {3}), (10, {4, 5}), (20, {0, 3, 18})])
def test_pruned_network_gives_the_exact_wires(n, wanted, rng):
  full = sorting_network.merge_exchange(n)
  pruned = sorting_network.prune(full, exact=wanted)
  values = rng.normal(size=(n, 50)).astype(np.float32)
  rows = sorted(wanted)
  found = run(pruned, values)[rows]  # an output taken for needless would be NaN
  np.testing.assert_array_equal(found, np.sort(values, axis=0)[rows])
  assert len(pruned) < len(full)


@pytest.mark.parametrize(("n", "k"), [(5, 1), (12, 2), (30, 3)])
def test_pooled_wires_carry_their_values_in_any_order(n, k, rng):
  full, inner = sorting_network.merge_exchange(n), range(k, n - k)
  pooled = sorting_network.prune(full, exact=[], pooled=inner)
  values = rng.normal(size=(n, 50)).astype(np.float32)
  found = np.sort(run(pooled, values)[k : n - k], axis=0)
  np.testing.assert_array_equal(found, np.sort(values, axis=0)[k : n - k])
  assert len(pooled) < len(sorting_network.prune(full, exact=inner))


def test_tensors_go_through_entry_by_entry():
  # Two columns: 3, 1, 2 and 1, 2, 3.
  rows = [tf.constant(x) for x in ([3.0, 1.0], [1.0, 2.0], [2.0, 3.0])]
  found = sorting_network.run(sorting_network.merge_exchange(3), rows)
  assert [x.numpy().tolist() for x in found] == [[1, 1], [2, 2], [3, 3]]
