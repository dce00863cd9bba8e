"""What all defenses share: the factory types, and how they are plugged together.

Three kinds of factory meet here, all called in the same way by `learning`:

* plain TFF factories, TFF's own or anybody's (weighted ones get the clients' numbers of
  examples);
* `PlainFactory`, and below it `StackedFactory` for rules that see all updates at once:
  TFF factories that also take each client's index and number of examples;
* `ModelAwareFactory`: rules that need the global weights as well.
"""

import abc
import collections
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import rows, stacking

INFO_TYPE = tff.to_type(
  collections.OrderedDict(client_index=np.int32, num_examples=np.float32)
)


class ModelAwareFactory(abc.ABC):
  """A factory whose rule needs the global weights besides the updates.

  `create(weights_type)` returns a process with `initialize()` and
  `next(state, global_weights@SERVER, updates@CLIENTS)`; updates have the type of the
  weights and TFF's sign (initial minus trained). `track_global_weights` makes it a
  plain TFF factory.
  """

  @abc.abstractmethod
  def create_unified(self, weights_type: tff.Type) -> tff.templates.MeasuredProcess:
    """Like `create`, with a further argument: {INFO_TYPE}@CLIENTS; see `unify`."""

  def on_shared(self, is_shared: Sequence[bool]) -> "ModelAwareFactory":
    """The same rule where only some variables, in the type's order, are aggregated.

    The others are zero in every update; a rule with a reference of its own, such as
    FLTrust's, leaves them out there too.
    """
    del is_shared
    return self

  def create(self, weights_type: tff.Type) -> tff.templates.MeasuredProcess:
    """Builds the process; clients stand in the order of their arrival.

    Args:
      weights_type: The type of the global weights, a structure of floats.

    Returns:
      A process whose `next` is <state@SERVER, W@SERVER, {W}@CLIENTS> ->
      <state, W, measurements>@SERVER.
    """
    inner = self.create_unified(weights_type)

    @tff.federated_computation(
      inner.initialize.type_signature.result,
      tff.FederatedType(weights_type, tff.SERVER),
      tff.FederatedType(weights_type, tff.CLIENTS),
    )
    def next_fn(state, global_weights, updates):
      return inner.next(state, global_weights, updates, no_info())

    return measured_process(inner.initialize, next_fn)


class PlainFactory(tff.aggregators.UnweightedAggregationFactory):
  """Base of our plain TFF factories: each client's index and size may come along.

  A subclass implements `create_informed`; `create` is what TFF calls.
  """

  @abc.abstractmethod
  def create_informed(self, value_type: tff.Type) -> tff.templates.MeasuredProcess:
    """Builds a process with next(state, {U}@CLIENTS, {INFO_TYPE}@CLIENTS)."""

  def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
    """Builds the plain TFF process; clients stand in the order of their arrival."""
    inner = self.create_informed(value_type)

    @tff.federated_computation(
      inner.initialize.type_signature.result,
      tff.FederatedType(value_type, tff.CLIENTS),
    )
    def next_fn(state, updates):
      return inner.next(state, updates, no_info())

    return tff.templates.AggregationProcess(inner.initialize, next_fn)


class StackedFactory(PlainFactory):
  """Base of the plain rules that look at all updates of a round at once.

  A subclass implements `_rule` on the matrix of finite updates; stacking, client order,
  the removal of non-finite updates and the way back to the structure happen here. A
  rule that remembers something from round to round implements `_initial_state` and
  `_step` instead.
  """

  def _rule(self, updates: tf.Tensor, specs) -> tuple[tf.Tensor, rows.Measurements]:
    """The rule: [k, d] float32 -> ([d] float32, measurements with `weight` [k]).

    `specs` is the list of `tf.TensorSpec` that lie side by side in a row.
    """
    raise NotImplementedError

  def _initial_state(self, specs):
    """What the rule remembers before the first round: a structure of tensors."""
    del specs
    return ()

  def _step(self, state, updates: tf.Tensor, client_index: tf.Tensor, specs):
    """One round: (state, [k, d], [k] int32) -> (new state, [d], measurements).

    If no update is finite it sees one row of zeros, which must leave the memory of
    clients as it is.
    """
    del client_index
    return (state, *self._rule(updates, specs))

  def create_informed(self, value_type: tff.Type) -> tff.templates.MeasuredProcess:
    stacking.check_value_type(type(self).__name__, value_type)
    specs = stacking.tensor_specs(value_type)
    leaves = stacking.leaves(specs)
    init_fn = _initializer(functools.partial(self._initial_state, leaves))
    state_type = init_fn.type_signature.result.member

    @tff.tensorflow.computation(state_type, stacking.stack_type(value_type))
    def run_rule(state, stack):
      step = _Remembering(functools.partial(self._step, specs=leaves), state)
      keep = rows.finite_rows(stack["updates"])
      parts = stack["updates"], stack["client_index"]
      row, measurements = rows.on_kept_rows(keep, step, *parts)
      return step.state, stacking.unflatten(row, specs), measurements

    @tff.federated_computation(
      init_fn.type_signature.result,
      tff.FederatedType(value_type, tff.CLIENTS),
      tff.FederatedType(INFO_TYPE, tff.CLIENTS),
    )
    def next_fn(state, updates, info):
      stack = stacking.federated_stack(updates, info, value_type)
      output = tff.federated_map(run_rule, (state, stack))
      return tff.templates.MeasuredProcessOutput(*output)

    return measured_process(init_fn, next_fn)


