"""What can be wrong with an experiment's settings, a sentence each.

Everything here is seen without loading data; `ExperimentConfig.problems` puts it
together.
"""

import dataclasses
import math
import os
from typing import TYPE_CHECKING, Any

import attacks
import models
from tff_defenses import aggregators
from tff_defenses.experiments import datasets, names, partition

if TYPE_CHECKING:
  from tff_defenses.experiments.config import ExperimentConfig

OPTIMIZERS = ("adam", "sgd")
PARTICIPATIONS = ("fixed_frequency", "random")
AUX_SOURCES = ("train_holdout", "authors")
MOVING_STATISTICS = ("mean", "authors")
AUTHORS_STATISTICS = {  # defense -> whose, in FL-PLAS's code; see `aggregation`
  **dict.fromkeys(("fedavg", "rsa", "norm_clipping"), "first"),
  **dict.fromkeys(("fltrust", "flame"), "initial"),
}
EVAL_CLIENTS = ("all", "sampled")
MEASURES = ("extractor_swap",)
NO_ATTACK = "none"

_AT_LEAST = {
  "num_clients": 1,
  "min_client_images": 1,
  "rounds": 1,
  "local_epochs": 1,
  "batch_size": 1,
  "classes_per_client": 1,
  "eval_every": 1,
  "checkpoint_every": 1,
  "aux_size": 2,
  "aux_class": 0,
  "attack_start": 1,
  "attack_stop": 1,
  "warmup_rounds": 0,
  "root_per_class": 1,
  "root_epochs": 1,
  "seed": 0,
  "clients_per_round": 1,
  "num_byzantine": 0,
  "max_train_images": 1,
  "max_test_images": 1,
}
_BEYOND_ANY = 2**31  # ours: above any use, and safely below TensorFlow's 64 bits
_BEYOND = {"seed": 2**63}  # a hash may be one; TensorFlow takes no larger
_RANGES = {
  "malicious_fraction": (0, 1, "in [0, 1]"),
  "momentum": (0, 1, "in [0, 1]"),
  "rate_decay": (1e-9, 1, "in (0, 1]"),
  "weight_decay": (0, math.inf, "finite and >= 0"),
  "learning_rate": (1e-12, math.inf, "finite and > 0"),
  "alpha": (1e-9, math.inf, "finite and > 0"),
}


def attacks_kind(attack: str) -> str | None:
  """ "data", "training" or "update"; None without an attack."""
  return None if attack == NO_ATTACK else attacks.ATTACKS[attack].kind


def problems(config: "ExperimentConfig") -> list[str]:
  """The faults: of single settings, or else of how they fit together."""
  faults = [*_unknown_names(config), *_numbers_out_of_range(config)]
  if not faults:  # what follows relies on known names and sound numbers
    faults += [*_clients_that_do_not_fit(config), *_data_that_do_not_fit(config)]
    faults += [*_statistics_that_do_not_fit(config)]
    faults += [*_starts_that_do_not_fit(config), *misfits(config)]
  return faults


def misfits(config: "ExperimentConfig") -> list[str]:
  """Why the attack makes no sense on this data set or against this defense."""
  return [*_attacks_that_do_not_fit(config), *_measures_that_do_not_fit(config)]


def _attacks_that_do_not_fit(config):
  if config.attack == NO_ATTACK:
    return
  spec, defense = (
    attacks.ATTACKS[config.attack],
    aggregators.AGGREGATORS[config.defense],
  )
  if spec.datasets is not None and config.dataset not in spec.datasets:
    yield (
      f"ExperimentConfig: attack {config.attack!r} is made of images of "
      f"{', '.join(spec.datasets)}, got data set {config.dataset!r}. Choose that one."
    )
  if spec.kind == "data" or "client_state" not in defense.needs:
    return
  if not defense.aggregates:
    yield (
      f"ExperimentConfig: attack {config.attack!r} changes what clients send, and "
      f"under defense {config.defense!r} they send nothing. Use a data attack."
    )
  elif not spec.works_on_shared_layers:
    yield (
      f"ExperimentConfig: attack {config.attack!r} replaces whole updates, which "
      f"defense {config.defense!r} does not exchange. Use a data attack."
    )
  elif config.attack_settings.get("collude", "none") != "none":
    yield (
      f"ExperimentConfig: `attack_settings` must leave out `collude` with defense "
      f"{config.defense!r}, whose attackers act each for itself, got "
      f"{config.attack_settings['collude']!r}."
    )


def _measures_that_do_not_fit(config):
  if config.measure != "extractor_swap":
    return
  if attacks_kind(config.attack) != "data":
    yield (
      "ExperimentConfig: `measure` 'extractor_swap' needs a data attack with a "
      f"backdoor, got attack {config.attack!r}. Use for example 'trigger'."
    )
  if "client_state" in aggregators.AGGREGATORS[config.defense].needs:
    yield (
      "ExperimentConfig: `measure` 'extractor_swap' cuts global models, and defense "
      f"{config.defense!r} has none. Use for example 'fedavg'."
    )
  if config.shared_cut == "all":
    yield _fault("shared_cut", "one that leaves a classifier to swap", "all")


