"""Settings that would change nothing: whoever gives one expects that it does."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attacks
from tff_defenses import aggregators
from tff_defenses.experiments.config import NO_ATTACK, ConfigError, ExperimentConfig
from tff_defenses.experiments.errors import fault_list

_NAMES = {"defense": aggregators.AGGREGATORS, "attack": attacks.ATTACKS}
_OF_ATTACKS = {  # -> what asks for nothing
  **{"malicious_fraction": 0, "attack_settings": {}},
  **{"attack_start": 1, "attack_stop": None},
}
_ONLY_WITH = {
  "momentum": ("optimizer", "sgd"),
  "alpha": ("partition", "dirichlet"),
  "as_published": ("partition", "dirichlet"),
  "min_client_images": ("partition", "dirichlet"),
  "classes_per_client": ("partition", "classes"),
}


def is_keyed(kind: str, given: Mapping[str, Any]) -> bool:
  """Whether settings are keyed by names of defenses or attacks."""
  return bool(given) and all(name in _NAMES[kind] for name in given)


def check(settings: Mapping[str, Any], configs: Sequence[ExperimentConfig]) -> None:
  """Raises ConfigError if no run heeds a setting.

  Args:
    settings: As given by the user: not those of a preset.
    configs: All runs that they lead to.
  """
  faults = [
    *_without_an_attack(settings, configs),
    *_of_nobody(settings, configs),
    *_without_their_choice(settings, configs),
  ]
  if faults:
    raise ConfigError(fault_list(faults, "in the settings"))


def _without_an_attack(settings, configs) -> Iterator[str]:
  if any(config.attack != NO_ATTACK for config in configs):
    return
  for name, nothing in _OF_ATTACKS.items():
    values = settings.get(name)
    values = values if isinstance(values, list) else [values]
    if any(value not in (None, nothing) for value in values):
      yield (
        f"`attack` must be given where `{name}` is, got none. Choose one, such as "
        f"trigger, or leave out `{name}`."
      )


def _of_nobody(settings, configs) -> Iterator[str]:
  """Settings keyed by names that no run has."""
  for kind in _NAMES:
    given = settings.get(f"{kind}_settings") or {}
    chosen = {getattr(config, kind) for config in configs}
    for name in given if is_keyed(kind, given) else ():
      if name not in chosen:
        yield (
          f"`{kind}_settings` must name {kind}s of the runs, got {name!r}. Add it to "
          f"`{kind}`, or leave out its settings."
        )


def _without_their_choice(settings, configs) -> Iterator[str]:
  for name in ("warmup_on_all", "warmup_pooled"):
    if settings.get(name) and not any(config.warmup_rounds for config in configs):
      yield (
        f"`warmup_rounds` must be at least 1 where `{name}` is given, got 0. Set it, "
        f"or leave out `{name}`."
      )
  for name, (field, value) in _ONLY_WITH.items():
    if settings.get(name) and all(getattr(c, field) != value for c in configs):
      found = getattr(configs[0], field)
      yield (
        f"`{field}` must be {value} where `{name}` is given, got {found}. Choose it, "
        f"or leave out `{name}`."
      )
