"""The papers' figures, drawn from the run folders of a reproduction.

References: FLARE Figs. 1, 4, 6-12; FL-PLAS Figs. 3-8. Tables become charts of dots, the
paper's number beside ours.
"""

import functools
import os
import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import ticker

from tff_defenses.experiments import (
  curve_plots,
  figures,
  paper_series,
  papers,
  plot_style,
  plr_files,
  plr_plots,
)
from tff_defenses.experiments.paper_series import CellRun

_FRACTIONS = (-0.04, 1.04)
_X_LABELS = {
  "aux_size": "auxiliary data points m",
  "malicious_fraction": "malicious clients",
  "num_clients": "clients",
}
_MOST_TICKS = 10  # ours: more values leave no room for a label each
_CLIENTS = "clients.csv"


def file_of(plan, output_dir: str | os.PathLike) -> pathlib.Path:
  """Where `draw` puts the figure."""
  name = plan.table.name.replace(":", "-")
  return pathlib.Path(output_dir).expanduser() / "figures" / f"{name}.png"


def draw(plan, output_dir: str | os.PathLike) -> list[pathlib.Path]:
  """Draws the figure of the plan's table from the runs that are finished.

  Args:
    plan: Of a reproduction: its table, cells, seeds, scale and where its runs lie.
    output_dir: The figure goes to `figures` in it.

  Returns:
    What was written; empty if no run is finished, when an old figure is removed, or
    none holds what the figure shows.
  """
  runs, path = paper_series.collect(plan), file_of(plan, output_dir)
  if not any(run.run for run in runs):
    path.unlink(missing_ok=True)
    return []
  by_x = _dots if plan.table.x is None else _curves
  draws, options = _SPECIAL.get(plan.table.name, by_x)(plan, runs)
  if not draws:
    return []
  text = {"title": _title(plan), "note": _note(plan, runs)}
  return [plot_style.compose(draws, path, **{**text, **options})]


def _title(plan):
  table = plan.table
  title = f"{papers.PAPER_NAMES[table.paper]}, {table.anchor}: {table.title}"
  return title if plan.scale == 1 else f"{title} (reduced scale {plan.scale:g})"


def _note(plan, runs):
  """How many seeds, and what is missing."""
  folders = {run.config.output_dir: run.run for run in runs}
  missing = sum(run is None for run in folders.values())
  wanted, measured = len(plan.seeds), len({run.seed for run in runs if run.run})
  few = f"{measured} of " * (measured < wanted)
  parts = [f"{few}{wanted} seed{'s' * (wanted > 1)}"]
  if measured > 1 and plan.table.name not in _OF_ONE_SEED:
    parts.append("spread: one standard deviation")
  if missing:
    parts.append(f"runs missing: {missing} of {len(folders)}")
  return f"{'; '.join(parts)}."


def _curves(plan, runs):
  """Lines over rounds, or over a field of the config."""
  panels = paper_series.panels(runs, plan.table.x)
  labels = [line.label for panel in panels for line in panel.lines]
  numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
  draws = [functools.partial(_draw_panel, panel, numbers, plan) for panel in panels]
  return draws, {}


def _draw_panel(panel, numbers, plan, axes):
  curve_plots.draw_lines(axes, panel.lines, numbers=numbers)
  axes.set_title(textwrap.fill(panel.title, 44), fontsize=10)
  axes.set_ylabel(paper_series.LABELS.get(panel.metric, panel.metric))
  if panel.unit == "percent":
    axes.set_ylim(*_FRACTIONS)
  else:
    axes.set_ylim(bottom=0)
  x, places = plan.table.x, [np.append(line.x, _paper_x(line)) for line in panel.lines]
  places = np.concatenate(places) if places else np.zeros(1)
  if x == "round":
    plot_style.round_axis(axes, places.min(), places.max())
    return
  axes.set_xlabel(_X_LABELS.get(x, x.replace("_", " ")))
  if x.endswith("_fraction"):
    axes.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
  if len(np.unique(places)) <= _MOST_TICKS:
    axes.set_xticks(np.unique(places))


def _paper_x(line):
  return [x for x, _, _ in line.paper]


def _dots(plan, runs):
  """A panel a row of the table, a place a column."""
  rows: dict = {}
  for run in runs:
    rows.setdefault((run.cell.row, run.cell.unit), []).append(run)
  shown = [
    (key, group)
    for key, group in rows.items()
    if any(paper_series.measured(run) is not None for run in group)
  ]
  widest = max((len({r.cell.column for r in group}) for _, group in shown), default=0)
  inches = 2.2 + 0.3 * widest
  letters = int(13 * inches)  # of a title, beside the next panel's
  draws = [functools.partial(_draw_row, *key, group, letters) for key, group in shown]
  return draws, {"size": (inches, 3.2)}


