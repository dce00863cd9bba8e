"""All updates of a round as one matrix at the server, in a fixed client order.

Robust rules compare clients with one another, so the server needs every update at
once: {U}@CLIENTS -> [n, d]@SERVER, d being the number of parameters in U. TFF promises
no order of accumulation; each row therefore carries its client's index and the rows are
sorted by it before any rule sees them.
"""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff


def check_value_type(who: str, value_type: tff.Type) -> None:
  """Checks that a type can be laid out as one row of floats.

  Args:
    who: The caller's name, for the message.
    value_type: The type of one client's update.

  Raises:
    TypeError: A leaf is not a float, or a shape is not fully known.
  """
  leaves = tff.structure.flatten(value_type)
  ok = bool(leaves) and all(isinstance(leaf, tff.TensorType) for leaf in leaves)
  if not ok or not tff.types.is_structure_of_floats(value_type):
    raise TypeError(
      f"{who}: the updates must be a structure of float tensors, got "
      f"{value_type.compact_representation()}. Cast or drop the other leaves."
    )
  if not all(tff.types.is_shape_fully_defined(leaf.shape) for leaf in leaves):
    raise TypeError(
      f"{who}: every tensor of the updates must have a known shape, got "
      f"{value_type.compact_representation()}. Build the model with fixed sizes."
    )


def tensor_specs(value_type: tff.Type):
  """Returns the Python structure of `tf.TensorSpec` that a type describes."""
  if isinstance(value_type, tff.TensorType):
    return tf.TensorSpec(value_type.shape, value_type.dtype)
  return tff.types.structure_from_tensor_type_tree(
    lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), value_type
  )


def num_parameters(value_type: tff.Type) -> int:
  """Returns d, the number of floats in one update."""
  leaves = tff.structure.flatten(value_type)
  return int(sum(np.prod(leaf.shape, dtype=np.int64) for leaf in leaves))


def flatten(value) -> tf.Tensor:
  """Concatenates a structure's tensors in order; structure -> [d] float32."""
  leaves = [tf.reshape(x, [-1]) for x in tf.nest.flatten(value)]
  return tf.concat([tf.cast(x, tf.float32) for x in leaves], axis=0)


def unflatten(row: tf.Tensor, specs):
  """Inverse of `flatten`; [d] float32 -> the structure that `specs` describes."""
  leaves = tf.nest.flatten(specs)
  parts = tf.split(row, [spec.shape.num_elements() for spec in leaves])
  tensors = [
    tf.cast(tf.reshape(part, spec.shape), spec.dtype)
    for part, spec in zip(parts, leaves, strict=True)
  ]
  return tf.nest.pack_sequence_as(specs, tensors)


def matrix_type(value_type: tff.Type) -> tff.TensorType:
  """The type of the stack of n updates, [n, d] float32."""
  return tff.TensorType(np.float32, [None, num_parameters(value_type)])


def federated_stack(updates, info, value_type: tff.Type):
  """Brings all updates to the server; call it inside a federated computation.

  Args:
    updates: {U}@CLIENTS.
    info: Structures with `client_index`, @CLIENTS; equal indices keep the order of
      arrival.
    value_type: U.

  Returns:
    [n, d] float32 at SERVER, rows sorted by client index.
  """

  @tff.tensorflow.computation(value_type, info.type_signature.member)
  def to_row(update, info):
    index = info["client_index"]
    return _rows(flatten(update)[tf.newaxis], index[tf.newaxis])

  rows = tff.federated_map(to_row, (updates, info))
  return _sorted_rows(rows, num_parameters(value_type))


def _sorted_rows(rows, num_columns: int):
  """Concatenates one-row blocks from the clients and sorts them by client index."""
  block_type = tff.to_type(
    collections.OrderedDict(
      rows=tff.TensorType(np.float32, [None, num_columns]),
      index=tff.TensorType(np.int32, [None]),
    )
  )

  @tff.tensorflow.computation
  def zero():
    # The placeholders keep the first dimension unknown, as the declared type wants it.
    keep = tf.compat.v1.placeholder_with_default
    empty = keep(tf.zeros([0, num_columns]), [None, num_columns])
    return _rows(empty, keep(tf.zeros([0], tf.int32), [None]))

  @tff.tensorflow.computation(block_type, rows.type_signature.member)
  def accumulate(block, row):
    return _concat(block, row)

  @tff.tensorflow.computation(block_type, block_type)
  def merge(left, right):
    return _concat(left, right)

  @tff.tensorflow.computation(block_type)
  def report(block):
    return _sort(block)

  return tff.federated_aggregate(rows, zero(), accumulate, merge, report)


def _rows(rows, index):
  return collections.OrderedDict(rows=rows, index=index)


def _concat(left, right):
  return _rows(
    tf.concat([left["rows"], right["rows"]], axis=0),
    tf.concat([left["index"], right["index"]], axis=0),
  )


def _sort(block) -> tf.Tensor:
  """Sorts rows by client index; the matrix is copied only if it must be."""
  order = tf.argsort(block["index"], stable=True)
  in_order = tf.reduce_all(tf.equal(order, tf.range(tf.shape(order)[0])))
  rows = block["rows"]
  return tf.cond(in_order, lambda: rows, lambda: tf.gather(rows, order))
