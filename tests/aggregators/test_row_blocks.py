"""Rows collected one by one come out as they went in, and are copied a few times."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tff_defenses.aggregators import row_blocks

CAPACITY = row_blocks.NUM_SLOTS**row_blocks.NUM_LEVELS


def rows(count, start=0):
  return [np.full([1, 2], start + k, np.float32) for k in range(count)]


def collect(pushed):
  collected = row_blocks.empty(2)
  for row in pushed:
    collected = row_blocks.push(collected, row)
  return collected


def test_without_rows_the_matrix_is_empty():
  assert row_blocks.to_matrix(row_blocks.empty(3)).shape == (0, 3)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17, 64, 65, CAPACITY - 1])
def test_rows_keep_their_order_across_carries(count):
  found = row_blocks.to_matrix(collect(rows(count)))
  np.testing.assert_array_equal(found, np.concatenate(rows(count)))


def test_what_overflows_the_last_level_is_kept_in_order():
  collected = collect(rows(CAPACITY + 20))
  assert collected["overflow"].shape[0] == CAPACITY
  found = row_blocks.to_matrix(collected)[:, 0].numpy()
  np.testing.assert_array_equal(found, np.arange(CAPACITY + 20))


def test_joined_collections_hold_the_left_rows_first_and_take_more():
  joined = row_blocks.join(collect(rows(18)), collect(rows(5, start=18)))
  for row in rows(17, start=23):
    joined = row_blocks.push(joined, row)
  found = row_blocks.to_matrix(joined)[:, 0].numpy()
  np.testing.assert_array_equal(found, np.arange(40))


def test_a_row_is_copied_once_a_level_at_most(monkeypatch):
  """Counts the rows that pass through concatenations while 200 are pushed."""
  copied = collections.Counter()
  concat = tf.concat

  def counting(values, axis):
    copied["rows"] += sum(int(v.shape[0]) for v in values)
    return concat(values, axis)

  monkeypatch.setattr(row_blocks.tf, "concat", counting)
  collect(rows(200))
  # 25 full levels of 8 rows and 3 of 64; appending would copy 20,100.
  assert copied["rows"] == 25 * 8 + 3 * 64
