"""Looks at the clients' representations without moving the global model.

Reference: FLARE Sec. 4.3, Fig. 6: PLRs of benign and malicious models side by side.
"""

import collections
import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models import plr, split
from tff_defenses import aggregators
from tff_defenses.aggregators import base
from tff_defenses.experiments import plr_files
from tff_defenses.experiments.errors import writing
from tff_defenses.experiments.trainers import GlobalTrainer

IMAGES = 20  # a class; FLARE Fig. 6 shows some tens
MOST_VALUES = 16_000_000  # ours: 64 MB; many clients or classes: fewer images a class


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


def keep(
  trainer: GlobalTrainer,
  runtime,
  states,
  folder: pathlib.Path,
  *,
  round_seconds: float | None = None,
) -> None:
  """Writes plr.npz for a run whose rule looks at representations (FLARE Sec. 4.3).

  Nothing happens for other rules, and if the file is there already: whoever starts a
  run anew in its folder removes it first.

  Args:
    trainer: Of a finished run.
    runtime: Runs one further round, attack included, which moves nothing.
    states: The run's last states.
    folder: Of the run.
    round_seconds: Limit of that round; None: no limit.

  Raises:
    OutputError: the folder cannot be written. WorkerError: the worker died twice, or
      took longer than `round_seconds`.
  """
  config, federation = trainer.config, trainer.federation
  looks = "auxiliary_data" in aggregators.AGGREGATORS[config.defense].needs
  has_global_model = hasattr(trainer.process, "set_model_weights")
  if not (looks and has_global_model) or (folder / plr_files.NAME).exists():
    return
  weights = states[0].global_model_weights
  kernel = trainer.scorer.evaluator.classifier_kernel(weights)  # [o, c]
  each = _images_a_class(config.num_clients, *kernel.shape)
  shown = _first_of_each(federation.test_labels, each)
  images, limit = federation.test_images[shown], {"timeout_seconds": round_seconds}
  plrs = plr_files.Plrs(
    plrs=client_plrs(trainer, runtime, states, images, **limit),
    labels=federation.test_labels[shown],
    kernel=np.asarray(kernel),
    malicious=federation.malicious & config.attacks_in(config.rounds + 1),
    class_names=np.array(federation.class_names),
    round=config.rounds + 1,
  )
  with writing(folder):
    plr_files.write(plrs, folder)


def client_plrs(
  trainer: GlobalTrainer, runtime, states, images: np.ndarray, **call
) -> np.ndarray:
  """One more round, attack included, of which only the representations are kept.

  Args:
    trainer: Of a finished run with a global model.
    runtime: Runs the round.
    states: The run's last states.
    images: [k, H, W, C].
    **call: Of `Runtime.call`.

  Returns:
    [n, k, o] float32, clients in ascending order.
  """
  probe = PlrProbeFactory(split.plr_fn(trainer.model_fn, images))
  process = trainer.build_process(probe)
  first, last = runtime.call(process.initialize, **call), states[0]
  start = tff.learning.templates.LearningAlgorithmState(
    global_model_weights=last.global_model_weights,
    distributor=first.distributor,
    client_work=last.client_work,  # the number of the round
    aggregator=first.aggregator,  # of the probe, which remembers nothing
    finalizer=first.finalizer,
  )
  everyone = range(trainer.config.num_clients)
  inputs = trainer.client_inputs(trainer.config.rounds + 1, everyone)
  output = runtime.call(process.next, start, inputs, **call)
  return output.metrics["aggregator"]["plrs"]


def _images_a_class(num_clients, width, num_classes):
  """As many as `IMAGES`, or fewer so that the array stays within `MOST_VALUES`."""
  return int(np.clip(MOST_VALUES // (num_clients * width * num_classes), 1, IMAGES))


def _first_of_each(labels, count):
  """Positions of the first `count` images of each class."""
  found = [np.flatnonzero(labels == c)[:count] for c in np.unique(labels)]
  return np.concatenate(found)
