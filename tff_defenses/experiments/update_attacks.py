"""Builds what malicious clients send instead of their updates, as a run sets it."""

import attacks
from attacks.updates import base, copy_first
from tff_defenses.aggregators import krum
from tff_defenses.experiments import config as config_lib
from tff_defenses.experiments import federation as federation_lib
from tff_defenses.experiments import threat_model
from tff_defenses.experiments.registry_calls import call_builder

COLLUDE = ("copy", "none")


def build_update_attack(config: config_lib.ExperimentConfig, aggregator):
  """The update attack of a run; None without one.

  Several malicious clients that train an attack of FLARE send what the first of them
  would send, as in its authors' code, other training attackers each their own; the
  attack setting `collude`, "copy" or "none", says otherwise.

  Args:
    config: Names the attack and its settings.
    aggregator: The server's, for attacks that know it.

  Raises:
    ConfigError: the attack does not take such settings, or needs a benign client in
      every round.
  """
  kind = config_lib.attacks_kind(config.attack)
  if kind == "training":
    return _build_collusion(config)
  if kind != "update":
    return None
  spec = attacks.ATTACKS[config.attack]
  supplied = {name: _SUPPLIES[name](config, aggregator) for name in spec.needs}
  settings = {**supplied, **config.attack_settings}
  attack = call_builder("attack_settings", config.attack, spec.build, **settings)
  try:
    base.check_round(attack, config.num_drawn, config.num_malicious_drawn)
  except ValueError as error:
    raise config_lib.ConfigError(f"ExperimentConfig: {error}") from error
  return attack


def _build_collusion(config):
  collude = config.attack_settings.get("collude", "none")
  if collude not in COLLUDE:
    raise config_lib.ConfigError(
      f"ExperimentConfig: `attack_settings` must have `collude` one of "
      f"{', '.join(map(repr, COLLUDE))}, got {collude!r}."
    )
  return copy_first.CopyFirst() if threat_model.colludes(config) else None


def _rule(config, aggregator):
  """The server's Krum; None under another rule: the attack then assumes the paper's."""
  del config
  return aggregator if isinstance(aggregator, krum.KrumFactory) else None


def _shapes(config, aggregator):
  """Of the model's trainable variables, in model order."""
  del aggregator
  model = federation_lib.keras_fn(config)()
  return tuple(tuple(v.shape) for v in model.trainable_variables)


def _num_clients(config, aggregator):
  """n of a round."""
  del aggregator
  return config.num_drawn


def _num_malicious(config, aggregator):
  """f of a round; 1 where nobody is malicious: the attack is then never used."""
  del aggregator
  return max(1, config.num_malicious_drawn)


_SUPPLIES = {
  "rule": _rule,
  "shapes": _shapes,
  "num_clients": _num_clients,
  "num_malicious": _num_malicious,
}
