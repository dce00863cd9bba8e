"""Eq. (8) by hand: the inner rule on shared columns, zero elsewhere."""

import collections
import copy
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import doubles
from tff_defenses.aggregators import bucketing, flame, fltrust, krum, mean, partial

UPDATES = np.float32([[1, 9, 2, 9], [3, -9, 4, 0], [5, 7, 9, 7]])
SHARED = np.array([True, False, True, False])
PARTIAL = partial.PartialAggregationFactory


def test_eq8_by_hand():
  found = partial.aggregate(UPDATES, shared_columns=SHARED, inner=mean.aggregate)
  assert found.numpy().tolist() == [3.0, 0.0, 5.0, 0.0]


@pytest.mark.parametrize("columns", [[True] * 4, np.array([True] * 4)])
def test_all_shared_is_the_inner_rule(columns):
  found = partial.aggregate(UPDATES, shared_columns=columns, inner=mean.aggregate)
  np.testing.assert_array_equal(found, mean.aggregate(UPDATES))


def test_private_columns_cannot_sway_the_inner_rule():
  """Krum picks row 0 of the shared columns, however far its private ones lie."""
  updates = np.float32([[1.0, 1e9], [1.1, 0], [1.3, 0], [9.0, 0]])
  rule = functools.partial(krum.aggregate, num_byzantine=1)
  shared = np.array([True, False])
  found = partial.aggregate(updates, shared_columns=shared, inner=rule)
  assert found.numpy().tolist() == [np.float32(1.0), 0.0]
  assert krum.aggregate(updates, 1).numpy()[0] != np.float32(1.0)


def test_works_in_a_graph_with_an_unknown_number_of_clients():
  @tf.function(input_signature=[tf.TensorSpec([None, 4])])
  def run(updates):
    return partial.aggregate(updates, shared_columns=SHARED, inner=mean.aggregate)

  assert run(UPDATES).numpy().tolist() == [3.0, 0.0, 5.0, 0.0]


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("inner", [mean.FiniteMeanFactory(), krum.KrumFactory(1)])
@pytest.mark.parametrize("is_shared", [(True, False), (False, True), (True, True)])
def test_factory_equals_the_pure_rule(inner, is_shared, rng):
  updates = rng.normal(size=(5, 7)).astype(np.float32)
  columns = np.repeat(is_shared, [4, 3])
  rule = mean.aggregate
  if isinstance(inner, krum.KrumFactory):
    rule = functools.partial(krum.aggregate, num_byzantine=1)
  values = [doubles.update(*row) for row in updates]
  output = doubles.run_plain(PARTIAL(inner, is_shared), values)
  expected = partial.aggregate(updates, shared_columns=columns, inner=rule)
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-5)
  assert (doubles.flat(output.result)[~columns] == 0.0).all()


@pytest.mark.usefixtures("runtime")
def test_a_weighted_inner_factory_works():
  factory = PARTIAL(tff.aggregators.MeanFactory(), [False, True])
  output = doubles.run_plain(factory, [doubles.update(x) for x in (1, 3)])
  assert doubles.flat(output.result).tolist() == [0.0] * 4 + [2.0] * 3


@pytest.mark.usefixtures("runtime")
def test_private_variables_keep_their_type():
  value_type = tff.to_type([(np.float64, [2]), np.float16, np.float32])
  value = [np.float64([1, 2]), np.float16(3), np.float32(4)]
  factory = PARTIAL(mean.FiniteMeanFactory(), [False, False, True])
  output = doubles.run_plain(factory, [value], value_type)
  assert [x.dtype for x in output.result] == [np.float64, np.float16, np.float32]
  assert doubles.flat(output.result).tolist() == [0.0, 0.0, 0.0, 4.0]


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("inner", [mean.FiniteMeanFactory(), krum.KrumFactory(0)])
def test_the_mask_follows_the_order_of_the_type(inner):
  """`tf.nest` sorts names; the first variable of this type is the kernel."""
  value_type = tff.to_type(
    collections.OrderedDict(kernel=(np.float32, [2, 2]), bias=(np.float32, [2]))
  )
  value = collections.OrderedDict(
    kernel=np.ones([2, 2], np.float32), bias=np.full([2], 5, np.float32)
  )
  output = doubles.run_plain(PARTIAL(inner, [True, False]), [value], value_type)
  assert output.result["kernel"].tolist() == [[1, 1], [1, 1]]
  assert output.result["bias"].tolist() == [0, 0]


