"""Looks at the clients' representations without moving the global model.

Reference: FLARE Sec. 4.3, Fig. 6: PLRs of benign and malicious models side by side.
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf

from models import plr, split
from tff_defenses.aggregators import base
from tff_defenses.experiments.trainers import GlobalTrainer


@dataclasses.dataclass(frozen=True)
class PlrProbeFactory(base.StackedModelAwareFactory):
  """Measures PLRs; the aggregate is zero, so the global weights stay.

  Measurements: plrs [n, m, o] float32.
  """

  plr_fn: plr.PlrFn

  def _server_step(self, weights, updates, specs):
    del specs
    measurements = collections.OrderedDict(plrs=self.plr_fn.many(weights - updates))
    return tf.zeros_like(weights), measurements


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
