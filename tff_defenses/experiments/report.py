"""Reports of finished and unfinished runs; percent only here."""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from tff_defenses.experiments import (
  grid_scores,
  report_text,
  run_values,
  scorecard,
  scorecard_document,
)
from tff_defenses.experiments.errors import OutputError
from tff_defenses.experiments.report_document import Document

_PERCENT = {
  name: column
  for name, (unit, column) in grid_scores.METRICS.items()
  if unit == "percent"
}
_WIDTH = 100  # where there is no terminal


@dataclasses.dataclass(frozen=True)
class Content:
  """What a folder has to report.

  Args:
    folder: Where the runs are.
    document: For people.
    scores: Every cell, for programs.
    scale: Of the plan; 1 for a grid of runs without one.
    plan: Of `--reproduce`; None for a grid.
  """

  folder: pathlib.Path
  document: Document
  scores: tuple[scorecard.CellScore, ...]
  scale: float = 1.0
  plan: Any = None


def render(content: Content, *, width: int | None = None) -> str:
  """A report that has been read, for the terminal.

  Args:
    content: Made by `read`.
    width: None: the terminal's.
  """
  width = width or shutil.get_terminal_size((_WIDTH, 24)).columns
  return report_text.render(content.document, width=width)


def read(output_dir: str | os.PathLike, plan: Any = None) -> Content:
  """Reads all runs below a folder, finished or not.

  Args:
    output_dir: Of `--reproduce` (it holds plan.json), of a grid, or of one run.
    plan: Which cells to show; None: all of the folder's own plan.

  Raises:
    OutputError: there is no such folder, or no run in it.
  """
  folder = pathlib.Path(output_dir).expanduser()
  if not folder.is_dir():
    raise OutputError(
      f"report: `output_dir` must be a folder with runs, got {folder}, which "
      f"{'is none' if folder.exists() else 'does not exist'}. Give the `--output_dir` "
      "of earlier runs."
    )
  faults = []
  plan = plan or _plan(folder, faults)
  if plan is not None:
    card = scorecard.build(plan)
    document = scorecard_document.of_scorecard(card)
    return Content(folder, document, card.scores, plan.scale, plan)
  for inner in run_values.find(folder, "plan.json"):
    if inner != folder:
      faults.append(f"{inner} has a scorecard of its own: report that folder.")
  runs, unreadable = run_values.read_all(folder)
  if not runs:
    raise OutputError(
      f"report: `output_dir` must hold runs, got {folder} without any. "
      + " ".join([*faults, *unreadable] or ["Run some there first."])
    )
  document, scores = scorecard_document.of_grid(folder, runs, [*faults, *unreadable])
  return Content(folder, document, tuple(scores))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """An aligned table of runs for the terminal; columns that nobody filled are left out.

  Args:
    rows: Mappings with the columns to show; the keys of `summary.json` that are
      fractions are printed in percent, None and what a row lacks as "-".
  """
  names = list(dict.fromkeys(name for row in rows for name in row))
  columns = {name: [_entry(name, row.get(name)) for row in rows] for name in names}
  filled = {n: c for n, c in columns.items() if any(entry != "-" for entry in c)}
  lines = list(zip(*filled.values(), strict=True))
  return report_text.aligned([_PERCENT.get(name, name) for name in filled], lines)


def _entry(name, value):
  if value is None or value != value:
    return "-"
  if name in _PERCENT:
    return f"{100 * value:.1f}"
  if name.startswith("seconds"):
    return f"{value:.1f}"
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plan(folder, faults):
  """The plan in a folder, or None; a damaged one becomes a fault, not an end."""
  if not (folder / "plan.json").exists():
    return None
  from tff_defenses.experiments import reproduction  # here: a grid needs none of it

  try:
    return reproduction.read(folder)
  except (OutputError, ValueError) as error:
    faults.append(f"{folder / 'plan.json'} cannot be used: {error}")
    return None
