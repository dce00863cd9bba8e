"""The model that all runs of a comparison start from."""

import functools
import hashlib
import json
import os

import numpy as np
import tensorflow_federated as tff

from models import split
from tff_defenses.experiments import aggregation, shards, warm_start, weight_files
from tff_defenses.experiments import federation as federation_lib
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.federation import Federation
from tff_defenses.learning import client_work, pretraining

_starts: dict = {}  # initial weights of the comparison that is being run


def initial_weights(
  config: ExperimentConfig,
  fed: Federation,
  runtime,
  *,
  progress: bool = True,
  round_seconds: float | None = None,
) -> tff.learning.models.ModelWeights:
  """The common start; the runs of a comparison in one process make it once.

  It is the model of `pretrained_file`; or else that after `warmup_rounds` clean rounds;
  or else, with `pretrain_on_aux`, that trained on the auxiliary data; or the model as
  initialised. A config asks for one of them at most.

  Args:
    config: Of the run that is to start.
    fed: Its federation.
    runtime: Trains the start, if the config asks for that.
    progress: Show the warm-up's progress bar.
    round_seconds: Limit of a round of the warm-up, and of the training on the auxiliary
      data; None: no limit.

  Raises:
    DataError: the file does not hold the model. OutputError: the cache cannot be
      written.
    WorkerError: the worker died twice, or took longer than `round_seconds`.
  """
  key = _key(config)
  if key not in _starts:
    _starts.clear()
    _starts[key] = _make(config, fed, runtime, progress, round_seconds)
  return _starts[key]


def digest(weights: tff.learning.models.ModelWeights) -> str:
  """SHA-256 (hex) of a start: runs of a comparison must have the same."""
  arrays = (*weights.trainable, *weights.non_trainable)
  parts = " ".join(shards.digest(np.asarray(array)) for array in arrays)
  return hashlib.sha256(parts.encode()).hexdigest()


def _key(config) -> str:
  """Everything but what the start does not depend on."""
  settings = config.to_dict()
  for name in ("defense", "defense_settings", "output_dir", "measure"):
    del settings[name]
  if config.pretrained_file is not None:
    found = os.stat(os.path.expanduser(config.pretrained_file))
    settings["file"] = [found.st_mtime_ns, found.st_size]
  return json.dumps(settings, sort_keys=True)


def _make(config, fed, runtime, progress, round_seconds):
  keras_fn = federation_lib.keras_fn(config)
  if config.pretrained_file is not None:
    return weight_files.load(os.path.expanduser(config.pretrained_file), keras_fn)
  if config.warmup_rounds:
    watching = {"progress": progress, "round_seconds": round_seconds}
    return warm_start.weights(config, fed, runtime, **watching)
  model_fn = split.make_model_fn(keras_fn)
  weights = client_work.initial_weights(model_fn)
  if not config.pretrain_on_aux:
    return weights
  train = functools.partial(
    pretraining.pretrain,
    model_fn,
    fed.held_out.aux_images,
    fed.held_out.aux_labels,
    aggregation.build_optimizer(config),
    epochs=config.local_epochs,
    batch_size=config.batch_size,
    initial_weights=weights,
  )
  return runtime.call(train, timeout_seconds=round_seconds)
