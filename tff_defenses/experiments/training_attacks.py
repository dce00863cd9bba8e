"""Builds the attack that malicious clients train with, from a run's settings."""

import logging
from collections.abc import Mapping
from typing import Any

import attacks
from models import split
from tff_defenses import aggregators
from tff_defenses.experiments import aims, datasets
from tff_defenses.experiments import config as config_lib
from tff_defenses.experiments import federation as federation_lib
from tff_defenses.experiments.registry_calls import call_builder

_logger = logging.getLogger(__name__)


def build_training_attack(
  config: config_lib.ExperimentConfig, fed: federation_lib.Federation
):
  """What the malicious clients do instead of training; None without such an attack.

  Warns of an attack on features that FL-PLAS's clients do not share.

  Raises:
    ConfigError: the attack does not take such settings, or needs a benign client in
      every round.
  """
  if config_lib.attacks_kind(config.attack) != "training":
    return None
  settings = own_settings(config.attack, config.attack_settings)
  spec = attacks.ATTACKS[config.attack]
  image_shape = datasets.DATASETS[config.dataset].image_shape
  suited = spec.suited(class_names=fed.class_names, image_shape=image_shape)
  supplied = _supplies(config, fed)
  needed = {name: supplied[name] for name in spec.needs}
  settings = {**suited, **needed, **settings}
  _check_benign(config, spec)
  attack = call_builder("attack_settings", config.attack, spec.build, **settings)
  _warn_of_private_layers(config, attack)
  return attack


def _warn_of_private_layers(config, attack):
  """The gap that is to be closed may close in layers that are never sent."""
  layer = getattr(attack, "layer", None)
  if (
    layer is None or "client_state" not in aggregators.AGGREGATORS[config.defense].needs
  ):
    return
  patterns = federation_lib.shared_layers(config)
  private = _private_layers(federation_lib.keras_fn(config)(), layer, patterns)
  if private:
    _logger.warning(
      "attack %r: `layer` %r lies behind private layers (%s) of the cut %r: what it "
      "learns there stays with the attacker. Set `layer` to a shared one.",
      config.attack,
      layer,
      ", ".join(private),
      config.shared_cut,
    )


def _private_layers(model, layer, patterns) -> list[str]:
  """Layers with weights, up to and with `layer`, that are not shared."""
  import tensorflow as tf  # here: who builds no such attack need not wait for it

  names = split.trainable_names(model)
  shared = split.is_shared(names, patterns)
  below = tf.keras.Model(model.inputs, model.get_layer(layer).output)
  private = {split.layer_of(n) for n, s in zip(names, shared, strict=True) if not s}
  read = dict.fromkeys(map(split.layer_of, split.trainable_names(below)))
  return [name for name in read if name in private]


def _check_benign(config, spec):
  """Raises ConfigError if the attack looks at benign updates where there is none."""
  num_malicious, num_drawn = config.num_malicious_drawn, config.num_drawn
  sees = spec.seen_with(config.attack_settings)
  if "benign_updates" in sees and num_malicious >= num_drawn:
    raise config_lib.ConfigError(
      f"ExperimentConfig: a round must hold a benign client where attack "
      f"{config.attack!r} looks at their updates, got {num_malicious} malicious of "
      f"{num_drawn}. Lower `malicious_fraction`."
    )


def own_settings(attack: str, attack_settings: Mapping[str, Any]) -> dict[str, Any]:
  """Those settings of a training attack that go to its builder.

  Others go to the federation, which chooses what is attacked and poisons data, and to
  the collusion; of an attack that has no use for them they stay, and are refused.
  """
  spec = attacks.ATTACKS[attack]
  others = {"collude"}
  if "images" in spec.needs:
    others.update(aims.SETTINGS)
  if spec.data_attack is attacks.chosen_data_attack:
    others.update(("data_attack", "data_settings"))
  return {n: value for n, value in attack_settings.items() if n not in others}


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
