"""Builds the server's rule and the clients' optimizer from a run's settings."""

from collections.abc import Callable

import numpy as np
import tensorflow_federated as tff

from tff_defenses import aggregators
from tff_defenses.experiments import config_checks
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.held_out import HeldOut
from tff_defenses.experiments.registry_calls import call_builder
from tff_defenses.learning import optimizers, root_training


def build_aggregator(config: ExperimentConfig, model_fn: Callable, held: HeldOut):
  """The defense's aggregation factory.

  Args:
    config: Names the defense and its settings.
    model_fn: Builds the model, for rules that look at it.
    held: The server's own images.

  Raises:
    ConfigError: the defense does not take such settings. ValueError: a setting is
      outside its range.
  """
  given = {
    "model_fn": model_fn,
    "auxiliary_data": held.aux_images,
    "num_byzantine": config.told_byzantine,
    "num_clients": config.num_drawn,
    "seed": config.seed,
    "root_data": _build_root_update_fn(config, model_fn, held),
  }
  builder = aggregators.AGGREGATORS[config.defense].build
  return call_builder(
    "defense_settings", config.defense, builder, given, **config.defense_settings
  )


def moving_statistics(config: ExperimentConfig) -> str:
  """Which BatchNorm statistics the global model takes, for `build_fed_avg`.

  "authors" is FL-PLAS's code: under some rules the first client's, under others the
  initial ones; under Krum those of its choice, which "mean" gives as well.
  """
  if config.moving_statistics == "authors":
    return config_checks.AUTHORS_STATISTICS.get(config.defense, "mean")
  return "mean"


def build_optimizer(config: ExperimentConfig) -> tff.learning.optimizers.Optimizer:
  """The clients' optimizer."""
  return optimizers.build_client_optimizer(
    config.optimizer, config.learning_rate, config.momentum, config.weight_decay
  )


def _build_root_update_fn(config, model_fn, held):
  """FLTrust's training of the server, on images that no client has."""
  # They lie class by class; a pass in that order would end with the last class.
  order = np.random.default_rng([config.seed, 4]).permutation(len(held.root_labels))
  return root_training.build_root_update_fn(
    model_fn,
    held.root_images[order],
    held.root_labels[order],
    build_optimizer(config),
    epochs=config.root_epochs or config.local_epochs,
    batch_size=config.batch_size,
    rate_decay=config.rate_decay,
    drop_remainder=config.drop_remainder,
  )
