"""Looks for all data, and builds each rule and attack of many runs, before the first.

A setting that the last run of a night would refuse is told in its first seconds. A data
set, or an attack's file, that is not there is told with all that was looked for and how
to get it; the line that is left of a failed run has no room for that.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from models import split
from tff_defenses.experiments import (
  aggregation,
  aims,
  data_attacks,
  datasets,
  federation,
  held_out,
  training_attacks,
  update_attacks,
)
from tff_defenses.experiments.config import ConfigError, ExperimentConfig
from tff_defenses.experiments.errors import fault_list

_OF_DATA = ("dataset", "data_dir")
_SHARED = (*_OF_DATA, "model", "num_clients", "clients_per_round", "malicious_fraction")
_OF_AN_ATTACK = (*_SHARED, "participation", "attack", "attack_settings")
_OF_A_RULE = (*_OF_AN_ATTACK, "defense", "defense_settings", "num_byzantine")
_IMAGES_A_CLASS = 10_000  # more than any data set has: the real ones decide


def check(configs: Sequence[ExperimentConfig]) -> None:
  """Finds the data, and builds what several runs are made of on blank images.

  A single run is not built: it comes to its own rule and attack at once.

  Raises:
    ConfigError: lists the settings that a rule or an attack does not take, and the data
      sets and attacks' files that are missing.
  """
  faults = [
    *_faults(_find_data, _distinct(configs, _OF_DATA)),
    *_faults(_find_files, _distinct(configs, _OF_AN_ATTACK)),
  ]
  if len(configs) > 1:
    faults += _faults(_build_rule, _distinct(configs, _OF_A_RULE))
    faults += _faults(_build_attack, _distinct(configs, _OF_AN_ATTACK))
  if faults:
    raise ConfigError(fault_list(list(dict.fromkeys(faults)), "in settings and data"))


def _distinct(configs, fields) -> Iterable[ExperimentConfig]:
  """One config for each combination of the fields' values."""
  return {repr([getattr(c, f) for f in fields]): c for c in configs}.values()


def _faults(build: Callable, configs: Iterable[ExperimentConfig]):
  for config in configs:
    try:
      build(config)
    except (OSError, ValueError) as error:
      yield " ".join(str(error).split())


def _find_data(config):
  datasets.check(config.dataset, config.data_dir)


def _find_files(config):
  attack = data_attacks.make(config, datasets.DATASETS[config.dataset])
  if attack is not None:
    attack.check_files(config.data_dir)


def _build_rule(config):
  model_fn = split.make_model_fn(federation.keras_fn(config))
  rule = aggregation.build_aggregator(config, model_fn, _blank_held_out(config))
  update_attacks.build_update_attack(config, rule)


def _build_attack(config):
  classes = datasets.DATASETS[config.dataset].num_classes
  classes = np.arange(classes, dtype=np.int32)
  labels = np.repeat(classes, _IMAGES_A_CLASS)
  images = _blank(config, len(labels))
  training_attacks.build_training_attack(
    config, _BlankFederation(config, images, labels)
  )


class _BlankFederation:
  """What training attacks look at."""

  def __init__(self, config, images, labels):
    shared = test = images, labels
    self.targets = aims.choose(config, shared, test)
    self.class_names = datasets.DATASETS[config.dataset].class_names


def _blank_held_out(config):
  classes = datasets.DATASETS[config.dataset].num_classes
  auxiliary = np.full(config.aux_size, config.aux_class, np.int32)
  root = np.repeat(np.arange(classes, dtype=np.int32), config.root_per_class)
  clients = np.zeros(0, np.int32)
  return held_out.HeldOut(
    *(_blank(config, 0), clients),
    *(_blank(config, len(auxiliary)), auxiliary),
    *(_blank(config, len(root)), root),
    kept=np.zeros(0, bool),
  )


def _blank(config, number):
  """Black images that take no memory."""
  shape = datasets.DATASETS[config.dataset].image_shape
  return np.broadcast_to(np.uint8(0), (number, *shape))
