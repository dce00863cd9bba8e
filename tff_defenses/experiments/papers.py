"""The papers' tables and figures as data: each printed number with its setting.

One JSON file a table or figure in `paper_numbers/`. A file holds

  columns: printed name -> settings of the runs in that column, and perhaps `note`,
    `ours` (why a column that the paper does not print is there), `reading_of` (the
    printed column that it reads in another way), `variant` (true: run only on request)
    or `metrics` (the only ones that the column has);
  rows: `label`, `preset`, `settings`, `metric` (a name, or column -> name), numbers as
    printed, `reported_percent`, `reported_fraction`, `reported_seconds` or
    `reported_loss` (column -> number, or {"above": number} or {"below": number} where
    the text gives a bound), and perhaps `note`, `comparable`, `variant`, `reading_of`,
    `columns`, `unit` and `readings`: the same row under other `settings`;
  bands: metric, or the `band` that a row names -> `within`: how far from a printed
    number we still call it reproduced, `within_at_zero`, `step` (a number printed above
    `within_at_zero` and up to `within` must not be met by zero: its band ends a step
    short of it),
    `columns` (column -> within, whatever `step` says) and the `reason`; chosen before
    the runs, and since then only ever narrowed.

Nothing here is code, and no measurement is ever written back.

References: FLARE Sec. 6.1, 7; FL-PLAS Sec. 5.1, 6, 7, Appendix A.
"""

import dataclasses
import functools
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tff_defenses.experiments import names as names_lib
from tff_defenses.experiments import paper_checks
from tff_defenses.experiments.errors import fault_list

PAPER_NAMES = {"flare": "FLARE", "fl_plas": "FL-PLAS"}  # key -> as written
_SCALES = {"percent": 1, "fraction": 100, "seconds": 1, "loss": 1}
_UNITS = {"fraction": "percent"}  # how a printed unit is shown; others as printed
_NOT_SETTINGS = ("note", "ours", "reading_of", "variant", "metrics")


class PaperError(ValueError):
  """A file of paper numbers is wrong; the message names file and cell."""


@dataclasses.dataclass(frozen=True)
class Cell:
  """One number of a paper, or one of ours beside it, and the run that measures it.

  Attributes:
    table: Name of the table, such as "flare:table3".
    row, column: Labels as printed.
    metric: Key of a run's values.
    unit: Of `reported` and `band`: "percent", "seconds", "bytes" or "loss".
    reported: None: the paper prints no number.
    band: |ours - reported| <= band is reproduced.
    comparable: Whether a verdict makes sense.
    note: Why not, or what differs.
    preset: Base settings, a key of `PRESETS`.
    settings: Replace the preset's.
    bound: "above" or "below": the text says that the value lies there, within `band`
      of `reported`; None: the number itself is printed.
    variant: Its reading's name, if it is run only on request.
    reading_of: The printed row or column that this one reads in another way.
  """

  table: str
  row: str
  column: str
  metric: str
  unit: str
  reported: float | None
  band: float | None
  comparable: bool
  note: str
  preset: str
  settings: Mapping[str, Any]
  bound: str | None = None
  variant: str | None = None
  reading_of: str | None = None

  def holds(self, value: float) -> bool | None:
    """Whether `value`, in `unit`, reproduces the cell; None: nothing to compare with.

    >>> cell = Cell("t", "r", "c", "accuracy", "percent", 80.0, 20.0, True, "", "toy",
    ...             {}, bound="above")
    >>> cell.holds(93.0), cell.holds(79.0)
    (True, False)
    """
    if self.reported is None or not self.comparable:
      return None
    difference = value - self.reported
    if self.bound == "above" and difference < 0:
      return False
    if self.bound == "below" and difference > 0:
      return False
    return abs(difference) <= self.band + 1e-9


@dataclasses.dataclass(frozen=True)
class PaperTable:
  """A table or figure of a paper.

  Attributes:
    name: Such as "flare:table3".
    paper: "flare" or "fl_plas".
    title, anchor: What it shows, and where it stands.
    kind: "table" or "figure".
    paper_runs: Runs that the paper averages; None: not stated.
    unstated: What the paper does not say, a sentence each.
    deviations: Where we depart from it, or it from itself.
    cells: Row by row.
    x: Of figures of curves: "round", or a field of the config.
    variants: Readings that are run on request only: name -> what it changes.
    not_comparable: Why some printed values cannot be compared, a text each.
  """

  name: str
  paper: str
  title: str
  anchor: str
  kind: str
  paper_runs: int | None
  unstated: tuple[str, ...]
  deviations: tuple[str, ...]
  cells: tuple[Cell, ...]
  x: str | None
  variants: Mapping[str, str]
  not_comparable: tuple[str, ...]


def names() -> list[str]:
  """Names of all tables and figures, FLARE's first.

  Raises:
    PaperError: a file's name begins with no known paper.
  """
  files = (f.name for f in _folder().iterdir() if f.name.endswith(".json"))
  return sorted(map(_name_of, files), key=_natural_order)


@functools.cache
def load(name: str) -> PaperTable:
  """A table or figure.

  Raises:
    ValueError: no such table; names the nearest. PaperError: its file is wrong.
  """
  names_lib.check_known("papers", "name", name, names())
  file = f"{name.replace(':', '_')}.json"
  try:
    content = json.loads((_folder() / file).read_text(encoding="utf-8"))
  except ValueError as error:
    raise PaperError(f"papers: {file} must be JSON, got: {error}.") from error
  if content.get("name") != name:
    raise PaperError(f"papers: {file} must have `name` {name!r}.")
  return parse(content, file)


