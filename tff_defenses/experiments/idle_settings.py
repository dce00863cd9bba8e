"""Settings that would change nothing: whoever gives one expects that it does."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attacks
import models
from tff_defenses import aggregators
from tff_defenses.experiments import datasets, rule_chain
from tff_defenses.experiments.config import NO_ATTACK, ExperimentConfig

_NAMES = {"defense": aggregators.AGGREGATORS, "attack": attacks.ATTACKS}
_OF_ATTACKS = {  # -> what asks for nothing
  **{"malicious_fraction": 0, "attack_settings": {}},
  **{"attack_start": 1, "attack_stop": None, "malicious_first": False},
}
_OF_RULES = {  # -> what a rule that heeds it needs, and such a rule
  "num_byzantine": ("num_byzantine", "krum"),
  "root_epochs": ("root_data", "fltrust"),
  "eval_clients": ("client_state", "fl_plas"),
  "shared_cut": ("cut", "fl_plas"),
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


def faults(
  settings: Mapping[str, Any], configs: Sequence[ExperimentConfig]
) -> list[str]:
  """Tells each setting that no run heeds.

  Args:
    settings: As given by the user: not those of a preset.
    configs: All runs that they lead to; they may have faults of their own.
  """
  return [
    *_without_an_attack(settings, configs),
    *_of_nobody(settings, configs),
    *_without_their_choice(settings, configs),
    *_without_their_rule(settings, configs),
  ]


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


def _without_their_rule(settings, configs) -> Iterator[str]:
  needs = set().union(*map(_needs, configs))
  for name, (need, example) in _OF_RULES.items():
    if _is_given(settings, name) and need not in needs:
      yield (
        f"`defense` must be a rule that heeds `{name}` where it is given, got "
        f"{configs[0].defense}. Choose one, such as {example}, or leave out `{name}`."
      )
  if _is_given(settings, "moving_statistics") and not any(map(_averages_them, configs)):
    yield (
      "`model` must have BatchNorm, and `defense` a global model, where "
      f"`moving_statistics` is given, got {configs[0].model_name} and "
      f"{configs[0].defense}. Choose one, such as mobilenet, or leave it out."
    )
  if _is_given(settings, "participation") and all(
    config.num_drawn == config.num_clients for config in configs
  ):
    yield (
      "`clients_per_round` must be less than `num_clients` where `participation` is "
      f"given, got all {configs[0].num_clients}. Draw fewer, or leave it out."
    )


def _is_given(settings, name) -> bool:
  """Whether a setting is there and is not its default."""
  default = getattr(ExperimentConfig, name)
  values = settings.get(name)
  values = values if isinstance(values, list) else [values]
  return any(value not in (None, default) for value in values)


def _averages_them(config) -> bool:
  """Whether a run has moving statistics that the server makes global ones of."""
  if config.model is None and config.dataset not in datasets.DATASETS:
    return True  # nobody knows: the name is a fault of its own
  model = models.MODELS.get(config.model_name)
  is_global = "client_state" not in _needs(config)
  return model is None or (model.has_moving_statistics and is_global)


def _needs(config) -> set[str]:
  """What a run's rule needs, and the rules that it wraps.

  Only what aggregates has a cut; Table 2's models, put together from two, have one too.
  """
  needs = set()
  for link in rule_chain.links(config):
    needs |= {*link.spec.needs, *(["cut"] if _is_cut(link.spec) else [])}
  return needs | {"cut"} if config.measure == "extractor_swap" else needs


def _is_cut(spec) -> bool:
  return spec.aggregates and "client_state" in spec.needs
