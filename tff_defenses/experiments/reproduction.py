"""A paper's table as runs: which cells, with which settings, in which folder.

References: FLARE Sec. 6.1, 7; FL-PLAS Sec. 6, 7. Numbers and settings: `papers`.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import tff_defenses
from tff_defenses.experiments import narrowing, papers, plan_file, presets, scaling
from tff_defenses.experiments.config import NO_ATTACK, ConfigError, ExperimentConfig
from tff_defenses.experiments.errors import fault_list

_FIXED = ("name", "scale", "from_scratch")
_GROWING = ("variants", "seeds")  # a folder holds all that were ever asked for


@dataclasses.dataclass(frozen=True)
class Plan:
  """What `--reproduce` runs; made by `plan` or `read`.

  Attributes:
    name: Of the table, such as "flare:table3".
    scale: In (0, 1]; 1: as the paper.
    seeds: One run a cell and seed.
    datasets, defenses, attacks: Only cells with these; None: all.
    rows: Only these; None: all.
    from_scratch: Start FL-PLAS's runs from random weights.
    variants: Names of the readings that are run as well; see `PaperTable.variants`.
    data_dir, cache_dir: Go into every config.
    output_dir: Holds plan.json and a folder a run.
  """

  name: str
  scale: float
  seeds: tuple[int, ...]
  datasets: tuple[str, ...] | None
  defenses: tuple[str, ...] | None
  attacks: tuple[str, ...] | None
  rows: tuple[str, ...] | None
  from_scratch: bool
  variants: tuple[str, ...]
  data_dir: str | None
  cache_dir: str | None
  output_dir: str

  @property
  def table(self) -> papers.PaperTable:
    """The whole table, not narrowed."""
    return papers.load(self.name)

  @property
  def cells(self) -> tuple[papers.Cell, ...]:
    """The cells that are to be run."""
    return tuple(cell for cell in self.table.cells if self._wants(cell))

  def config_of(self, cell: papers.Cell, seed: int) -> ExperimentConfig:
    """The run that measures a cell, scaled, with its own folder."""
    settings = _settings(cell)
    if self.from_scratch:
      settings["warmup_rounds"] = 0
    places = {"data_dir": self.data_dir, "cache_dir": self.cache_dir}
    full = ExperimentConfig(**settings, seed=seed, **places)
    config = scaling.scaled(full, self.scale)
    folder = os.path.join(self.output_dir, config.folder_name)
    return dataclasses.replace(config, output_dir=folder)

  def configs(self) -> list[ExperimentConfig]:
    """The distinct runs of all cells and seeds: a run may measure several cells.

    Seeds vary slowest, so that the whole table has a first value early.

    Raises:
      ConfigError: lists the faults of all runs, each once, or no run has the start that
        `from_scratch` leaves out.
    """
    _check_has_starts(self)
    found = {}
    for seed in self.seeds:
      for cell in self.cells:
        config = self.config_of(cell, seed)
        found.setdefault(config.output_dir, config)
    faults = list(dict.fromkeys(f for c in found.values() for f in c.problems()))
    if faults:
      raise ConfigError(fault_list(faults, f"in {self.name}"))
    return list(found.values())

  def save(self) -> None:
    """Writes plan.json; does nothing if it says the same already.

    Raises:
      OutputError: the folder holds another plan, or cannot be written.
    """
    fixed = {name: getattr(self, name) for name in _FIXED}
    fixed = {"version": tff_defenses.__version__, **fixed}
    growing = {name: getattr(self, name) for name in _GROWING}
    plan_file.add(self.output_dir, fixed, growing)

  def _wants(self, cell):
    settings = _settings(cell)
    return (
      (cell.variant is None or cell.variant in self.variants)
      and (self.datasets is None or settings["dataset"] in self.datasets)
      and (self.defenses is None or settings["defense"] in self.defenses)
      and (self.attacks is None or settings["attack"] in self.attacks)
      and (self.rows is None or cell.row in self.rows)
    )


def plan(
  name: str,
  *,
  scale: float = 1.0,
  seeds: Sequence[int] | None = None,
  datasets: Sequence[str] | None = None,
  defenses: Sequence[str] | None = None,
  attacks: Sequence[str] | None = None,
  rows: Sequence[str] = (),
  from_scratch: bool = False,
  variants: Sequence[str] = (),
  data_dir: str | None = None,
  cache_dir: str | None = None,
  output_dir: str | None = None,
) -> Plan:
  """The runs of a table or figure.

  Args:
    name: One of `papers.names()`.
    scale: See `scaling.scaled`.
    seeds: None: 0, 1, ..., as many as the paper's runs.
    datasets, defenses, attacks: Keys of the registries, and "none"; None or "all" among
      them: all. A defense stands for all its columns.
    rows: Labels of the paper's rows, in any case, or parts that may stand for several;
      none: all.
    from_scratch, data_dir, cache_dir: See `Plan`.
    variants: Names of other readings, likewise; "all": every one.
    output_dir: None: a folder below `results` that names table, start and scale.

  Raises:
    ValueError: no such table. ConfigError: a number is outside its range, the table has
      no data set, defense, attack, row or variant of a name (all told at once), or no
      cell with all that are asked for.
  """
  table = papers.load(name)
  chosen = _all_of(
    name,
    scale=lambda: scaling.check(scale),
    seeds=lambda: _distinct_seeds(table, seeds),
    datasets=lambda: _narrowed(table, "dataset", datasets),
    defenses=lambda: _narrowed(table, "defense", defenses),
    attacks=lambda: _narrowed(table, "attack", attacks),
    rows=lambda: _chosen_rows(table, rows),
    variants=lambda: narrowing.by_part(name, "variants", variants, table.variants),
  )
  if output_dir is None:
    shown = "-scratch" if from_scratch else ""
    shown += "" if scale == 1 else f"-scale{scale:g}"
    output_dir = os.path.join("results", name.replace(":", "-") + shown)
  made = Plan(
    name=name,
    **chosen,
    from_scratch=from_scratch,
    data_dir=data_dir,
    cache_dir=cache_dir,
    output_dir=output_dir,
  )
  _check_has_cells(made, variants)
  return made


def read(folder: str | os.PathLike) -> Plan | None:
  """The plan of an output folder, not narrowed, with all seeds ever asked for.

  Returns:
    None if the folder has none.

  Raises:
    OutputError: plan.json is damaged. That of another version is read: what its runs
      are worth by then `config.RECIPE` says.
  """
  found = plan_file.read(folder)
  if found is None:
    return None
  try:
    settings = {name: found[name] for name in _FIXED}
    settings |= {name: plan_file.list_of(folder, found, name) for name in _GROWING}
    return plan(**settings, output_dir=os.fspath(folder))
  except (KeyError, TypeError, ValueError) as error:
    raise plan_file.damaged(folder, error) from error


def _settings(cell) -> dict[str, Any]:
  """The preset's settings, replaced by the cell's."""
  preset = presets.PRESETS[cell.preset]
  merged = {"attack": NO_ATTACK, **preset, **cell.settings}
  if merged["attack"] == NO_ATTACK:
    merged["attack_settings"], merged["malicious_fraction"] = {}, 0.0
  elif merged["attack"] == preset.get("attack"):  # the preset's belong to its attack
    own, given = (s.get("attack_settings", {}) for s in (preset, cell.settings))
    merged["attack_settings"] = {**own, **given}
  else:
    merged["attack_settings"] = cell.settings.get("attack_settings", {})
  return merged


def _all_of(name, **choices):
  """Calls all; what they refuse is told together."""
  found, faults = {}, []
  for field, choose in choices.items():
    try:
      found[field] = choose()
    except ConfigError as error:
      faults.append(str(error))
  if faults:
    several = len(faults) > 1
    raise ConfigError(fault_list(faults, f"in {name}") if several else faults[0])
  return found


def _check_has_starts(made):
  """Raises ConfigError if no run has a pre-trained start to leave out."""
  if made.from_scratch and not any(
    _settings(c).get("warmup_rounds") for c in made.cells
  ):
    raise ConfigError(
      f"plan: `from_scratch` must be left out for {made.name}, whose runs have no "
      "pre-trained start, got True."
    )


def _check_has_cells(made, variants):
  """Raises ConfigError if narrowing leaves nothing of the table, or of a variant."""
  if not made.cells:
    raise ConfigError(
      f"plan: {made.name} must have a cell with the data sets, defenses, attacks and "
      "rows asked for, got none with all. Leave one out."
    )
  left_out = set(made.variants) - {cell.variant for cell in made.cells}
  if left_out and "all" not in variants:
    raise ConfigError(
      f"plan: {made.name}: each of `variants` must have a cell with the data sets, "
      "defenses, attacks and rows asked for, got none for "
      f"{', '.join(sorted(left_out))}. Leave it out."
    )


def _distinct_seeds(table, seeds):
  if seeds is None:
    seeds = range(table.paper_runs or 1)
  elif not seeds:
    raise ConfigError("plan: `seeds` must hold a number at least, got none.")
  return tuple(dict.fromkeys(seeds))


def _narrowed(table, field, wanted):
  known = list(dict.fromkeys(_settings(cell)[field] for cell in table.cells))
  return narrowing.exact(table.name, field, wanted, known)


def _chosen_rows(table, wanted):
  """Labels; a row's other readings come with it. None: all."""
  printed = dict.fromkeys(c.row for c in table.cells if c.variant is None)
  chosen = narrowing.by_part(table.name, "rows", wanted, tuple(printed))
  readings = {c.row: c.reading_of for c in table.cells if c.row not in printed}
  return (*chosen, *(row for row, of in readings.items() if of in chosen)) or None
