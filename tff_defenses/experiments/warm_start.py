"""The start of FL-PLAS's runs: a model trained by clean rounds, before round 1.

Reference: FL-PLAS Sec. 6.2.1 ("pre-trained models"), whose recipe and weights are not
published. Ours: `warmup_rounds` rounds of FedAvg on the experiment's own clients, all
of them honest, with its model, split, optimizer, batches and seed; or, with
`warmup_pooled`, on one client that holds the images of all, a pass a round. It does not
depend on defense or attack, so all runs of a comparison start from the same model.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import pathlib

import numpy as np
import tensorflow_federated as tff

from models import split
from tff_defenses.experiments import (
  federation,
  global_trainer,
  locks,
  shards,
  weight_files,
  whole_files,
)
from tff_defenses.experiments.config import NO_ATTACK, ExperimentConfig
from tff_defenses.experiments.errors import DataError, OutputError
from tff_defenses.experiments.progress import rounds_bar
from tff_defenses.learning import client_work

_logger = logging.getLogger(__name__)
_ROUNDS_BEFORE = 1_000_000  # ours: draws and shuffles are not those of round 1, 2, ...
_FORMAT = 1  # of the recipe: a change makes new files
_OF_CLIENTS = (  # what one client that holds all images has no use for
  *("clients_per_round", "participation", "partition", "classes_per_client"),
  *("alpha", "min_client_images", "as_published"),
)


def clean_config(config: ExperimentConfig) -> ExperimentConfig:
  """The run that is the warm-up: without whatever it must not depend on."""
  fields = {field.name: field for field in dataclasses.fields(config)}
  without = (
    *("attack_settings", "attack_start", "attack_stop", "malicious_fraction"),
    *("malicious_first", "num_byzantine", "defense_settings", "warmup_rounds"),
    *("pretrained_file", "measure", "shared_cut", "max_test_images", "eval_every"),
    *("checkpoint_every", "root_epochs", "output_dir", "rate_decay", "warmup_on_all"),
    *("moving_statistics", "eval_clients", "warmup_pooled"),
    *(["max_train_images"] if config.warmup_on_all else []),
    *(_OF_CLIENTS if config.warmup_pooled else []),
  )
  defaults = {
    name: {} if name.endswith("_settings") else fields[name].default for name in without
  }
  if config.warmup_pooled:
    defaults["num_clients"] = 1
  return dataclasses.replace(
    config,
    **defaults,
    defense="fedavg",
    attack=NO_ATTACK,
    rounds=config.warmup_rounds,
    pretrain_on_aux=False,
  )


def weights(
  config: ExperimentConfig,
  fed: federation.Federation,
  runtime,
  *,
  progress: bool = True,
  round_seconds: float | None = None,
) -> tff.learning.models.ModelWeights:
  """The model after `config.warmup_rounds` clean rounds, computed or read.

  The result is kept under the cache folder for all runs that share it. Processes that
  want it at once wait for the first; a warm-up that was broken off goes on from its
  last round.

  Args:
    config: Of the run that is to start.
    fed: Its federation; tells which images there are.
    runtime: Runs the rounds.
    progress: Show a progress bar.
    round_seconds: Limit of a round; None: no limit.

  Raises:
    OutputError: the cache folder cannot be written. WorkerError: the worker died twice
      in a round, or took longer than `round_seconds`.

  Deviations: the authors' recipe is unknown. The learning rate does not decay during
  the warm-up, and the run's own decay counts from its round 1. Images that an attack
  reserves for itself (semantic backdoors) are trained on with their true labels.
  """
  clean = clean_config(config)
  path = file_of(config, fed.held_out)
  keras_fn = federation.keras_fn(clean)
  found = _read(path, keras_fn, warns=False)
  if found is not None:  # without the lock, which a cache may be too read-only for
    return found
  with contextlib.ExitStack() as stack:
    with _writing(path.parent):
      lock = locks.alone(path.with_suffix(".lock"), f"makes the warm start {path}")
      stack.enter_context(lock)
    found = _read(path, keras_fn)
    if found is None:
      whole_files.remove_litter(path.parent)
      found = _train(clean, runtime, path, progress, round_seconds)
      _save(path, found, keras_fn)
      _partial(path).unlink(missing_ok=True)
  return found


def file_of(config: ExperimentConfig, held) -> pathlib.Path:
  """Where the cache keeps a run's start; the name says all that it depends on.

  Args:
    config: Of the run.
    held: Its images, see `held_out.hold_out`.
  """
  key = {
    "config": clean_config(config).hash(),
    "images": shards.digest(held.train_images),
    "labels": shards.digest(held.train_labels),
    "format": _FORMAT,
  }
  name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
  return federation.cache_folder(config) / "warm_starts" / f"{name}.npz"


def _read(path, keras_fn, *, warns=True):
  """The weights in a file; None without one, or if it is damaged."""
  if not path.exists():
    return None
  try:
    return weight_files.load(path, keras_fn)
  except DataError as error:
    if warns:
      _logger.warning("The warm start is made again. %s", error)
    return None


def _train(clean, runtime, path, progress, round_seconds):
  """Runs the clean rounds, saving the model after each."""
  keras_fn = federation.keras_fn(clean)
  start = client_work.initial_weights(split.make_model_fn(keras_fn))
  trainer = global_trainer.GlobalTrainer(clean, federation.build(clean), start)
  limit = {"timeout_seconds": round_seconds}
  states = trainer.start(runtime, **limit)
  done, kept = _read_partial(_partial(path), keras_fn)
  if done:
    states = trainer.process.set_model_weights(states[0], kept), states[1]
  bar = rounds_bar(done, clean.rounds, shown=progress, desc="warm start")
  for round_number in bar:
    number = _ROUNDS_BEFORE + round_number
    drawn = federation.draw_clients(clean, number)
    states, metrics = trainer.step(runtime, states, number, drawn, **limit)
    bar.set_postfix(loss=f"{metrics['clients']['train_loss']:.3f}")
    kept = states[0].global_model_weights
    _save(_partial(path), kept, keras_fn, rounds_done=round_number)
  return kept


def _save(path, weights, keras_fn, **more):
  with _writing(path.parent):
    weight_files.save(path, weights, keras_fn, **more)


def _partial(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f"{path.stem}.partial.npz")


def _read_partial(path, keras_fn):
  """(rounds done, weights) of a warm-up that was broken off; (0, None) without one."""
  found = _read(path, keras_fn)
  if found is None:
    return 0, None
  with np.load(path) as file:
    return int(file["rounds_done"]), found


@contextlib.contextmanager
def _writing(folder):
  try:
    yield
  except OSError as error:
    raise OutputError(
      f"warm_start: `cache_dir` must be writable and have room, got {folder}: {error}. "
      "Free space there or choose another folder."
    ) from error
