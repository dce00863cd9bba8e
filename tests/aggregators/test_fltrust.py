"""FLTrust against numbers by hand and a plain NumPy version."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import doubles
from tff_defenses.aggregators import fltrust, huge

ROOT = np.float32([1, 0])
ROWS = np.float32([[2, 0], [0, 5], [-1, 0], [3, 3]])


def by_numpy(updates, root, negative="relu"):
  """Independent version in float64, client by client."""
  updates, root = updates.astype(float), root.astype(float)
  total, trusts = np.zeros_like(root), 0.0
  for update in updates:
    cosine = np.dot(update, root) / np.sqrt(np.dot(update, update) * np.dot(root, root))
    trust = abs(cosine) if negative == "abs" else max(cosine, 0)
    total += trust * update * np.sqrt(np.dot(root, root) / np.dot(update, update))
    trusts += trust
  return total / trusts


def root_of(value):
  """The root update is `value` for a; for b it is the weights themselves."""

  def root_update_fn(weights):
    return collections.OrderedDict(a=tf.fill([2, 2], value), b=weights["b"])

  return root_update_fn


def run(factory, updates, weights=None):
  process = factory.create(doubles.UPDATE_TYPE)
  weights = doubles.update(1.0) if weights is None else weights
  return process.next(process.initialize(), weights, updates)


def test_cosines_by_hand():
  # 2/2, 0/5, -1/1, 3/sqrt(18).
  np.testing.assert_allclose(
    fltrust.cosines(ROWS, ROOT), [1, 0, -1, 0.70710678], atol=1e-6
  )


@pytest.mark.parametrize(
  ("negative", "expected"),
  # TS 1, 0, 0, 0.707: (1 + 0.707 * 0.707, 0.5) / 1.707; with abs TS 1, 0, 1, 0.707:
  # (1 - 1 + 0.5, 0.5) / 2.707.
  [("relu", [0.87868, 0.29289]), ("abs", [0.18470, 0.18470])],
)
def test_eq4_by_hand(negative, expected):
  found = fltrust.aggregate(ROWS, root_update=ROOT, negative=negative)
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("negative", fltrust.NEGATIVE)
@pytest.mark.parametrize("seed", range(5))
def test_equals_numpy(negative, seed):
  rng = np.random.default_rng(seed)
  updates = rng.normal(size=(8, 40)).astype(np.float32)
  root = rng.normal(size=40).astype(np.float32)
  found = fltrust.aggregate(updates, root_update=root, negative=negative)
  expected = by_numpy(updates, root, negative)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [0.01, 100, 1e15, 1e30, 1e37])
def test_the_length_of_an_update_plays_no_part(factor, rng):
  updates = (0.5 + rng.normal(size=(6, 30))).astype(np.float32)
  root = np.ones(30, np.float32)
  scaled = updates.copy()
  scaled[2] *= np.float32(factor)
  assert np.isfinite(scaled).all()
  found = fltrust.aggregate(scaled, root_update=root)
  expected = fltrust.aggregate(updates, root_update=root)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_result_is_never_longer_than_the_root_update(rng):
  for _ in range(20):
    updates = (rng.normal(size=(5, 4)) * 10 ** rng.uniform(-3, 3)).astype(np.float32)
    root = rng.normal(size=4).astype(np.float32)
    found = fltrust.aggregate(updates, root_update=root)
    assert np.linalg.norm(found) <= np.linalg.norm(root) * (1 + 1e-5)


def test_nobody_trusted_gives_zero():
  updates = np.float32([[-1, 0], [-5, 1]])
  assert fltrust.aggregate(updates, root_update=ROOT).numpy().tolist() == [0, 0]


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, 1e30])
def test_a_root_update_that_says_nothing_gives_zero(bad):
  root = np.float32([bad, 0])
  assert fltrust.aggregate(ROWS, root_update=root).numpy().tolist() == [0, 0]


def test_a_zero_update_weighs_nothing():
  updates = np.float32([[0, 0], [2, 0]])
  found = fltrust.aggregate(updates, root_update=ROOT)
  np.testing.assert_allclose(found, [1, 0], rtol=1e-6)


def test_is_odd_in_updates_and_root_together(rng):
  updates = rng.normal(size=(5, 9)).astype(np.float32)
  root = rng.normal(size=9).astype(np.float32)
  one = fltrust.aggregate(updates, root_update=root)
  two = fltrust.aggregate(-updates, root_update=-root)
  np.testing.assert_array_equal(one, -two)


def test_columns_limit_the_cosines_but_not_the_lengths():
  # Column 0 alone: cosines 1 and -1. Row 0, (1, 1), is brought to the root's length 1.
  updates = np.float32([[1, 1], [-1, 1]])
  columns = np.array([True, False])
  found = fltrust.aggregate(updates, root_update=ROOT, columns=columns)
  np.testing.assert_allclose(found, [np.sqrt(0.5)] * 2, rtol=1e-6)


def test_shorten_leaves_ordinary_rows_as_they_are(rng):
  updates = rng.normal(size=(3, 4)).astype(np.float32)
  updates[1] = 3e38
  rows, squares = huge.shorten(updates)
  np.testing.assert_array_equal(rows.numpy()[[0, 2]], updates[[0, 2]])
  np.testing.assert_allclose(rows[1], 1e12, rtol=1e-5)
  np.testing.assert_allclose(squares, (rows.numpy() ** 2).sum(1), rtol=1e-6)


@pytest.mark.usefixtures("runtime")
def test_in_tff_equals_the_pure_rule(rng):
  updates = [doubles.update(*rng.normal(size=7)) for _ in range(4)]
  weights = doubles.update(1, 1, 1, 1, 2, -3, 4)
  output = run(fltrust.FLTrustFactory(root_of(0.5)), updates, weights)
  matrix = np.stack([doubles.flat(u) for u in updates])
  root = np.float32([0.5] * 4 + [2, -3, 4])
  expected = by_numpy(matrix, root)
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-4)
  measured = output.measurements
  assert measured["root_norm"] == pytest.approx(np.sqrt(30), rel=1e-5)
  assert measured["weight"].sum() == pytest.approx(1)
  np.testing.assert_array_equal(measured["selected"], measured["cosine"] > 0)


@pytest.mark.usefixtures("runtime")
def test_kernels_only_leaves_the_bias_out_of_the_cosines():
  """Kernel (a) agrees with the root, the bias (b) is against it."""
  update = doubles.update(1, 1, 1, 1, -9, -9, -9)
  plain = run(fltrust.FLTrustFactory(root_of(1.0)), [update])
  kernels = run(fltrust.FLTrustFactory(root_of(1.0), kernels_only=True), [update])
  assert not plain.measurements["selected"][0]
  assert kernels.measurements["cosine"][0] == pytest.approx(1)


@pytest.mark.usefixtures("runtime")
def test_a_client_that_is_not_finite_counts_as_absent():
  updates = [doubles.update(np.nan), doubles.update(3.0), doubles.update(np.inf)]
  factory = fltrust.FLTrustFactory(lambda w: tf.ones([7]))  # flat
  output = run(factory, updates)
  np.testing.assert_allclose(doubles.flat(output.result), 1, rtol=1e-5)
  assert output.measurements["weight"].tolist() == [0, 1, 0]
  assert output.measurements["num_rejected"] == 2


def test_result_type_is_weights_type():
  process = fltrust.FLTrustFactory(root_of(1.0)).create(doubles.UPDATE_TYPE)
  result = process.next.type_signature.result.result
  assert result.member.is_identical_to(tff.to_type(doubles.UPDATE_TYPE))


def test_unknown_negative_raises_with_its_name():
  with pytest.raises(ValueError, match="`negative`"):
    fltrust.FLTrustFactory(root_of(1.0), negative="square")


def test_a_root_update_fn_that_cannot_be_called_raises():
  with pytest.raises(TypeError, match="`root_update_fn` must be callable, got int"):
    fltrust.FLTrustFactory(3)


def test_a_root_update_of_another_size_raises():
  factory = fltrust.FLTrustFactory(lambda w: tf.ones([6]))
  with pytest.raises(ValueError, match="`root_update_fn` .* 7, got 6"):
    factory.create(doubles.UPDATE_TYPE)


def test_kernels_only_needs_a_kernel():
  factory = fltrust.FLTrustFactory(lambda w: w, kernels_only=True)
  with pytest.raises(ValueError, match="rank 2 or more"):
    factory.create(tff.TensorType(np.float32, [5]))


def test_updates_that_are_no_floats_raise():
  with pytest.raises(TypeError, match="FLTrustFactory"):
    fltrust.FLTrustFactory(root_of(1.0)).create(tff.TensorType(np.int32, [2]))


class CountingRoot:
  """Root updates that are as long as the round's number."""

  def in_round(self, weights, round_number):
    length = tf.cast(round_number, tf.float32)
    return tf.nest.map_structure(lambda w: length * tf.ones_like(w), weights)

  def __call__(self, weights):
    raise AssertionError("in_round must be used")


@pytest.mark.usefixtures("runtime")
def test_a_root_update_that_knows_rounds_is_told_them():
  process = fltrust.FLTrustFactory(CountingRoot()).create(doubles.UPDATE_TYPE)
  state, weights = process.initialize(), doubles.update(1.0)
  for round_number in (1, 2, 3):
    output = process.next(state, weights, [doubles.update(5.0)] * 2)
    state = output.state
    np.testing.assert_allclose(output.result["a"], round_number, rtol=1e-5)
