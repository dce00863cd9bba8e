"""The files of a report: scorecard.csv, .md, .tex and report.html."""

import csv
import io
import math
import pathlib
from collections.abc import Sequence

from tff_defenses.experiments import (
  report,
  report_html,
  report_latex,
  report_markdown,
  scorecard,
  verdicts,
)
from tff_defenses.experiments.errors import writing
from tff_defenses.experiments.whole_files import write_text

COLUMNS = (
  *("table", "row", "column", "dataset", "defense", "attack", "metric", "unit"),
  "reading_of",
  *("reported", "bound", "mean", "std", "seeds_done", "seeds_wanted", "values"),
  *("difference", "band", "scale", "reduced", "kind", "verdict", "notes"),
)


def write_content(content: "report.Content") -> list[pathlib.Path]:
  """Writes a report that has been read into its folder.

  Each file is written whole or not at all, and is the same for the same runs.

  Raises:
    OutputError: the folder cannot be written.
  """
  folder, written = content.folder, texts(content)
  with writing(folder):
    for name, text in written.items():
      write_text(folder / name, text)
  return [folder / name for name in written]


def texts(content: "report.Content") -> dict[str, str]:
  """The files of a report: name -> text."""
  document = content.document
  return {
    "scorecard.csv": long_form(
      content.scores, scale=None if content.plan is None else content.scale
    ),
    "scorecard.md": report_markdown.render(document),
    "scorecard.tex": report_latex.render(document),
    "report.html": report_html.render(document),
  }


def long_form(
  scores: Sequence[scorecard.CellScore], *, scale: float | None = 1.0
) -> str:
  """CSV with a row a cell and `COLUMNS`; numbers unrounded, blank if absent.

  `scale`: of the plan; None: the runs belong to none, and only `reduced` tells.

  `reported`, `mean`, `std`, `difference` and `band` are in `unit`; `values` holds
  seed=value pairs.
  """
  lines = io.StringIO(newline="")
  writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
  writer.writeheader()
  for score in scores:
    writer.writerow(_row(score, scale))
  return lines.getvalue()


def _row(score, scale):
  cell, config = score.cell, score.config
  return {
    **{name: getattr(cell, name) for name in ("table", "row", "column", "metric")},
    **{name: config.get(name, "") for name in ("dataset", "defense", "attack")},
    "unit": cell.unit,
    "reported": _number(cell.reported),
    "bound": cell.bound or "",
    "reading_of": cell.reading_of or "",
    "mean": _number(score.mean),
    "std": _number(score.std),
    "seeds_done": len(score.by_seed),
    "seeds_wanted": len(score.wanted),
    "values": "; ".join(f"{s}={_number(v)}" for s, v in score.by_seed.items()),
    "difference": _number(score.difference),
    "band": _number(cell.band),
    "scale": "" if scale is None else f"{scale:g}",
    "reduced": "yes" if _is_reduced(config, scale) else "no",
    "kind": verdicts.word(score.kind, is_reduced=scale not in (1, None)),
    "verdict": score.verdict,
    "notes": " ".join(score.details),
  }


def _is_reduced(config, scale):
  left_out = (config.get("max_train_images"), config.get("max_test_images"))
  return scale not in (1, None) or left_out != (None, None)


def _number(value):
  """Ten digits: what rounding in binary adds is no measurement."""
  return "" if value is None or math.isnan(value) else f"{value:.10g}"
