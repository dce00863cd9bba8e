"""Builds the attack that malicious clients train with, from a run's settings."""

import attacks
from models import split
from tff_defenses.experiments import config as config_lib
from tff_defenses.experiments import datasets
from tff_defenses.experiments import federation as federation_lib
from tff_defenses.experiments.registry_calls import call_builder

# Settings that say what is attacked go to the federation, `collude` to the update
# attacks, the others to the attack.
_OF_THE_FEDERATION = (
  "kind",
  "num_targets",
  "source_class",
  "target_class",
  "trigger_value",
  "data_attack",
  "data_settings",
  "collude",
)


def build_training_attack(
  config: config_lib.ExperimentConfig, fed: federation_lib.Federation
):
  """What the malicious clients do instead of training; None without such an attack.

  Raises:
    ConfigError: the attack does not take such settings.
  """
  if config_lib.attacks_kind(config.attack) != "training":
    return None
  settings = {
    name: value
    for name, value in config.attack_settings.items()
    if name not in _OF_THE_FEDERATION
  }
  spec = attacks.ATTACKS[config.attack]
  image_shape = datasets.DATASETS[config.dataset].image_shape
  suited = spec.suited(class_names=fed.class_names, image_shape=image_shape)
  supplied = _supplies(config, fed)
  needed = {name: supplied[name] for name in spec.needs}
  settings = {**suited, **needed, **settings}
  return call_builder("attack_settings", config.attack, spec.build, **settings)


def _supplies(config, fed):
  """Every argument that an attack may need."""
  targets = fed.targets
  return {
    "images": None if targets is None else targets.images,
    "labels": None if targets is None else targets.labels,
    "benign_epochs": config.local_epochs,
    "num_clients": config.num_drawn,
    # Nobody malicious: the attack is built and never used.
    "num_malicious": max(1, config.num_malicious_drawn),
    "model_fn": split.make_model_fn(federation_lib.keras_fn(config)),
  }