@pytest.mark.usefixtures("runtime")
def test_fltrust_leaves_out_what_its_server_trained_in_private_layers():
  """Only a is shared: length 2 and cosine 1, as if b did not exist."""

  def root_update_fn(weights):
    ones = tf.nest.map_structure(tf.ones_like, weights)
    return collections.OrderedDict(a=ones["a"], b=100.0 * ones["b"])

  inner = fltrust.FLTrustFactory(root_update_fn)
  for factory in (inner, bucketing.BucketingFactory(inner, 1)):
    process = PARTIAL(factory, [True, False]).create(doubles.UPDATE_TYPE)
    weights = doubles.update(0.0)
    output = process.next(process.initialize(), weights, [doubles.update(3.0)])
    np.testing.assert_allclose(output.measurements["cosine"], [1], rtol=1e-6)
    np.testing.assert_allclose(output.measurements["root_norm"], 2, rtol=1e-6)
    np.testing.assert_allclose(output.result["a"], 1, rtol=1e-6)
    assert not output.result["b"].any()


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
  ("outer", "inner"), [([True, False], [True, True]), ([True, True], [True, False])]
)
def test_nested_masks_share_what_both_do(outer, inner):
  """FLTrust's own update is cut by both: length 2, not the root of 7."""

  def root_update_fn(weights):
    return tf.nest.map_structure(tf.ones_like, weights)

  factory = PARTIAL(PARTIAL(fltrust.FLTrustFactory(root_update_fn), inner), outer)
  process = factory.create(doubles.UPDATE_TYPE)
  output = process.next(
    process.initialize(), doubles.update(0.0), [doubles.update(3.0)]
  )
  np.testing.assert_allclose(output.measurements["root_norm"], 2, rtol=1e-6)
  np.testing.assert_allclose(output.result["a"], 1, rtol=1e-6)
  assert not output.result["b"].any()


def test_nested_masks_that_share_nothing_together_raise():
  inner = PARTIAL(fltrust.FLTrustFactory(lambda weights: weights), [True, False])
  with pytest.raises(ValueError, match="share a variable at least"):
    PARTIAL(inner, [False, True]).create(doubles.UPDATE_TYPE)


@pytest.mark.parametrize("inner", [krum.KrumFactory(2), flame.FlameFactory()])
@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copy_says_the_same(inner, make):
  factory = PARTIAL(inner, [True, False])
  assert repr(make(factory)) == repr(factory)


@pytest.mark.usefixtures("runtime")
def test_flame_takes_angles_of_shared_layers_alone():
  """A large private layer, the same in all models, would hide the three outliers."""
  theta = collections.OrderedDict(
    a=np.float32([[1, 0.2], [0, 0]]), b=np.float32([10, 0, 0])
  )

  def sent(*moved):
    moved = np.reshape(moved, [2, 2]).astype(np.float32)
    return collections.OrderedDict(a=-moved, b=np.ones(3, np.float32))

  honest = [
    sent(*(s * np.array([0.8, 0.16, 0, 0]) + noise))
    for s, noise in [(0.2, 0), (0.6, 0.01), (1, -0.01), (1.4, 0.005)]
  ]
  outliers = [sent(-0.1, 0, 0.05 * k, 0) for k in (1, 2, 3)]
  inner = flame.FlameFactory(noise_multiplier=0)
  for factory in (inner, bucketing.BucketingFactory(inner, 1)):
    process = PARTIAL(factory, [True, False]).create(doubles.UPDATE_TYPE)
    output = process.next(process.initialize(), theta, [*honest, *outliers])
    assert output.measurements["selected"].tolist() == [True] * 4 + [False] * 3


def test_repr_shows_both_settings():
  text = repr(PARTIAL(krum.KrumFactory(2), (True, False)))
  assert "KrumFactory(num_byzantine=2" in text and "is_shared=[True, False]" in text


@pytest.mark.parametrize("inner", ["krum", None, krum.KrumFactory])
def test_an_inner_that_is_no_factory_raises(inner):
  with pytest.raises(TypeError, match="PartialAggregationFactory: `inner` must .* got"):
    PARTIAL(inner, [True])


@pytest.mark.parametrize("is_shared", [[True], [True] * 3, []])
def test_a_mask_of_another_length_raises(is_shared):
  with pytest.raises(ValueError, match="`is_shared` must hold one bool .* 2, got"):
    PARTIAL(krum.KrumFactory(1), is_shared).create(doubles.UPDATE_TYPE)


@pytest.mark.parametrize("is_shared", [[False, False], lambda index: index > 1])
def test_a_mask_that_shares_nothing_raises(is_shared):
  with pytest.raises(ValueError, match="`is_shared` must share a variable.* got none"):
    PARTIAL(krum.KrumFactory(1), is_shared).create(doubles.UPDATE_TYPE)


@pytest.mark.parametrize("value_type", [np.int32, [np.float32, np.int32]])
def test_other_than_floats_raise_in_house_form(value_type):
  factory = PARTIAL(mean.FiniteMeanFactory(), [True, True])
  with pytest.raises(TypeError, match="^PartialAggregationFactory: the updates must"):
    factory.create(tff.to_type(value_type))