class StackedModelAwareFactory(ModelAwareFactory):
  """Base of the model-aware rules that look at all updates of a round at once.

  A subclass implements `_server_step`; it sees all rows, and leaves the non-finite ones
  out through `rows.on_kept_rows`. A rule that remembers something from round to round
  implements `_initial_state` and `_step` instead.
  """

  def _server_step(
    self, weights: tf.Tensor, updates: tf.Tensor, specs
  ) -> tuple[tf.Tensor, rows.Measurements]:
    """The rule: theta [d] and updates [n, d] -> ([d] float32, measurements).

    `specs` is the structure of `tf.TensorSpec` that a row was flattened from.
    """
    raise NotImplementedError

  def _initial_state(self, specs):
    """What the rule remembers before the first round: a structure of tensors."""
    del specs
    return ()

  def _step(self, state, weights: tf.Tensor, updates: tf.Tensor, specs):
    """One round: (state, [d], [n, d]) -> (new state, [d], measurements)."""
    return (state, *self._server_step(weights, updates, specs))

  def _warn_of_model(self):
    """Warns, before a process is made, of a model that the rule reads badly."""

  def create_unified(self, weights_type: tff.Type) -> tff.templates.MeasuredProcess:
    self._warn_of_model()
    stacking.check_value_type(type(self).__name__, weights_type)
    specs = stacking.tensor_specs(weights_type)
    init_fn = _initializer(functools.partial(self._initial_state, specs))
    state_type = init_fn.type_signature.result.member

    @tff.tensorflow.computation(
      state_type, weights_type, stacking.stack_type(weights_type)
    )
    def run_rule(state, weights, stack):
      flat = stacking.flatten(weights)
      output = self._step(state, flat, stack["updates"], specs)
      new_state, row, measurements = output
      return new_state, stacking.unflatten(row, specs), measurements

    @tff.federated_computation(
      init_fn.type_signature.result,
      tff.FederatedType(weights_type, tff.SERVER),
      tff.FederatedType(weights_type, tff.CLIENTS),
      tff.FederatedType(INFO_TYPE, tff.CLIENTS),
    )
    def next_fn(state, global_weights, updates, info):
      stack = stacking.federated_stack(updates, info, weights_type)
      output = tff.federated_map(run_rule, (state, global_weights, stack))
      return tff.templates.MeasuredProcessOutput(*output)

    return measured_process(init_fn, next_fn)


class _Remembering:
  """A rule for `rows.on_kept_rows` whose new state can be asked for afterwards."""

  def __init__(self, step, state):
    self._step = step
    self.state = state

  def __call__(self, updates, client_index):
    self.state, row, measurements = self._step(self.state, updates, client_index)
    return row, measurements


def _initializer(initial_state) -> tff.Computation:
  """-> state@SERVER; `initial_state` makes the tensors, or () for none."""
  with tf.Graph().as_default():
    is_empty = not tf.nest.flatten(initial_state())
  if is_empty:
    return tff.federated_computation(lambda: tff.federated_value((), tff.SERVER))
  make = tff.tensorflow.computation(initial_state)
  return tff.federated_computation(lambda: tff.federated_eval(make, tff.SERVER))


def measured_process(initialize, next_fn) -> tff.templates.MeasuredProcess:
  """A `tff.templates.MeasuredProcess` whose `next` takes several arguments."""
  return tff.templates.MeasuredProcess(initialize, next_fn, next_is_multi_arg=True)


def no_info():
  """{INFO_TYPE}@CLIENTS that tells nothing: no index, one example everywhere."""

  @tff.tensorflow.computation
  def info():
    index = np.int32(stacking.NO_INDEX)
    return collections.OrderedDict(client_index=index, num_examples=1.0)

  return tff.federated_eval(info, tff.CLIENTS)


def unify(factory, weights_type: tff.Type) -> tff.templates.MeasuredProcess:
  """Gives any factory one and the same process form.

  Args:
    factory: A `ModelAwareFactory`, or any TFF factory; a weighted one gets the clients'
      numbers of examples as weights.
    weights_type: W, the type of the trainable weights and of the updates.

  Returns:
    A process with next(state, W@SERVER, {W}@CLIENTS, {INFO_TYPE}@CLIENTS).

  Raises:
    TypeError: `factory` is none of these.
  """
  if isinstance(factory, ModelAwareFactory):
    return factory.create_unified(weights_type)
  if isinstance(factory, PlainFactory):
    inner = factory.create_informed(weights_type)
    call = inner.next
  elif isinstance(factory, tff.aggregators.UnweightedAggregationFactory):
    inner = factory.create(weights_type)
    call = _drop_info(inner.next)
  elif isinstance(factory, tff.aggregators.WeightedAggregationFactory):
    inner = factory.create(weights_type, tff.TensorType(np.float32))
    call = _info_to_weight(inner.next)
  else:
    raise TypeError(
      "aggregator: must be a ModelAwareFactory or a TFF aggregation factory, got "
      f"{type(factory).__name__}. Pass for example `td.KrumFactory(1)`."
    )

  @tff.federated_computation(
    inner.initialize.type_signature.result,
    tff.FederatedType(weights_type, tff.SERVER),
    tff.FederatedType(weights_type, tff.CLIENTS),
    tff.FederatedType(INFO_TYPE, tff.CLIENTS),
  )
  def next_fn(state, global_weights, updates, info):
    del global_weights
    return call(state, updates, info)

  return measured_process(inner.initialize, next_fn)


def _drop_info(next_fn):
  return lambda state, updates, info: next_fn(state, updates)


def _info_to_weight(next_fn):
  @tff.tensorflow.computation(INFO_TYPE)
  def weight(info):
    return info["num_examples"]

  return lambda state, updates, info: next_fn(
    state, updates, tff.federated_map(weight, info)
  )
