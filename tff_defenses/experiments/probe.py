"""Looks at the clients' representations without moving the global model.

Reference: FLARE Sec. 4.3, Fig. 6: PLRs of benign and malicious models side by side.
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models import plr, split
from tff_defenses.aggregators import base, stacking
from tff_defenses.experiments.trainers import GlobalTrainer


@dataclasses.dataclass(frozen=True)
class PlrProbeFactory(base.ModelAwareFactory):
  """Measures PLRs; the aggregate is zero, so the global weights stay.

  Measurements: plrs [n, m, o] float32.
  """

  plr_fn: plr.PlrFn

  def create_unified(self, weights_type: tff.Type) -> tff.templates.MeasuredProcess:
    specs = stacking.tensor_specs(weights_type)

    @tff.tensorflow.computation(weights_type, stacking.matrix_type(weights_type))
    def measure(weights, updates):
      local_weights = stacking.flatten(weights) - updates
      zero = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), specs)
      return zero, collections.OrderedDict(plrs=self.plr_fn.many(local_weights))

    @tff.federated_computation
    def init_fn():
      return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
      init_fn.type_signature.result,
      tff.FederatedType(weights_type, tff.SERVER),
      tff.FederatedType(weights_type, tff.CLIENTS),
      tff.FederatedType(base.INFO_TYPE, tff.CLIENTS),
    )
    def next_fn(state, global_weights, updates, info):
      stacked = stacking.federated_stack(updates, info, weights_type)
      result, measurements = tff.federated_map(measure, (global_weights, stacked))
      return tff.templates.MeasuredProcessOutput(state, result, measurements)

    return base.measured_process(init_fn, next_fn)


def client_plrs(
  trainer: GlobalTrainer, runtime, states, images: np.ndarray
) -> np.ndarray:
  """One more round, attack included, of which only the representations are kept.

  Args:
    trainer: Of a finished run with a global model.
    runtime: Runs the round.
    states: The run's last states.
    images: [k, H, W, C].

  Returns:
    [n, k, o] float32, clients in ascending order.
  """
  probe = PlrProbeFactory(split.plr_fn(trainer.model_fn, images))
  process = trainer.build_process(probe)
  weights = states[0].global_model_weights
  start = process.set_model_weights(runtime.call(process.initialize), weights)
  everyone = range(trainer.config.num_clients)
  inputs = trainer.client_inputs(trainer.config.rounds + 1, everyone)
  return runtime.call(process.next, start, inputs).metrics["aggregator"]["plrs"]
