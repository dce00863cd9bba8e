"""All updates of a round as one matrix at the server, in a fixed client order.

Robust rules compare clients with one another, so the server needs every update at
once: {U}@CLIENTS -> [n, d]@SERVER, d being the number of parameters in U. TFF promises
no order of accumulation; each row therefore carries its client's index and the rows are
sorted by it before any rule sees them.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import row_blocks

NO_INDEX = -1  # of clients whose index is not known; see `federated_stack`


def check_value_type(who: str, value_type: tff.Type) -> None:
  """Checks that a type can be laid out as one row of floats.

  Args:
    who: The caller's name, for the message.
    value_type: The type of one client's update.

  Raises:
    TypeError: A leaf is not a float, a shape is not fully known, there is no number at
      all, or a structure has no Python container.
  """
  parts = tff.structure.flatten(value_type)
  ok = bool(parts) and all(isinstance(part, tff.TensorType) for part in parts)
  if not ok or not tff.types.is_structure_of_floats(value_type):
    raise TypeError(
      f"{who}: the updates must be a structure of float16, float32 or float64 tensors, "
      f"got {value_type.compact_representation()}. Cast or drop the other leaves."
    )
  if not all(tff.types.is_shape_fully_defined(part.shape) for part in parts):
    raise TypeError(
      f"{who}: every tensor of the updates must have a known shape, got "
      f"{value_type.compact_representation()}. Build the model with fixed sizes."
    )
  if num_parameters(value_type) == 0:
    raise TypeError(
      f"{who}: the updates must hold a number at least, got "
      f"{value_type.compact_representation()}. Train a variable."
    )
  if not _has_containers(value_type):
    raise TypeError(
      f"{who}: the type of the updates must say which Python container each structure "
      f"is, got a bare tff.StructType, {value_type.compact_representation()}. Make it "
      "with tff.to_type from a list or an OrderedDict."
    )


def _has_containers(value_type: tff.Type) -> bool:
  """Whether every structure of a type is a list, a dict, ... in Python."""
  if not isinstance(value_type, tff.StructType):
    return True
  known = isinstance(value_type, tff.StructWithPythonType)
  return known and all(map(_has_containers, value_type.children()))


def tensor_specs(value_type: tff.Type):
  """Returns the Python structure of `tf.TensorSpec` that a type describes."""
  if isinstance(value_type, tff.TensorType):
    return tf.TensorSpec(value_type.shape, value_type.dtype)
  return tff.types.structure_from_tensor_type_tree(
    lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), value_type
  )


def num_parameters(value_type: tff.Type) -> int:
  """Returns d, the number of floats in one update."""
  parts = tff.structure.flatten(value_type)
  return int(sum(np.prod(part.shape, dtype=np.int64) for part in parts))


def leaves(value) -> list:
  """What a structure holds, in the order of its type.

  Mappings keep the order of their keys, which `tf.nest` sorts: the last kernel and
  "model order" would else depend on the names of the variables.

  >>> leaves({"b": 1, "a": [2, 3]})
  [1, 2, 3]
  """
  if isinstance(value, Mapping):
    value = list(value.values())
  if not isinstance(value, list | tuple):
    return tf.nest.flatten(value)
  return [leaf for part in value for leaf in leaves(part)]


def pack(structure, values: Iterable) -> Any:
  """Inverse of `leaves`: the structure with other values in its places.

  >>> pack({"b": 0, "a": [0, 0]}, [1, 2, 3])
  {'b': 1, 'a': [2, 3]}
  """
  values = iter(values)
  if isinstance(structure, Mapping):
    parts = [(name, pack(part, values)) for name, part in structure.items()]
    return type(structure)(parts)
  if not isinstance(structure, list | tuple):
    return tf.nest.map_structure(lambda _: next(values), structure)
  parts = [pack(part, values) for part in structure]
  is_named = hasattr(structure, "_fields")
  return type(structure)(*parts) if is_named else type(structure)(parts)


def flatten(value) -> tf.Tensor:
  """Concatenates a structure's tensors in order; structure -> [d] float32."""
  parts = [tf.reshape(x, [-1]) for x in leaves(value)]
  return tf.concat([tf.cast(x, tf.float32) for x in parts], axis=0)


def unflatten(row: tf.Tensor, specs):
  """Inverse of `flatten`; [d] float32 -> the structure that `specs` describes.

  Where whole numbers are asked for, the nearest: a mean of equal counters is theirs, up
  to 2^24, beyond which float32 has gaps.
  """
  wanted = leaves(specs)
  parts = tf.split(row, [spec.shape.num_elements() for spec in wanted])
  tensors = []
  for part, spec in zip(parts, wanted, strict=True):
    value = tf.reshape(part, spec.shape)
    if spec.dtype.is_integer:
      value = tf.round(value)
    tensors.append(tf.cast(value, spec.dtype))
  return pack(specs, tensors)


