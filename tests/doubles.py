"""Small stand-ins that several tests share."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

UPDATE_TYPE = tff.to_type(
  collections.OrderedDict(a=(np.float32, [2, 2]), b=(np.float32, [3]))
)


def update(*numbers):
  """An update of `UPDATE_TYPE` from seven numbers, or one number seven times."""
  row = np.broadcast_to(np.float32(numbers), [7])
  return collections.OrderedDict(a=row[:4].reshape(2, 2).copy(), b=row[4:].copy())


def flat(value) -> np.ndarray:
  """A structure's numbers in one row."""
  return np.concatenate([np.ravel(x) for x in tf.nest.flatten(value)])


def run_plain(factory, updates, value_type=UPDATE_TYPE):
  """One round of a plain factory in TFF."""
  process = factory.create(value_type)
  return process.next(process.initialize(), updates)


class AddOneFactory(tff.aggregators.UnweightedAggregationFactory):
  """Sums the updates and adds one: proves that an inner factory was used."""

  def create(self, value_type):
    inner = tff.aggregators.SumFactory().create(value_type)

    @tff.tensorflow.computation(value_type)
    def add_one(value):
      return tf.nest.map_structure(lambda x: x + 1, value)

    @tff.federated_computation(
      inner.initialize.type_signature.result,
      tff.FederatedType(value_type, tff.CLIENTS),
    )
    def next_fn(state, value):
      output = inner.next(state, value)
      result = tff.federated_map(add_one, output.result)
      return tff.templates.MeasuredProcessOutput(
        output.state, result, output.measurements
      )

    return tff.templates.AggregationProcess(inner.initialize, next_fn)
