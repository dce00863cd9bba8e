"""Which rows are kept, and where a rule's measurements land."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_defenses.aggregators import rows

NAN, INF = float("nan"), float("inf")
KEEP = np.array([True, False, True, False])
MATRIX = np.float32([[1, 2], [NAN, 0], [3, 4], [INF, 1]])


def measuring_rule(matrix):
  """Sum of the rows; one measurement of each form."""
  first = matrix[:, 0]
  return tf.reduce_sum(matrix, axis=0), collections.OrderedDict(
    count=tf.shape(matrix)[0],
    value=first,
    number=tf.cast(first, tf.int32),
    flag=first > 2,
    pairs=first[:, tf.newaxis] + 10 * first,
  )


@pytest.mark.parametrize(
  ("bad", "expected"), [(NAN, False), (INF, False), (1e30, True)]
)
def test_all_finite_looks_at_every_tensor(bad, expected):
  value = {"a": np.float32([[1, 2]]), "b": (np.float32(bad), np.float64([0]))}
  assert bool(rows.all_finite(value)) is expected


def test_whole_numbers_are_finite():
  assert bool(rows.all_finite([np.int64([3]), np.array(True), np.float32(1)]))
  assert bool(rows.all_finite([np.int64(3)])) and bool(rows.all_finite([]))
  assert not bool(rows.all_finite([np.int64(3), np.float32(NAN)]))


def test_finite_rows_by_hand():
  matrix = np.float32([[1, 2], [NAN, 1], [1, INF], [-INF, 1], [INF, -INF], [0, 0]])
  assert rows.finite_rows(matrix).numpy().tolist() == [1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("shape", [[6, 2], [None, 2], [None, None]])
def test_finite_rows_in_a_graph_of_any_shape(shape):
  """TensorFlow's optimizer takes a product with known zeros for zero, NaN or not."""
  spec = tf.TensorSpec(shape, tf.float32)
  marked = tf.function(rows.finite_rows, input_signature=[spec])
  matrix = np.float32([[1, 2], [NAN, 1], [1, INF], [-INF, 1], [INF, -INF], [0, 0]])
  assert marked(matrix).numpy().tolist() == [1, 0, 0, 0, 0, 1]
  assert marked(matrix[::-1]).numpy().tolist() == [1, 0, 0, 0, 0, 1]


def test_no_rows_are_no_finite_rows():
  assert rows.finite_rows(tf.zeros([0, 3])).shape == [0]


@pytest.mark.parametrize("huge", [1e30, -1e30, 3.4e38, 1e-45])
def test_huge_and_tiny_numbers_are_finite(huge):
  """A norm of them overflows: no rule may mistake that for a broken client."""
  matrix = np.full([3, 1000], huge, np.float32)
  assert rows.finite_rows(matrix).numpy().all()


@settings(max_examples=40, deadline=None)
@given(
  st.lists(
    st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5
  )
)
def test_finite_rows_equal_numpy(matrix):
  matrix = np.float32(matrix)
  expected = np.isfinite(matrix).all(axis=1)
  np.testing.assert_array_equal(rows.finite_rows(matrix), expected)


def test_measurements_land_at_their_clients():
  aggregate, measured = rows.on_kept_rows(KEEP, measuring_rule, MATRIX)
  assert aggregate.numpy().tolist() == [4.0, 6.0]
  assert int(measured["count"]) == 2
  assert measured["value"].numpy().tolist() == [1.0, 0.0, 3.0, 0.0]
  assert measured["number"].numpy().tolist() == [1, 0, 3, 0]
  assert measured["flag"].numpy().tolist() == [False, False, True, False]
  assert int(measured["num_rejected"]) == 2


def test_pairs_with_rejected_clients_are_nan():
  _, measured = rows.on_kept_rows(KEEP, measuring_rule, MATRIX)
  expected = np.full([4, 4], NAN)
  expected[np.ix_(KEEP, KEEP)] = [[11, 31], [13, 33]]
  np.testing.assert_array_equal(measured["pairs"], expected)


def test_types_of_measurements_stay():
  _, measured = rows.on_kept_rows(KEEP, measuring_rule, MATRIX)
  found = [measured[name].dtype for name in ("value", "number", "flag", "pairs")]
  assert found == [tf.float32, tf.int32, tf.bool, tf.float32]
  assert list(measured)[-1] == "num_rejected"


def test_if_all_rows_are_kept_nothing_moves():
  matrix = np.float32([[1, 2], [3, 4]])
  aggregate, measured = rows.on_kept_rows(np.full(2, True), measuring_rule, matrix)
  assert aggregate.numpy().tolist() == [4.0, 6.0]
  assert measured["value"].numpy().tolist() == [1.0, 3.0]
  assert measured["pairs"].numpy().tolist() == [[11, 31], [13, 33]]
  assert int(measured["num_rejected"]) == 0


def test_if_no_row_is_kept_the_aggregate_is_zero():
  def rule(matrix):
    aggregate, measured = measuring_rule(matrix + 5.0)  # not zero on a row of zeros
    return aggregate, measured

  aggregate, measured = rows.on_kept_rows(np.full(4, False), rule, MATRIX)
  assert aggregate.numpy().tolist() == [0.0, 0.0]
  assert measured["value"].numpy().tolist() == [0.0] * 4
  assert not measured["flag"].numpy().any()
  assert np.isnan(measured["pairs"]).all()
  assert int(measured["num_rejected"]) == 4


def test_what_was_measured_of_a_row_that_stood_in_does_not_remain():
  def rule(matrix):
    measured = collections.OrderedDict(
      guarantee_holds=tf.constant(True),
      effective_clients=tf.cast(tf.shape(matrix)[0], tf.float32),
      count=tf.shape(matrix)[0],
    )
    return matrix[0], measured

  for keep in ([False] * 4, []):
    _, measured = rows.on_kept_rows(np.array(keep, bool), rule, MATRIX[: len(keep)])
    assert not measured["guarantee_holds"]
    assert float(measured["effective_clients"]) == 0.0 == float(measured["count"])
  _, measured = rows.on_kept_rows(KEEP, rule, MATRIX)
  assert measured["guarantee_holds"] and int(measured["count"]) == np.sum(KEEP)


def test_without_clients_the_aggregate_is_zero():
  matrix = np.zeros([0, 2], np.float32)
  assert rows.finite_rows(tf.constant(matrix)).shape == [0]
  aggregate, measured = rows.on_kept_rows(np.full(0, True), measuring_rule, matrix)
  assert aggregate.numpy().tolist() == [0.0, 0.0]
  assert measured["value"].shape == [0] and measured["pairs"].shape == [0, 0]
  assert int(measured["num_rejected"]) == 0


def test_several_matrices_lose_the_same_rows():
  def rule(matrix, cube):
    assert cube.shape[1:] == [2, 2]
    return matrix[0] + cube[-1, 0], collections.OrderedDict()

  cube = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
  aggregate, _ = rows.on_kept_rows(KEEP, rule, MATRIX, cube)
  assert aggregate.numpy().tolist() == [1 + 8, 2 + 9]


def test_works_in_a_graph_with_an_unknown_number_of_clients():
  @tf.function(
    input_signature=[tf.TensorSpec([None], tf.bool), tf.TensorSpec([None, 2])]
  )
  def run(keep, matrix):
    return rows.on_kept_rows(keep, measuring_rule, matrix)

  aggregate, measured = run(KEEP, MATRIX)
  assert aggregate.numpy().tolist() == [4.0, 6.0]
  assert measured["flag"].numpy().tolist() == [False, False, True, False]