def parse(content: Mapping[str, Any], file: str) -> PaperTable:
  """The table that the content of a file describes.

  Args:
    content: As the module says.
    file: Named in messages.

  Raises:
    PaperError: the content is wrong; names file, row and column.
  """
  faults = paper_checks.faults(content, tuple(PAPER_NAMES), _NOT_SETTINGS, _SCALES)
  if faults:
    raise PaperError(f"papers: {file} has {fault_list(faults)}")
  rows = list(_with_readings(content["rows"]))
  cells = tuple(cell for row in rows for cell in _cells(content, row))
  apart = (
    row["note"]
    for row in content["rows"]
    if not row.get("comparable", True) and any(f"reported_{u}" in row for u in _SCALES)
  )
  plain = ("name", "paper", "title", "anchor", "kind", "paper_runs", "x")
  return PaperTable(
    **{key: content[key] for key in plain},
    unstated=tuple(content["unstated"]),
    deviations=tuple(content["deviations"]),
    cells=cells,
    variants=_variants(content, rows, cells),
    not_comparable=tuple(dict.fromkeys(apart)),
  )


def _variants(content, rows, cells) -> dict[str, str]:
  notes = {r["variant"]: r.get("note", "") for r in rows if r.get("variant")}
  notes |= {name: c.get("note", "") for name, c in content["columns"].items()}
  return {c.variant: notes[c.variant] for c in cells if c.variant is not None}


def _with_readings(rows) -> Iterator[dict]:
  """Each row, followed by the same under other settings."""
  for row in rows:
    yield row
    for reading in row.get("readings", ()):
      yield {
        **row,
        "label": f"{row['label']} [{reading['label']}]",
        "settings": _merged(row.get("settings", {}), reading["settings"]),
        "note": reading["note"],
        "variant": reading["label"],
        "reading_of": row["label"],
      }


def _cells(content, row) -> Iterator[Cell]:
  columns = content["columns"]
  for name in row.get("columns", columns):
    column = columns[name]
    metric = _by_column(row["metric"], name)
    if metric is None or metric not in column.get("metrics", [metric]):
      continue
    if row.get("variant") and column.get("variant"):  # one change at a time
      continue
    reported, unit, bound = _reported(row, column.get("reading_of", name))
    settings = {k: v for k, v in column.items() if k not in _NOT_SETTINGS}
    notes = (row.get("note"), column.get("ours"), column.get("note"))
    yield Cell(
      table=content["name"],
      row=row["label"],
      column=name,
      metric=metric,
      unit=unit,
      reported=reported,
      band=_band(content["bands"], row, metric, column, name, reported, bound, unit),
      comparable=row.get("comparable", True),
      note=" ".join(dict.fromkeys(filter(None, notes))),
      preset=row["preset"],
      settings=_merged(row.get("settings", {}), settings),
      bound=bound,
      variant=row.get("variant") or (name if column.get("variant") else None),
      reading_of=row.get("reading_of", column.get("reading_of")),
    )


def _reported(row, column):
  """(value, unit, bound) of a cell, fractions as percent."""
  for printed, scale in _SCALES.items():
    values = row.get(f"reported_{printed}")
    if values is not None:
      value, bound = values.get(column), None
      if isinstance(value, Mapping):
        ((bound, value),) = value.items()
      unit = _UNITS.get(printed, printed)
      return None if value is None else round(scale * value, 9), unit, bound
  return None, row.get("unit", "percent"), None


def _band(bands, row, metric, column, name, reported, bound, unit):
  """How far from the printed number is near enough; None without one."""
  if reported is None:
    return None
  if bound is not None:  # as far as the scale goes
    return 100.0 - reported if bound == "above" and unit == "percent" else reported
  band = bands[row.get("band", metric)]
  printed = column.get("reading_of", name)
  if printed in band.get("columns", {}):
    return float(band["columns"][printed])
  if reported == 0:
    return float(band.get("within_at_zero", band["within"]))
  # An attack that never works must not pass for one that worked a little.
  short_of_none = reported - band.get("step", 0)
  is_small = "step" in band and band["within_at_zero"] < reported <= band["within"]
  return float(short_of_none if is_small else band["within"])


def _by_column(value, column):
  return value.get(column) if isinstance(value, Mapping) else value


def _merged(first, second):
  """Settings of both; those of attack and defense are merged one by one."""
  merged = {**first, **second}
  for name in ("attack_settings", "defense_settings"):
    if name in first and name in second:
      merged[name] = {**first[name], **second[name]}
  return merged


def _folder():
  return importlib.resources.files("tff_defenses.experiments") / "paper_numbers"


def _name_of(file):
  paper = next((p for p in PAPER_NAMES if file.startswith(f"{p}_")), None)
  if paper is None:
    raise PaperError(
      f"papers: {file} must begin with a paper and `_`, one of "
      f"{', '.join(PAPER_NAMES)}. For another paper add a line to `papers.PAPER_NAMES`."
    )
  return f"{paper}:{file[len(paper) + 1 :].removesuffix('.json')}"


def _natural_order(name):
  """FLARE before FL-PLAS, tables before figures, fig4 before fig10."""
  paper, _, rest = name.partition(":")
  parts = re.split(r"(\d+)", rest)
  kind = ("table", "fig").index(parts[0]) if parts[0] in ("table", "fig") else 2
  numbers = [int(p) if p.isdigit() else p for p in parts[1:]]
  return list(PAPER_NAMES).index(paper), kind, numbers or [0], rest
