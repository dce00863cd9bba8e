"""Values in order of size: networks, sorting and blocks give the same."""

import numpy as np
import pytest
import tensorflow as tf

from tff_defenses.aggregators import ranked_columns

WIDE = 90  # columns; blocks of 40, the last overlaps the one before it


@pytest.fixture
def small_blocks(monkeypatch):
  """Networks and blocks also for small matrices."""
  monkeypatch.setattr(ranked_columns, "MANY_COLUMNS", 1)
  monkeypatch.setattr(ranked_columns, "SIZES", (4, 6, 10))
  monkeypatch.setattr(ranked_columns, "_WIDTH", 40)
  ranked_columns._function.cache_clear()
  yield
  ranked_columns._function.cache_clear()


def weighed(ranked, part):
  """Tells the order of the ranks apart, not only which they are."""
  del part
  places = tf.range(1.0, tf.cast(tf.shape(ranked)[0], tf.float32) + 1)
  return tf.linalg.matvec(ranked, places, transpose_a=True)


def total(ranked, part):
  del part
  return tf.reduce_sum(ranked, axis=0)


def spans(ranked, part):
  del ranked
  return tf.reduce_max(part, axis=0) - tf.reduce_min(part, axis=0)


def expected(rule, values, k):
  n = len(values)
  k = (n - 1) // 2 if k is None else min(k, (n - 1) // 2)
  rows = np.sort(values, axis=0)[k : n - k].astype(np.float64)
  places = np.arange(1, len(rows) + 1) if rule is weighed else np.ones(len(rows))
  return places @ rows


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("num_dropped", [0, 1, 3, None])
@pytest.mark.parametrize("in_order", [True, False])
def test_any_number_of_rows_known_only_in_the_graph(num_dropped, in_order, rng):
  """1 to 12 rows: networks with and without a filling, and sorting beyond 10."""
  rule = weighed if in_order else total

  @tf.function(input_signature=[tf.TensorSpec([None, WIDE])], autograph=False)
  def run(values):
    return ranked_columns.reduce(
      values, rule, num_dropped=num_dropped, in_order=in_order
    )

  for n in range(1, 13):
    values = rng.normal(size=(n, WIDE)).astype(np.float32)
    wanted = expected(rule, values, num_dropped)
    np.testing.assert_allclose(run(values), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n", [1, 5, 10, 11])
def test_known_number_of_rows(n, rng):
  values = rng.normal(size=(n, WIDE)).astype(np.float32)
  found = ranked_columns.reduce(tf.constant(values), weighed, num_dropped=1)
  np.testing.assert_allclose(found, expected(weighed, values, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("num_columns", [39, 40, 41, 80])
def test_the_rule_sees_the_block_itself_and_every_column_once(num_columns, rng):
  values = rng.normal(size=(5, num_columns)).astype(np.float32)
  found = ranked_columns.reduce(values, spans)
  np.testing.assert_array_equal(found, np.ptp(values, axis=0))


def test_few_columns_build_no_network(monkeypatch):
  monkeypatch.setattr(ranked_columns, "_over_blocks", None)  # would fail if called
  found = ranked_columns.reduce(tf.constant([[2.0], [1.0]]), weighed)
  assert found.numpy().tolist() == [5]  # 1 * 1 + 2 * 2


def test_dropped_leaves_a_middle():
  assert [ranked_columns.dropped(n, None) for n in (1, 2, 5, 6)] == [0, 0, 2, 2]
  assert [ranked_columns.dropped(n, 1) for n in (1, 2, 5, 6)] == [0, 0, 1, 1]
  assert int(ranked_columns.dropped(tf.constant(4), 3)) == 1


def test_sizes_are_even_and_ascend():
  """With an odd number of wires the middle would not stay in the middle."""
  assert all(size % 2 == 0 for size in ranked_columns.SIZES)
  assert list(ranked_columns.SIZES) == sorted(set(ranked_columns.SIZES))
