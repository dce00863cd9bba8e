"""What a run's attackers are, know and do: written to config.json before round 1."""

from typing import Any

import attacks
from tff_defenses.experiments.config import NO_ATTACK, ExperimentConfig, attacks_kind

_BOOSTS = ("boost", "gamma", "scale", "epsilon")  # what attacks call their factor


def record(config: ExperimentConfig) -> dict[str, Any]:
  """The threat model of a run, as JSON values.

  Returns:
    attack, kind ("data", "training", "update" or None); malicious_clients, their
    indices; malicious_per_round and participation ("fixed_frequency": the same number
    each round, "random": on average); sees, what attackers with these settings are
    shown; settings and boost, as given (None: the attack's own); true_num_byzantine and
    told_num_byzantine, f as it is and as the rule is told; first_round, last_round in
    which malicious clients attack.
  """
  settings = dict(config.attack_settings)
  return {
    "attack": config.attack,
    "kind": attacks_kind(config.attack),
    "malicious_clients": list(config.malicious_clients),
    "malicious_per_round": config.num_malicious_drawn,
    "participation": config.participation,
    "sees": sorted(_sees(config)),
    "settings": settings,
    "boost": next((settings[name] for name in _BOOSTS if name in settings), None),
    "true_num_byzantine": config.num_malicious_drawn,
    "told_num_byzantine": config.told_byzantine,
    "first_round": config.attack_start,
    "last_round": min(config.attack_stop or config.rounds, config.rounds),
  }


def colludes(config: ExperimentConfig) -> bool:
  """Whether all attackers of a training attack send what the first of them would.

  Those of FLARE do (its authors' code), others do not, unless `collude` says otherwise.
  """
  alone = config.num_malicious < 2 or (
    config.participation == "fixed_frequency" and config.num_malicious_drawn < 2
  )
  if alone or attacks_kind(config.attack) != "training":
    return False
  usual = "copy" if attacks.ATTACKS[config.attack].paper == "FLARE" else "none"
  return config.attack_settings.get("collude", usual) == "copy"


def aggregates_twice(config: ExperimentConfig) -> bool:
  """Whether updates are gathered for the attack before they are for the rule."""
  kind = attacks_kind(config.attack)
  return (
    kind == "update"
    or colludes(config)
    or (kind == "training" and "benign_updates" in _sees(config))
  )


def _sees(config):
  if config.attack == NO_ATTACK:
    return frozenset()
  return attacks.ATTACKS[config.attack].seen_with(config.attack_settings)
