"""The mean by hand, and its factory around TFF's."""

import collections

import numpy as np
import pytest
import tensorflow_federated as tff
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tests import doubles
from tff_defenses.aggregators import base, krum, mean

UPDATES = np.float32([[1, 2], [3, 6], [8, 1]])


def test_uniform_mean_by_hand():
  assert mean.aggregate(UPDATES).numpy().tolist() == [4.0, 3.0]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64, list])
def test_weighted_mean_by_hand(dtype):
  # (1 + 3 + 2 * 8) / 4 and (2 + 6 + 2 * 1) / 4.
  num_examples = [1, 1, 2] if dtype is list else np.array([1, 1, 2], dtype)
  found = mean.aggregate(UPDATES, num_examples=num_examples)
  assert found.numpy().tolist() == [5.0, 2.5]


def test_clients_without_examples_count_nothing():
  assert mean.aggregate(UPDATES, num_examples=[0, 3, 0]).numpy().tolist() == [3, 6]
  assert mean.aggregate(UPDATES, num_examples=[0, 0, 0]).numpy().tolist() == [0, 0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mean_lies_in_the_span_of_the_updates(data):
  shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
  numbers = st.floats(-(2.0**100), 2.0**100, width=32)
  updates = data.draw(st_numpy.arrays(np.float32, shape, elements=numbers))
  sizes = st.lists(st.integers(1, 10**6), min_size=shape[0], max_size=shape[0])
  for found in (
    mean.aggregate(updates),
    mean.aggregate(updates, num_examples=data.draw(sizes)),
  ):
    slack = 1e-5 * np.abs(updates).max(axis=0)
    assert (found >= updates.min(axis=0) - slack).numpy().all()
    assert (found <= updates.max(axis=0) + slack).numpy().all()


@pytest.mark.usefixtures("runtime")
def test_factory_equals_the_pure_rule(rng):
  updates = rng.normal(size=(4, 7)).astype(np.float32)
  sizes = np.float32([1, 5, 2, 0])
  infos = [
    collections.OrderedDict(client_index=i, num_examples=x) for i, x in enumerate(sizes)
  ]
  for weighting, num_examples in (("uniform", None), ("examples", sizes)):
    factory = mean.FiniteMeanFactory(weighting)
    process = base.unify(factory, doubles.UPDATE_TYPE)
    values = [doubles.update(*row) for row in updates]
    output = process.next(process.initialize(), doubles.update(0), values, infos)
    expected = mean.aggregate(updates, num_examples=num_examples)
    np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-5)


@pytest.mark.usefixtures("runtime")
def test_no_examples_at_all_leave_the_weights():
  process = base.unify(mean.FiniteMeanFactory("examples"), doubles.UPDATE_TYPE)
  infos = [collections.OrderedDict(client_index=i, num_examples=0.0) for i in range(2)]
  values = [doubles.update(3)] * 2
  output = process.next(process.initialize(), doubles.update(0), values, infos)
  assert doubles.flat(output.result).tolist() == [0.0] * 7
  assert output.measurements["weight"].tolist() == [0.0, 0.0]
  assert output.measurements["num_rejected"] == 0


@pytest.mark.usefixtures("runtime")
def test_a_finite_update_that_its_examples_make_infinite_is_left_out():
  process = base.unify(mean.FiniteMeanFactory("examples"), doubles.UPDATE_TYPE)
  infos = [
    collections.OrderedDict(client_index=i, num_examples=600.0) for i in range(3)
  ]
  values = [doubles.update(2), doubles.update(1e36), doubles.update(4)]
  output = process.next(process.initialize(), doubles.update(0), values, infos)
  assert doubles.flat(output.result).tolist() == [3.0] * 7
  assert output.measurements["num_rejected"] == 1
  assert output.measurements["weight"].tolist() == [0.5, 0.0, 0.5]


@pytest.mark.usefixtures("runtime")
def test_inside_plain_tff_all_count_alike():
  output = doubles.run_plain(
    mean.FiniteMeanFactory("examples"), [doubles.update(x) for x in (1, 2)]
  )
  assert doubles.flat(output.result).tolist() == [1.5] * 7


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_widths_keep_their_type(dtype):
  value_type = tff.to_type([(dtype, [2]), np.float32])
  values = [[np.array([x, 2 * x], dtype), np.float32(x)] for x in (1, 3)]
  values.append([np.array([np.nan, 1], dtype), np.float32(1)])
  output = doubles.run_plain(mean.FiniteMeanFactory(), values, value_type)
  assert output.result[0].dtype == dtype
  assert doubles.flat(output.result).tolist() == [2.0, 4.0, 2.0]
  assert output.measurements["num_rejected"] == 1


@pytest.mark.parametrize("weighting", ["size", None, 1])
def test_bad_weighting_raises_with_its_name(weighting):
  with pytest.raises(ValueError, match="FiniteMeanFactory: `weighting` must be .*got"):
    mean.FiniteMeanFactory(weighting)


@pytest.mark.parametrize(
  "value_type", [np.int32, [np.float32, np.bool_], tff.SequenceType(np.float32)]
)
def test_other_than_floats_raise_in_house_form(value_type):
  with pytest.raises(TypeError, match=r"^FiniteMeanFactory: the updates must .* got"):
    mean.FiniteMeanFactory().create(tff.to_type(value_type))


# Of the examples the shares sum to a little more than 1 in float32.
@pytest.mark.parametrize("num_examples", [None, [32, 26, 14, 16, 3, 4, 1]])
def test_huge_finite_rows_have_a_finite_mean(num_examples):
  huge = np.finfo(np.float32).max
  rows = np.tile(np.float32([huge, 2.0]), (7, 1))
  found = mean.aggregate(rows, num_examples=num_examples).numpy()
  np.testing.assert_allclose(found, [huge, 2.0], rtol=1e-6)


@pytest.mark.parametrize(
  "factory",
  [tff.aggregators.UnweightedMeanFactory(), krum.KrumFactory(0)],
  ids=lambda factory: type(factory).__name__,
)
def test_a_mean_or_a_rule_is_no_sum(factory):
  name = type(factory).__name__
  with pytest.raises(TypeError, match=f"`sum_factory` must return a sum.*got {name}"):
    mean.FiniteMeanFactory(sum_factory=factory)
