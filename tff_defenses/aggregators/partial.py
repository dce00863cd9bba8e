"""FL-PLAS: only the shared layers are aggregated.

Reference: FL-PLAS Eq. (8), Algorithm 1.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import base, stacking


def aggregate(updates: tf.Tensor, *, shared_columns, inner: Callable) -> tf.Tensor:
  """Eq. (8): `inner` on the shared columns, zero elsewhere; [n, d] -> [d].

  Args:
    updates: [n, d].
    shared_columns: [d] bool.
    inner: A rule, [n, s] -> [s].
  """
  shared = inner(tf.boolean_mask(updates, shared_columns, axis=1))
  places = tf.where(shared_columns)
  return tf.scatter_nd(places, shared, tf.shape(updates, tf.int64)[1:])


class PartialAggregationFactory(base.PlainFactory):
  """Aggregates only the shared variables, with any inner factory.

  The result has the type of the input, with exact zeros for private variables, so the
  server's copy of them never moves. A plain inner factory sees a list of the shared
  tensors only. With a model-aware inner factory this one is model-aware too: the inner
  one then sees whole updates whose private variables are zero, for its representations
  need a whole model.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER (and
    W@SERVER as second argument if `inner` is model-aware).
  Measurements: those of `inner`.
  Args:
    inner: A plain TFF factory, weighted or not, or a model-aware one.
    is_shared: One bool per variable in the order of U, or a function of the variable's
      index.
  Raises:
    TypeError: `inner` is no factory. ValueError (in create): `is_shared` has another
      length than the update has variables, or shares none of them.
  Deviations: Algorithm 1 aggregates weights, here updates; the two agree because all
    clients start the round with the same shared variables.
  """

  def __new__(cls, inner, is_shared):
    if isinstance(inner, base.ModelAwareFactory):
      return _ModelAwarePartialFactory(inner, is_shared)
    return super().__new__(cls)

  def __init__(self, inner, is_shared: Sequence[bool] | Callable[[int], bool]):
    if not isinstance(inner, tff.aggregators.AggregationFactory):
      raise TypeError(
        "PartialAggregationFactory: `inner` must be an aggregation factory, got "
        f"{type(inner).__name__}. Pass for example `td.KrumFactory(1)`."
      )
    self._inner = inner
    self._is_shared = is_shared

  def __getnewargs__(self):  # for copies, which call `__new__`
    return self._inner, self._is_shared

  def __repr__(self):
    return _repr(self._inner, self._is_shared)

  def create_informed(self, value_type: tff.Type) -> tff.templates.MeasuredProcess:
    mask = _mask(self._is_shared, value_type)
    specs = stacking.tensor_specs(value_type)
    leaves = zip(stacking.leaves(specs), mask, strict=True)
    shared_type = tff.to_type(
      [tff.TensorType(x.dtype.as_numpy_dtype, x.shape) for x, kept in leaves if kept]
    )
    inner = base.unify(self._inner, shared_type)

    @tff.tensorflow.computation(value_type)
    def take(update):
      tensors = stacking.leaves(update)
      return [x for x, kept in zip(tensors, mask, strict=True) if kept]

    @tff.tensorflow.computation(shared_type)
    def put_back(shared):
      tensors = iter(shared)
      full = [
        next(tensors) if kept else tf.zeros(spec.shape, spec.dtype)
        for spec, kept in zip(stacking.leaves(specs), mask, strict=True)
      ]
      return stacking.pack(specs, full)

    @tff.tensorflow.computation
    def no_weights():
      return [tf.zeros(leaf.shape, leaf.dtype) for leaf in shared_type]

    @tff.federated_computation(
      inner.initialize.type_signature.result,
      tff.FederatedType(value_type, tff.CLIENTS),
      tff.FederatedType(base.INFO_TYPE, tff.CLIENTS),
    )
    def next_fn(state, updates, info):
      shared = tff.federated_map(take, updates)
      weights = tff.federated_eval(no_weights, tff.SERVER)
      output = inner.next(state, weights, shared, info)
      result = tff.federated_map(put_back, output.result)
      return tff.templates.MeasuredProcessOutput(
        output.state, result, output.measurements
      )

    return base.measured_process(inner.initialize, next_fn)


class _ModelAwarePartialFactory(base.ModelAwareFactory):
  """`PartialAggregationFactory` around a model-aware factory."""

  def __init__(self, inner, is_shared, within: Sequence[bool] | None = None):
    self._inner = inner
    self._is_shared = is_shared
    self._within = within  # what a partial aggregation around this one shares

  def __repr__(self):
    return _repr(self._inner, self._is_shared)

  def on_shared(self, is_shared):
    return _ModelAwarePartialFactory(self._inner, self._is_shared, tuple(is_shared))

  def create_unified(self, weights_type: tff.Type) -> tff.templates.MeasuredProcess:
    mask = _mask(self._is_shared, weights_type, self._within)
    inner = self._inner.on_shared(mask).create_unified(weights_type)

    @tff.tensorflow.computation(weights_type)
    def zero_private(update):
      tensors = stacking.leaves(update)
      kept = [x if m else tf.zeros_like(x) for x, m in zip(tensors, mask, strict=True)]
      return stacking.pack(update, kept)

    @tff.federated_computation(*inner.next.type_signature.parameter)
    def next_fn(state, global_weights, updates, info):
      shared = tff.federated_map(zero_private, updates)
      output = inner.next(state, global_weights, shared, info)
      result = tff.federated_map(zero_private, output.result)
      return tff.templates.MeasuredProcessOutput(
        output.state, result, output.measurements
      )

    return base.measured_process(inner.initialize, next_fn)


def _mask(is_shared, value_type, within=None) -> list[bool]:
  """`is_shared` as a list that fits the type; False outside `within`."""
  who = "PartialAggregationFactory"
  stacking.check_value_type(who, value_type)
  length = len(tff.structure.flatten(value_type))
  if callable(is_shared):
    mask = [bool(is_shared(index)) for index in range(length)]
  else:
    mask = [bool(value) for value in is_shared]
  if len(mask) != length:
    raise ValueError(
      f"{who}: `is_shared` must hold one bool per variable, {length}, got {len(mask)}. "
      "`models.split.is_shared(names, shared_layers)` makes the list."
    )
  if within is not None:
    mask = [m and w for m, w in zip(mask, within, strict=True)]
  if not any(mask):
    raise ValueError(
      f"{who}: `is_shared` must share a variable at least, got none of {length}. "
      "Clients that share nothing train alone."
    )
  return mask


def _repr(inner, is_shared) -> str:
  shared = is_shared if callable(is_shared) else list(is_shared)
  return f"PartialAggregationFactory({inner!r}, is_shared={shared})"