def _starts_that_do_not_fit(config):
  path = config.pretrained_file
  wanted = {
    "pretrained_file": path is not None,
    "warmup_rounds": config.warmup_rounds > 0,
    "pretrain_on_aux": config.pretrain_on_aux,
  }
  starts = [name for name, is_wanted in wanted.items() if is_wanted]
  if len(starts) > 1:
    yield (
      f"ExperimentConfig: `{starts[0]}` must be the only start, got `{starts[1]}` as "
      "well. Leave one out; `pretrain_on_aux` is on unless it is set to false."
    )
  if path is not None and not os.path.isfile(os.path.expanduser(path)):
    yield _fault("pretrained_file", "an .npz file that exists", path)


def _unknown_names(config):
  choices = {
    "dataset": datasets.DATASETS,
    "defense": aggregators.AGGREGATORS,
    "attack": [NO_ATTACK, *attacks.ATTACKS],
    "partition": partition.PARTITIONS,
    "participation": PARTICIPATIONS,
    "optimizer": OPTIMIZERS,
    "aux_source": AUX_SOURCES,
    "moving_statistics": MOVING_STATISTICS,
    "eval_clients": EVAL_CLIENTS,
  }
  if config.model is not None:
    choices["model"] = models.MODELS
  if config.measure is not None:
    choices["measure"] = MEASURES
  for field, known in choices.items():
    try:
      names.check_known("ExperimentConfig", field, getattr(config, field), known)
    except ValueError as error:
      yield str(error)


def _numbers_out_of_range(config):
  fields = {f.name: f for f in dataclasses.fields(config)}
  for field, least in _AT_LEAST.items():
    value = getattr(config, field)
    optional = fields[field].default is None
    if value is None and optional:
      continue
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
      yield _fault(field, f"a whole number >= {least}", value)
    elif value >= _BEYOND.get(field, _BEYOND_ANY):
      yield _fault(field, f"below {_BEYOND.get(field, _BEYOND_ANY):,}", value)
  for field, (least, most, rule) in _RANGES.items():
    value = getattr(config, field)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and least <= value <= most and math.isfinite(value)):
      hint = " 0.8 means 80 %." if field == "malicious_fraction" else ""
      yield _fault(field, rule, value) + hint


def _clients_that_do_not_fit(config):
  if config.num_drawn > config.num_clients:
    rule = f"at most `num_clients` ({config.num_clients})"
    yield _fault("clients_per_round", rule, config.clients_per_round)
  if config.told_byzantine > config.num_drawn:
    rule = f"at most the {config.num_drawn} clients of a round"
    yield _fault("num_byzantine", rule, config.told_byzantine)
  if (
    config.attack != NO_ATTACK
    and config.malicious_fraction > 0
    and (config.num_malicious == 0)
  ):
    rule = f"large enough for one of {config.num_clients} clients"
    yield _fault("malicious_fraction", rule, config.malicious_fraction)
  if config.attack_start > config.rounds:
    rule = f"at most `rounds` ({config.rounds})"
    yield _fault("attack_start", rule, config.attack_start)
  elif config.attack_stop is not None and config.attack_stop < config.attack_start:
    rule = f"at least `attack_start` ({config.attack_start})"
    yield _fault("attack_stop", rule, config.attack_stop)
  if config.num_malicious == config.num_clients:
    rule = "below 1: a benign client must be left to be scored"
    yield _fault("malicious_fraction", rule, config.malicious_fraction)
  fixed = config.participation == "fixed_frequency"
  if fixed and config.num_malicious and not config.num_malicious_drawn:
    rule = f"large enough for one of the {config.num_drawn} clients of a round"
    yield _fault("malicious_fraction", rule, config.malicious_fraction)


def _data_that_do_not_fit(config):
  data, model = datasets.DATASETS[config.dataset], models.MODELS[config.model_name]
  if config.aux_class >= data.num_classes:
    rule = f"a class of {config.dataset}, 0..{data.num_classes - 1}"
    yield _fault("aux_class", rule, config.aux_class)
  if config.partition == "classes" and config.classes_per_client > data.num_classes:
    rule = f"at most the {data.num_classes} classes of {config.dataset}"
    yield _fault("classes_per_client", rule, config.classes_per_client)
  if config.shared_cut != "default" and config.shared_cut not in model.cuts:
    known = ", ".join(["default", *model.cuts])
    yield _fault(
      "shared_cut", f"one of {known} for {config.model_name}", config.shared_cut
    )
  if config.augment not in (None, "crop_flip"):
    yield _fault("augment", "none or crop_flip", config.augment)


def _statistics_that_do_not_fit(config):
  """FL-PLAS's code takes a malicious client's wherever one takes part."""
  if (
    config.moving_statistics == "authors"
    and AUTHORS_STATISTICS.get(config.defense) == "first"
    and models.MODELS[config.model_name].has_moving_statistics
    and config.num_malicious
    and not config.malicious_first
  ):
    yield (
      "ExperimentConfig: `malicious_first` must be true with `moving_statistics` "
      f"'authors' under defense {config.defense!r}, got false: the first client's are "
      "taken, and FL-PLAS's code puts malicious clients before others. Set it."
    )


def _fault(field: str, rule: str, value: Any) -> str:
  return f"ExperimentConfig: `{field}` must be {rule}, got {value!r}."
