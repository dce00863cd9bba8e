"""What a paper's figure shows, gathered from the run folders of its plan.

A panel holds what has one data set, attack and metric; a line is a printed column,
that is a defense, with its mean and standard deviation over seeds.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tff_defenses.experiments import run_values
from tff_defenses.experiments.curve_plots import Line
from tff_defenses.experiments.errors import OutputError

LABELS = {
  "accuracy": "accuracy",
  "attack_success_rate": "attack success rate",
  "attack_success_rate_over_rounds": "attack success rate over rounds",
  "backdoor_accuracy": "backdoor accuracy (BA)",
  "backdoor_accuracy_nontarget": "BA without the target class",
  "target_confidence": "model confidence in the target",
  "seconds_aggregation_per_round": "seconds of aggregation a round",
  "train_loss": "training loss",
}


@dataclasses.dataclass(frozen=True, eq=False)
class CellRun:
  """One cell with one seed.

  Attributes:
    cell: Of the paper's table.
    seed: Of the run.
    config: Of the run.
    run: What its folder holds; None: the run is not finished.
  """

  cell: Any
  seed: int
  config: Any
  run: run_values.RunValues | None


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
  """Lines that belong side by side.

  Attributes:
    title: Attack and data set.
    metric, unit: Of the vertical axis.
    lines: One a column.
  """

  title: str
  metric: str
  unit: str
  lines: tuple[Line, ...]


def collect(plan) -> list[CellRun]:
  """Every cell of the plan with every seed, finished or not."""
  found, seen = [], {}
  for cell in plan.cells:
    for seed in plan.seeds:
      config = plan.config_of(cell, seed)
      if config.output_dir not in seen:
        seen[config.output_dir] = _finished(config.output_dir)
      found.append(CellRun(cell, seed, config, seen[config.output_dir]))
  return found


def _finished(folder):
  """The run; None if it is not done, or damaged, which its report tells."""
  try:
    run = run_values.read(folder)
  except OutputError:
    return None
  return run if run is not None and run.status == run_values.DONE else None


def panels(runs: Sequence[CellRun], x: str) -> list[Panel]:
  """The figure's panels in the order of the cells, but for those without a value.

  Args:
    runs: As `collect` gives them.
    x: "round", or the field of the config on the horizontal axis.
  """
  groups: dict = {}
  for run in runs:
    groups.setdefault(panel_key(run), []).append(run)
  found = [
    Panel(panel_title(g), g[0].cell.metric, g[0].cell.unit, _lines(g, x))
    for g in groups.values()
  ]
  return [panel for panel in found if any(len(line.x) for line in panel.lines)]


def over_seeds(values: Sequence[float | None]) -> tuple[float, float]:
  """Mean, and standard deviation (n - 1); NaN where there is nothing, or one seed.

  >>> over_seeds([1.0, 3.0, None])[0], over_seeds([])[0], over_seeds([1.0])[1]
  (2.0, nan, nan)
  """
  known = np.array([value for value in values if value is not None], float)
  known = known[np.isfinite(known)]
  mean = float(known.mean()) if len(known) else float("nan")
  return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def measured(run: CellRun) -> float | None:
  """The cell's value, a fraction where it is one; None if there is none."""
  return run.run.number(run.cell.metric) if run.run else None


def read_column(run: CellRun, metric: str) -> pd.Series:
  """A column of metrics.csv by round, without rounds that were not scored."""
  table = pd.read_csv(run.run.folder / "metrics.csv")
  if metric not in table:
    return pd.Series(dtype=float)
  return table.set_index("round")[metric].dropna().astype(float)


def panel_key(run: CellRun) -> tuple:
  """What the lines of a panel share: setting, metric and reading of the setting."""
  config, cell = run.config, run.cell
  reading = re.search(r" \[(.*)\]$", cell.row) if cell.reading_of else None
  kind = config.attack_settings.get("kind")
  setting = (config.dataset, config.attack, kind, config.partition)
  return *setting, cell.metric, reading and reading.group(1)


def panel_title(runs: Sequence[CellRun]) -> str:
  """What the printed labels of the rows have in common, else attack and data set."""
  rows = list(dict.fromkeys(run.cell.row for run in runs))
  if len(rows) == 1:
    return rows[0]
  dataset, attack, kind, *_, reading = panel_key(runs[0])
  parts = [row.split(", ") for row in rows]
  shared = [same[0] for same in zip(*parts, strict=False) if len(set(same)) == 1]
  attack = "no attack" if attack == "none" else attack.replace("_", " ")
  shown = shared or [f"{attack} ({kind})" if kind else attack, dataset]
  return ", ".join(shown) + (f" [{reading}]" if reading else "")


def _lines(runs, x):
  columns: dict = {}
  for run in runs:
    columns.setdefault(run.cell.column, []).append(run)
  line_of = _over_rounds if x == "round" else _over_field
  lines = [line_of(column, line, x) for column, line in columns.items()]
  return tuple(line for line in lines if len(line.x) or line.paper)


def _over_rounds(label, runs, x):
  """The mean of a column of metrics.csv, and the paper's number at the last round."""
  del x
  columns = {r.seed: read_column(r, r.cell.metric) for r in runs if r.run}
  table = pd.DataFrame(columns)  # [rounds, seeds]
  last = runs[0].config.rounds
  return Line(
    label,
    x=table.index.to_numpy(float),
    mean=table.mean(axis=1).to_numpy(float),
    std=table.std(axis=1, ddof=1).to_numpy(float),
    paper=_paper({last: runs[0].cell}),
  )


def _over_field(label, runs, x):
  """The mean of the last round's value at each value of a field of the config."""
  at: dict = {}
  for run in runs:
    at.setdefault(getattr(run.config, x), []).append(run)
  places = sorted(at)
  values = [over_seeds([measured(r) for r in at[place]]) for place in places]
  mean, std = np.array(values, float).T
  known = np.isfinite(mean)
  return Line(
    label,
    x=np.array(places, float)[known],
    mean=mean[known],
    std=std[known],
    paper=_paper({place: at[place][0].cell for place in places}),
  )


def _paper(cells):
  """(x, y, bound) of the cells with a number; y as a fraction."""
  return tuple(
    (float(x), cell.reported / _scale(cell), cell.bound)
    for x, cell in cells.items()
    if cell.reported is not None
  )


def _scale(cell):
  return 100 if cell.unit == "percent" else 1