def _draw_row(row, unit, runs, letters, axes):
  columns: dict = {}
  for run in runs:
    columns.setdefault(run.cell.column, []).append(run)
  cells = [group[0].cell for group in columns.values()]
  factor = 100 if unit == "percent" else 1
  ours = [
    paper_series.over_seeds([paper_series.measured(run) for run in group])
    for group in columns.values()
  ]
  mean, std = factor * np.array(ours, float).T
  paper = [None if c.reported is None else (c.reported, c.bound) for c in cells]
  curve_plots.draw_dots(axes, list(columns), paper=paper, mean=mean, std=std)
  axes.set_title(textwrap.fill(row, min(letters, 46)), fontsize=9)
  metrics = {cell.metric for cell in cells}
  named = paper_series.LABELS.get(cells[0].metric, cells[0].metric.replace("_", " "))
  axes.set_ylabel(f"{named}\n({unit})" if len(metrics) == 1 else unit, fontsize=8)
  if unit == "percent":
    axes.set_ylim(*(100 * bound for bound in _FRACTIONS))
  else:
    axes.set_ylim(bottom=0)


def _motivation(plan, runs):
  """FLARE Fig. 1: (a) PLRs of three classes, (b) averaged MMD."""
  scatters, _ = _scatters(plan, runs)
  boxes: dict = {}
  for run in _once(runs):
    mmd = figures.read_mmd(run.run.folder)
    if mmd is not None:
      average = plr_plots.averaged_mmd(mmd[0])
      benign, malicious = boxes.setdefault(run.cell.row, ([], []))
      benign.append(average[~mmd[1]])
      malicious.append(average[mmd[1]])
  if not boxes:
    return scatters, {}
  joined = {
    textwrap.fill(row, 30): tuple(np.concatenate(parts) for parts in groups)
    for row, groups in boxes.items()
  }
  return [*scatters[:1], functools.partial(_draw_averaged_mmd, joined)], _WITH_PLRS


def _draw_averaged_mmd(groups, axes):
  plr_plots.draw_boxes(axes, groups)
  axes.set_title("averaged MMD, last round, all seeds", fontsize=10)
  axes.set_ylabel("mean MMD to the other clients' PLRs")


def _data_points(plan, runs):
  """FLARE Fig. 4: PLRs of single data points, and how far they lie apart."""
  draws = [
    functools.partial(_draw_plrs, draw_in, *each)
    for each in _first_of_each_row(runs)
    for draw_in in (plr_plots.draw_data_points, plr_plots.draw_inter_distances)
  ]
  return draws, {**_WITH_PLRS, "columns": 2}


def _scatters(plan, runs):
  """FLARE Figs. 6, 10: a panel for each data set and attack, the first seed's."""
  draws = [
    functools.partial(_draw_plrs, plr_plots.draw_scatter, *each)
    for each in _first_of_each_row(runs)
  ]
  return draws, _WITH_PLRS


def _draw_plrs(draw_in, run, plrs, axes):
  draw_in(axes, plrs, seed=run.seed)
  title = f"{paper_series.panel_title([run])}, seed {run.seed}, round {plrs.round}"
  axes.set_title(textwrap.fill(title, 60), fontsize=10)


def _first_of_each_row(runs):
  """The first run of each row that has representations, and these."""
  shown: dict = {}
  for run in _once(runs):
    if run.cell.row not in shown:
      plrs = plr_files.read(run.run.folder)
      if plrs is not None:
        shown[run.cell.row] = run, plrs
  return list(shown.values())


def _once(runs: Sequence[CellRun]) -> list[CellRun]:
  """Each finished run once, though several cells are read from it."""
  finished = {run.config.output_dir: run for run in reversed(runs) if run.run}
  return list(finished.values())[::-1]


def _adaptive(plan, runs):
  """FLARE Fig. 12: (a) confidence over rounds, (b) flags in each round."""
  shown = [run for run in runs if run.cell.metric == "target_confidence"]
  draws, options = _curves(plan, shown)
  first: dict = {}
  for run in _once(shown):
    if run.config.defense == "flare" and not run.cell.variant:
      first.setdefault(run.cell.column, run)
  told = [run for run in first.values() if (run.run.folder / _CLIENTS).exists()]
  flags = [functools.partial(_draw_flags, run, _flags(run)) for run in told]
  if len(told) < len(first):
    note = f"{_note(plan, runs)} Flags are drawn where a run's {_CLIENTS} is at hand."
    options = {**options, "note": note}
  return [*draws, *flags], options


def _flags(run):
  """Detected: every malicious client's trust is below average (Sec. 7.4).

  FLARE selects nobody, so `detection.flagged` has marked those in clients.csv.
  """
  clients = pd.read_csv(run.run.folder / _CLIENTS)
  detected = clients[clients["malicious"]].groupby("round")["flagged"].all()
  success = paper_series.read_column(run, "attack_success_rate")
  return {
    "detected\n(trust below\naverage)": (detected.index, detected.to_numpy()),
    "misclassified\n(ASR > 0)": (success.index, success.to_numpy() > 0),
  }


def _draw_flags(run, flags, axes):
  plr_plots.draw_flags(axes, flags)
  axes.set_title(f"{run.cell.column}: flags of seed {run.seed}", fontsize=10)


_OF_ONE_SEED = ("flare:fig1", "flare:fig4", "flare:fig6", "flare:fig10")
_WITH_PLRS = {"size": (5.6, 5.2)}
_SPECIAL = {
  "flare:fig1": _motivation,
  "flare:fig4": _data_points,
  "flare:fig6": _scatters,
  "flare:fig10": _scatters,
  "flare:fig12": _adaptive,
}