def last_kernel(specs) -> tuple[int, list[int], bool]:
  """Where the last layer's kernel lies in a row, and whether its bias follows it.

  The kernel is the last variable of rank 2 or more, the classifier's in any model whose
  output layer comes last; a variable of rank 1 behind it is its bias.

  Args:
    specs: `tf.TensorSpec`s of the variables, in order.

  Returns:
    (first column of the kernel, its shape, whether a bias of as many numbers as the
    kernel has outputs follows). Without a kernel: the last variable, as [1, size].
    Variables that hold no number are passed over.
  """
  variables = [leaf for leaf in leaves(specs) if leaf.shape.num_elements()]
  sizes = [leaf.shape.num_elements() for leaf in variables]
  ranked = [k for k, leaf in enumerate(variables) if leaf.shape.rank >= 2]
  if not ranked:
    return sum(sizes[:-1]), [1, sizes[-1]], False
  last = ranked[-1]
  shape = variables[last].shape.as_list()
  has_bias = last + 1 < len(variables) and sizes[last + 1] == shape[-1]
  return sum(sizes[:last]), shape, has_bias


def columns_of(specs, is_marked: Sequence[bool]) -> np.ndarray:
  """Marks the parameters of some variables, one bool for each; -> [d] bool."""
  sizes = [leaf.shape.num_elements() for leaf in leaves(specs)]
  return np.repeat(np.asarray(is_marked, bool), sizes)


def kernel_columns(specs) -> np.ndarray:
  """Marks the parameters that are not biases (tensors of rank > 1); -> [d] bool.

  Raises:
    ValueError: No tensor has a rank above 1.
  """
  variables = [leaf for leaf in leaves(specs) if leaf.shape.num_elements()]
  if all(leaf.shape.rank <= 1 for leaf in variables):
    raise ValueError(
      "A rule that compares kernels only needs a tensor of rank 2 or more, got shapes "
      f"{[leaf.shape.as_list() for leaf in variables]}. Let it compare all parameters."
    )
  parts = [
    np.full(leaf.shape.num_elements(), leaf.shape.rank > 1) for leaf in variables
  ]
  return np.concatenate(parts)


def stack_type(value_type: tff.Type) -> tff.StructWithPythonType:
  """The type of the stack of n updates: [n, d] float32 and client indices [n] int32."""
  return tff.to_type(
    collections.OrderedDict(
      updates=tff.TensorType(np.float32, [None, num_parameters(value_type)]),
      client_index=tff.TensorType(np.int32, [None]),
    )
  )


def federated_stack(updates, info, value_type: tff.Type):
  """Brings all updates to the server; call it inside a federated computation.

  Args:
    updates: {U}@CLIENTS.
    info: Structures with `client_index`, @CLIENTS; equal indices keep the order of
      arrival. Where it is `NO_INDEX`, the place in the stack becomes the index.
    value_type: U.

  Returns:
    A structure of `stack_type`, @SERVER; rows sorted by client index.
  """

  @tff.tensorflow.computation(value_type, info.type_signature.member)
  def to_row(update, info):
    index = info["client_index"]
    return _stack(flatten(update)[tf.newaxis], index[tf.newaxis])

  rows = tff.federated_map(to_row, (updates, info))
  return _collect(rows, stack_type(value_type))


def _collect(rows, rows_type):
  """Brings one-row blocks to the server and sorts them by client index."""
  num_columns = rows_type.updates.shape[1]

  @tff.tensorflow.computation
  def zero():
    no_index = tf.compat.v1.placeholder_with_default(tf.zeros([0], tf.int32), [None])
    return _stack(row_blocks.empty(num_columns), no_index)

  collected_type = zero.type_signature.result

  @tff.tensorflow.computation(collected_type, rows.type_signature.member)
  def accumulate(collected, row):
    updates = row_blocks.push(collected["updates"], row["updates"])
    return _stack(updates, _append(collected, row))

  @tff.tensorflow.computation(collected_type, collected_type)
  def merge(left, right):
    updates = row_blocks.join(left["updates"], right["updates"])
    return _stack(updates, _append(left, right))

  @tff.tensorflow.computation(collected_type)
  def report(collected):
    matrix = row_blocks.to_matrix(collected["updates"])
    return _sort(matrix, collected["client_index"])

  return tff.federated_aggregate(rows, zero(), accumulate, merge, report)


def _stack(updates, client_index):
  return collections.OrderedDict(updates=updates, client_index=client_index)


def _append(left, right):
  return tf.concat([left["client_index"], right["client_index"]], axis=0)


def _sort(rows, index):
  """Sorts rows by client index; the matrix is copied only if it must be."""
  order = tf.argsort(index, stable=True)
  places = tf.range(tf.shape(order)[0])
  in_order = tf.reduce_all(tf.equal(order, places))
  updates = tf.cond(in_order, lambda: rows, lambda: tf.gather(rows, order))
  index = tf.gather(index, order)
  return _stack(updates, tf.where(tf.equal(index, NO_INDEX), places, index))
