"""Model-aware rules in plain TFF: a copy of the global weights kept by the factory."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import base, rows, stacking


class _TrackingFactory(tff.aggregators.UnweightedAggregationFactory):
  """See `track_global_weights`."""

  def __init__(self, factory: base.ModelAwareFactory, initial_weights):
    if not isinstance(factory, base.ModelAwareFactory):
      raise TypeError(
        "track_global_weights: `factory` must be model-aware, got "
        f"{type(factory).__name__}. A plain factory needs no tracking."
      )
    self._factory = factory
    self._initial = [np.asarray(x) for x in stacking.leaves(initial_weights)]

  def __repr__(self):
    return f"track_global_weights({self._factory!r})"

  def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
    inner = self._factory.create(value_type)
    specs = stacking.tensor_specs(value_type)
    _check_weights(self._initial, specs)
    initial = self._initial

    @tff.tensorflow.computation
    def initial_weights():
      leaves = zip(initial, stacking.leaves(specs), strict=True)
      values = [tf.constant(x, spec.dtype) for x, spec in leaves]
      return stacking.pack(specs, values)

    @tff.tensorflow.computation(value_type, value_type)
    def step(weights, update):
      return apply_update(weights, update)

    @tff.federated_computation
    def init_fn():
      weights = tff.federated_eval(initial_weights, tff.SERVER)
      return tff.federated_zip((inner.initialize(), weights))

    @tff.federated_computation(
      init_fn.type_signature.result, tff.FederatedType(value_type, tff.CLIENTS)
    )
    def next_fn(state, updates):
      output = inner.next(state[0], state[1], updates)
      weights = tff.federated_map(step, (state[1], output.result))
      return tff.templates.MeasuredProcessOutput(
        tff.federated_zip((output.state, weights)), output.result, output.measurements
      )

    return tff.templates.AggregationProcess(init_fn, next_fn)


def track_global_weights(
  factory: base.ModelAwareFactory, initial_weights
) -> tff.aggregators.UnweightedAggregationFactory:
  """Makes a model-aware factory a plain TFF one, by keeping a copy of the weights.

  For `tff.learning.algorithms.build_unweighted_fed_avg(model_aggregator=...)` with
  server SGD at learning rate 1 and no momentum: only then is the copy the global model.
  Like TFF's finalizer the copy skips a round whose aggregate is not finite.

  Args:
    factory: The model-aware factory.
    initial_weights: The trainable weights that the learning process starts from, in
      model order; a learning process started from others is tracked wrongly.

  Returns:
    A plain factory; measurements are those of `factory`.

  Raises:
    TypeError: `factory` is not model-aware. ValueError (in create): the weights have
      other shapes than the updates.
  """
  return _TrackingFactory(factory, initial_weights)


def apply_update(weights, update):
  """theta <- theta - update (Eq. 6 in TFF's sign), unless the update is not finite."""
  finite = rows.all_finite(update)
  return tf.nest.map_structure(lambda w, u: tf.where(finite, w - u, w), weights, update)


def _check_weights(initial: Sequence[np.ndarray], specs) -> None:
  found = [tuple(x.shape) for x in initial]
  wanted = [tuple(spec.shape) for spec in stacking.leaves(specs)]
  if found != wanted:
    raise ValueError(
      f"track_global_weights: `initial_weights` must have the shapes {wanted}, got "
      f"{found}. Pass the model's trainable weights in model order."
    )
