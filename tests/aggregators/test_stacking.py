"""Structures as rows and back, and the stack of all clients at the server."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import doubles
from tff_defenses.aggregators import base, stacking

MIXED_TYPE = tff.to_type(
  collections.OrderedDict(
    half=(np.float16, [2]),
    nested=collections.OrderedDict(scalar=np.float32, double=(np.float64, [1, 3])),
    empty=(np.float32, [0, 4]),
  )
)


def mixed(rng):
  return collections.OrderedDict(
    half=rng.normal(size=2).astype(np.float16),
    nested=collections.OrderedDict(
      scalar=np.float32(rng.normal()),
      # Doubles that a float32 holds: the row is float32.
      double=rng.normal(size=[1, 3]).astype(np.float32).astype(np.float64),
    ),
    empty=np.zeros([0, 4], np.float32),
  )


@pytest.mark.parametrize("count", [1, 3, 7, 1999])
def test_the_mean_of_equal_counters_is_theirs(count):
  """Ten tenths of a whole number add up to a little less in float32."""
  row = np.float32([np.nextafter(np.float32(count), np.float32(0))])
  [found] = stacking.unflatten(row, [tf.TensorSpec([], tf.int64)])
  assert (found.dtype, int(found)) == (tf.int64, count)


def test_flatten_is_in_order_and_row_major():
  found = stacking.flatten(doubles.update(1, 2, 3, 4, 5, 6, 7))
  assert found.dtype == tf.float32
  assert found.numpy().tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_round_trip_keeps_values_shapes_and_types(rng):
  value = mixed(rng)
  specs = stacking.tensor_specs(MIXED_TYPE)
  row = stacking.flatten(value)
  assert row.shape == [6]
  back = stacking.unflatten(row, specs)
  tf.nest.assert_same_structure(back, value)
  for a, b in zip(tf.nest.flatten(back), tf.nest.flatten(value), strict=True):
    np.testing.assert_array_equal(a, b)
    assert a.dtype == b.dtype


def test_a_single_tensor_and_a_scalar_come_back():
  for value in (np.float32([[1, 2], [3, 4]]), np.float64(2.5), np.float16([0.1])):
    value_type = tff.TensorType(value.dtype.type, value.shape)
    specs = stacking.tensor_specs(value_type)
    back = stacking.unflatten(stacking.flatten(value), specs)
    np.testing.assert_array_equal(back, value)
    assert back.dtype == value.dtype


@settings(max_examples=30, deadline=None)
@given(
  st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=4),
  st.integers(0, 2**32 - 1),
)
def test_round_trip_of_any_shapes(shapes, seed):
  rng = np.random.default_rng(seed)
  value = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
  value_type = tff.to_type([(np.float32, shape) for shape in shapes])
  row = stacking.flatten(value)
  assert row.shape == [stacking.num_parameters(value_type)]
  back = stacking.unflatten(row, stacking.tensor_specs(value_type))
  for a, b in zip(back, value, strict=True):
    np.testing.assert_array_equal(a, b)


def test_num_parameters_by_hand():
  assert stacking.num_parameters(doubles.UPDATE_TYPE) == 4 + 3
  assert stacking.num_parameters(MIXED_TYPE) == 2 + 1 + 3 + 0
  assert stacking.num_parameters(tff.TensorType(np.float32)) == 1
  large = tff.to_type([(np.float32, [70_000, 70_000])])
  assert stacking.num_parameters(large) == 4_900_000_000  # beyond int32


def test_stack_type_has_a_row_and_an_index_a_client():
  found = stacking.stack_type(doubles.UPDATE_TYPE)
  assert found.updates.is_identical_to(tff.TensorType(np.float32, [None, 7]))
  assert found.client_index.is_identical_to(tff.TensorType(np.int32, [None]))


def specs_of(*shapes):
  return [tf.TensorSpec(shape) for shape in shapes]


def test_last_kernel_is_the_last_variable_of_rank_two_and_its_bias():
  assert stacking.last_kernel(specs_of([4, 3], [3], [3, 2], [2])) == (15, [3, 2], True)
  assert stacking.last_kernel(specs_of([4, 3], [3], [3, 2])) == (15, [3, 2], False)
  conv_and_norm = specs_of([3, 3, 1, 8], [8], [8])
  assert stacking.last_kernel(conv_and_norm) == (0, [3, 3, 1, 8], True)
  assert stacking.last_kernel(specs_of([2, 2], [3])) == (0, [2, 2], False)


def test_last_kernel_without_a_kernel_is_the_last_variable():
  assert stacking.last_kernel(specs_of([4], [3])) == (4, [1, 3], False)
  assert stacking.last_kernel(specs_of([])) == (0, [1, 1], False)


def test_specs_have_the_structure_of_the_type():
  specs = stacking.tensor_specs(doubles.UPDATE_TYPE)
  assert specs == collections.OrderedDict(a=tf.TensorSpec([2, 2]), b=tf.TensorSpec([3]))
  assert stacking.tensor_specs(tff.TensorType(np.float32, [2])) == tf.TensorSpec([2])


@pytest.mark.parametrize(
  "value_type",
  [
    np.int32,
    np.bool_,
    [],
    collections.OrderedDict(a=(np.float32, [2]), b=np.int32),
    tff.SequenceType(np.float32),
    [tff.SequenceType(np.float32)],
    tff.FunctionType(None, np.float32),
  ],
)
def test_other_than_floats_raise_in_the_callers_name(value_type):
  with pytest.raises(TypeError, match=r"^Who: the updates must be .* got .*\. Cast"):
    stacking.check_value_type("Who", tff.to_type(value_type))


@pytest.mark.parametrize("shape", [[None], [2, None], None])
def test_unknown_shapes_raise_in_the_callers_name(shape):
  value_type = tff.to_type([tff.TensorType(np.float32, shape)])
  with pytest.raises(TypeError, match=r"^Who: every tensor .* known shape, got .*\. "):
    stacking.check_value_type("Who", value_type)


@pytest.mark.parametrize(
  "value_type",
  [
    tff.StructType([("a", np.float32), ("b", np.float32)]),
    tff.StructType([np.float32]),
    tff.to_type([tff.StructType([np.float32])]),
  ],
)
def test_structures_without_a_python_container_raise_in_the_callers_name(value_type):
  with pytest.raises(TypeError, match=r"^Who: .* Python container .*, got .*to_type"):
    stacking.check_value_type("Who", value_type)


def test_updates_without_a_number_raise_in_the_callers_name():
  with pytest.raises(TypeError, match=r"^Who: the updates must hold a number .*, got "):
    stacking.check_value_type("Who", tff.to_type([(np.float32, [0])]))


def test_other_widths_of_floats_raise_and_say_which_are_known():
  with pytest.raises(TypeError, match="float16, float32 or float64 tensors"):
    stacking.check_value_type("Who", tff.TensorType(tf.bfloat16.as_numpy_dtype, [2]))


def test_variables_without_numbers_are_no_kernel_and_no_last_variable():
  specs = [tf.TensorSpec([2, 3]), tf.TensorSpec([0, 3]), tf.TensorSpec([3])]
  assert stacking.last_kernel(specs) == (0, [2, 3], True)
  assert stacking.last_kernel([tf.TensorSpec([4]), tf.TensorSpec([0])])[1] == [1, 4]
  with pytest.raises(ValueError, match="needs a tensor of rank 2"):
    stacking.kernel_columns(specs[1:])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_any_width_are_accepted(dtype):
  stacking.check_value_type("Who", tff.to_type([(dtype, [2]), dtype]))


def stack(values, indices, value_type):
  """The stack as the rules see it."""
  index_type = tff.to_type(collections.OrderedDict(client_index=np.int32))

  @tff.federated_computation(
    tff.FederatedType(value_type, tff.CLIENTS),
    tff.FederatedType(index_type, tff.CLIENTS),
  )
  def run(updates, info):
    return stacking.federated_stack(updates, info, value_type)

  infos = [collections.OrderedDict(client_index=i) for i in indices]
  return run(values, infos)


@pytest.mark.usefixtures("runtime")
def test_rows_stand_in_the_order_of_the_index():
  found = stack(
    [doubles.update(x) for x in (3, 1, 2)], [30, 5, 20], doubles.UPDATE_TYPE
  )
  assert found["updates"].shape == (3, 7)
  assert found["updates"][:, 0].tolist() == [1, 2, 3]
  assert found["client_index"].tolist() == [5, 20, 30]


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
  ("index", "expected"), [(0, [0, 0, 0]), (stacking.NO_INDEX, [0, 1, 2])]
)
def test_equal_indices_keep_the_order_of_arrival(index, expected):
  updates = [doubles.update(x) for x in (3, 1, 2)]
  found = stack(updates, [index] * 3, doubles.UPDATE_TYPE)
  assert found["updates"][:, 0].tolist() == [3, 1, 2]
  assert found["client_index"].tolist() == expected


@pytest.mark.usefixtures("runtime")
def test_mixed_floats_are_stacked_in_tff(rng):
  values = [mixed(rng) for _ in range(2)]
  found = stack(values, [0, 1], MIXED_TYPE)
  for row, value in zip(found["updates"], values, strict=True):
    np.testing.assert_array_equal(row, stacking.flatten(value))


@pytest.mark.usefixtures("runtime")
def test_no_info_is_no_index_and_one_example():
  @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
  def run(values):
    return tff.federated_zip((values, base.no_info()))

  for _, info in run([1.0, 2.0]):
    assert dict(info) == {"client_index": stacking.NO_INDEX, "num_examples": 1.0}


def test_kernel_columns_leave_out_biases():
  specs = [tf.TensorSpec([2, 1]), tf.TensorSpec([3])]
  found = stacking.kernel_columns(specs)
  assert found.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("specs", [tf.TensorSpec([5]), [tf.TensorSpec([])] * 2])
def test_without_a_kernel_there_is_nothing_to_compare(specs):
  with pytest.raises(ValueError, match="needs a tensor of rank 2 or more, got"):
    stacking.kernel_columns(specs)


def test_rows_keep_the_order_of_a_mapping_whatever_its_names():
  kernel, bias = np.array([[1.0, 2.0]], np.float32), np.array([3.0], np.float32)
  update = collections.OrderedDict(w=[kernel, bias], b=(bias + 1, {"a": bias + 2}))
  found = stacking.flatten(update)
  assert found.numpy().tolist() == [1, 2, 3, 4, 5]
  specs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), update)
  tf.nest.assert_same_structure(stacking.unflatten(found, specs), update)
  assert stacking.unflatten(found, specs)["b"][1]["a"].numpy().tolist() == [5]


def test_last_kernel_is_the_last_of_a_mapping_in_its_own_order():
  dense, classifier = tf.TensorSpec([4, 3]), tf.TensorSpec([3, 2])
  specs = collections.OrderedDict(dense=dense, classifier=classifier)
  assert stacking.last_kernel(specs) == (12, [3, 2], False)
