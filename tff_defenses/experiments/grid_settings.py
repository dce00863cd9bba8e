"""From a preset and list-valued settings to configs, all faults reported at once."""

import dataclasses
import itertools
import logging
import os
from collections.abc import Mapping
from typing import Any

import attacks
from tff_defenses import aggregators
from tff_defenses.experiments import (
  datasets,
  idle_settings,
  names,
  partition,
  presets,
)
from tff_defenses.experiments.config import NO_ATTACK, ConfigError, ExperimentConfig
from tff_defenses.experiments.errors import fault_list

_logger = logging.getLogger(__name__)
_STARTS = {"pretrained_file": None, "warmup_rounds": 0, "pretrain_on_aux": False}
_ALL = {
  "dataset": datasets.DATASETS,
  "defense": aggregators.AGGREGATORS,
  "attack": attacks.ATTACKS,
  "partition": partition.PARTITIONS,
}
_KINDS = ("defense", "attack")


def expand(
  preset: str | None,
  settings: Mapping[str, Any],
  *,
  data_dir: str | None = None,
  cache_dir: str | None = None,
  output_dir: str | None = None,
) -> list[ExperimentConfig]:
  """Makes one config for each combination of the settings that are lists.

  A single run writes to `output_dir` itself; several get a folder each below it, named
  after data set, defense, attack and config hash.

  Args:
    preset: A name in `PRESETS`, or None.
    settings: Replace the preset's; "all" in a list stands for every name, pairs that
      make no sense together left out. `defense_settings` and `attack_settings` go to
      every run, or, keyed by names of defenses or attacks, to theirs alone; they
      replace one by one what the preset says of its own attack, and an empty mapping
      all of it. A run without an attack gets none. A start (`warmup_rounds`,
      `pretrained_file`, `pretrain_on_aux`) replaces the preset's or the default one.
    data_dir, cache_dir: Go into every config.
    output_dir: None: "results".

  Raises:
    ConfigError: a list is empty, or lists the faults of all configs, each once; so is a
      setting that no run heeds.
  """
  if preset is not None:
    names.check_known("run_experiments", "preset", preset, presets.PRESETS)
  own = presets.PRESETS.get(preset, {})
  merged = {**own, **_other_starts(settings), **settings}
  lists = {n: _every(n, v) for n, v in merged.items() if isinstance(v, list)}
  fixed = {n: v for n, v in merged.items() if n not in lists}
  found = []
  for values in itertools.product(*lists.values()):
    chosen = {**fixed, **dict(zip(lists, values, strict=True))}
    chosen |= {f"{k}_settings": _own_settings(k, chosen, own, settings) for k in _KINDS}
    if chosen.get("attack", NO_ATTACK) == NO_ATTACK:
      chosen |= {"attack_settings": {}, "malicious_fraction": 0.0}
    found.append(ExperimentConfig(**chosen, data_dir=data_dir, cache_dir=cache_dir))
  idle = idle_settings.faults(settings, found)
  if any("all" in v for v in merged.values() if isinstance(v, list)):
    found = _without_misfits(found)
  _check(found, idle)
  return _with_folders(found, output_dir)


def _other_starts(settings):
  """If the settings ask for a start: the others, switched off."""
  asked = any(settings.get(name, off) != off for name, off in _STARTS.items())
  return _STARTS if asked else {}


def _every(name, values):
  """A list-valued setting with "all" replaced by every name."""
  if not values:
    raise ConfigError(f"expand: `{name}` must hold a value at least, got none.")
  known = _ALL.get(name, ())
  found = [v for value in values for v in (known if value == "all" else [value])]
  return found if known else values


def _own_settings(kind, chosen, preset, settings):
  """Of the chosen defense or attack: those given, over those of its preset.

  An empty mapping asks for the defaults. The preset's belong to its own choice alone.
  """
  name = chosen.get(kind, getattr(ExperimentConfig, kind))
  is_presets = name == preset.get(kind, getattr(ExperimentConfig, kind))
  before = preset.get(f"{kind}_settings", {}) if is_presets else {}
  given = settings.get(f"{kind}_settings")
  if given is None:
    return before
  if idle_settings.is_keyed(kind, given):
    if name not in given:
      return before
    given = given[name]
  return {**before, **given} if given else {}


def _without_misfits(configs):
  """Drops pairs that only "all" brought together; says how many, and the first why."""
  sound = [c for c in configs if not (c.problems() and c.problems() == c.misfits())]
  dropped = [c for c in configs if c not in sound]
  if dropped and sound:
    _logger.warning(
      "%d of %d combinations make no sense and are left out, first: %s",
      len(dropped),
      len(configs),
      dropped[0].misfits()[0],
    )
  return sound or configs


def _check(configs, idle):
  faults = list(dict.fromkeys([*idle, *(f for c in configs for f in c.problems())]))
  if faults:
    raise ConfigError(fault_list(faults, "in the settings"))


def _with_folders(configs, output_dir):
  """Gives each config its output folder; equal configs are run once."""
  distinct = list({config.hash(): config for config in configs}.values())
  if len(distinct) == 1 and output_dir is not None:
    return [dataclasses.replace(distinct[0], output_dir=output_dir)]
  base = output_dir or "results"
  return [
    dataclasses.replace(c, output_dir=os.path.join(base, c.folder_name))
    for c in distinct
  ]
