"""A scorecard, or a plain grid of runs, as a document."""

import collections
import math
import os
import pathlib
from collections.abc import Sequence

from tff_defenses.experiments import (
  comparisons,
  grid_scores,
  run_faults,
  run_values,
  scorecard,
  start_scores,
  statistics,
  verdicts,
)
from tff_defenses.experiments.report_document import Document, Entry, Lines, Table

_MARKS = {
  verdicts.REPRODUCED: "=",
  verdicts.OFF: "x",
  verdicts.NOT_COMPARABLE: "~",
  verdicts.NO_PAPER_VALUE: "",
  verdicts.FAILED: "failed",
  verdicts.RUNNING: "...",
  verdicts.MISSING: "",
}
_STARTS = "Before round 1"
_OWN_DEFENSES = ("flare", "fl_plas")


def of_scorecard(card: scorecard.Scorecard) -> Document:
  """Counts, table, tests, starts, every cell, its notes, and what is unstated."""
  table = card.plan.table
  tests = comparisons.against(table.paper, card.printed)  # one reading, one test
  listed, notes = _long_list(card.scores)
  blocks = (
    _lines("Problems", card.faults),
    as_printed(card),
    _tests(f"Against {table.paper}", tests),
    _lines(_STARTS, start_scores.of(card.runs)),
    listed,
    _lines("Notes", [f"[{i}] {note}" for i, note in enumerate(notes, start=1)]),
    _lines("Not stated in the paper", table.unstated),
    _lines("Deviations", table.deviations),
  )
  return Document(
    f"{table.name}: {table.title}",
    card.label,
    tuple(_lead(card)),
    tuple(block for block in blocks if block is not None),
    figures(card.plan.output_dir, card.runs),
  )


def of_grid(
  output_dir: str | os.PathLike,
  runs: Sequence[run_values.RunValues],
  faults: Sequence[str],
) -> tuple[Document, list[scorecard.CellScore]]:
  """Runs without a plan, grouped over seeds; with the document, its cells."""
  rows, scores = [], []
  for names, group in grid_scores.groups(runs):
    found = grid_scores.scores(names, group)
    scores += found
    values = {s.cell.metric: s.ours for s in found}
    rows.append(names | _runs_column(group) | values)
  errors = [f"{run.folder.name}: {run.error}" for run in runs if run.error]
  tests = [c for own in _OWN_DEFENSES for c in comparisons.against(own, scores)]
  blocks = (
    _lines("Problems", [*faults, *run_faults.of(runs)]),
    _grid_table(rows),
    _lines(_STARTS, start_scores.of(runs)),
    _lines("Failed runs", errors),
    _tests("Paired by seed", tests),
  )
  done = sum(run.status == run_values.DONE for run in runs)
  lead = f"{len(runs)} run(s), {done} done. Mean ± standard deviation over seeds."
  title = f"Runs in {pathlib.Path(output_dir).expanduser().resolve().name}"
  found = tuple(block for block in blocks if block is not None)
  return Document(title, "", (lead,), found, figures(output_dir, runs)), scores


def figures(
  output_dir: str | os.PathLike, runs: Sequence[run_values.RunValues]
) -> tuple[tuple[str, pathlib.Path], ...]:
  """(caption, file) of the folder's figures, then of each run's."""
  output = pathlib.Path(output_dir).expanduser()
  found = {f: f.stem for f in sorted((output / "figures").glob("*.png"))}
  for run in runs:
    for file in sorted((run.folder / "figures").glob("*.png")):
      found.setdefault(file, f"{run.folder.name}: {file.stem}")
  return tuple((caption, file) for file, caption in found.items())


def _lead(card):
  table, plan = card.plan.table, card.plan
  partial = sum(s.is_verdict and not s.is_complete for s in card.printed)
  waiting = f" {partial} verdict(s) rest on fewer seeds than wanted." if partial else ""
  total = len(card.printed)
  yield f"{total} cell{'s' * (total != 1)}: {_counts(card, card.printed)}.{waiting}"
  if card.readings:
    yield (
      f"{len(card.readings)} more read printed cells in another way: "
      f"{_counts(card, card.readings)}."
    )
  runs = table.paper_runs
  said = "the paper does not say how many" if runs is None else f"the paper's {runs}"
  seeds = ", ".join(map(str, plan.seeds))
  yield f"{table.anchor}. Runs behind a number: {said}; our seeds {seeds}."
  if plan.from_scratch:
    yield "Started from scratch, not from the pre-trained model."


def _counts(card, scores):
  found = scorecard.counts(scores)
  return ", ".join(f"{n} {card.word(kind)}" for kind, n in found.items()) or "none"


def as_printed(card):
  """The paper's rows and columns, "paper | ours" in each."""
  places = collections.Counter((s.cell.row, s.cell.column) for s in card.scores)
  several = max(places.values(), default=0) > 1
  grid, columns = collections.defaultdict(dict), {}
  for score in card.scores:
    label = score.cell.row + (f", {score.cell.metric}" if several else "")
    if score.cell.unit != "percent":
      label += f" [{score.unit}]"
    text = f"{score.reported} | {score.ours}"
    if score.mean != score.mean and score.cell.reported is None:
      text = "-"
    mark = _MARKS[score.kind]
    grid[label][score.cell.column] = Entry(text, score.kind, mark, score.verdict)
    columns[score.cell.column] = None
  rows = tuple(
    (label, *(row.get(c, "") for c in columns)) for label, row in grid.items()
  )
  words = {k: _LEGEND.get(k, card.word(k)) for k in scorecard.counts(card.scores)}
  marked = [k for k, word in words.items() if _MARKS[k] not in ("", word)]
  marks = "; ".join(f"{_MARKS[k]} {words[k]}" for k in marked)
  legend = "paper | ours, mean ± standard deviation over seeds, in % unless stated."
  title = "Paper and ours" + (f" ({card.label})" if card.label else "")
  return Table(title, ("", *columns), rows, legend, f"{marks}." if marks else "")


_LEGEND = {
  verdicts.REPRODUCED: "within the band",
  verdicts.OFF: "outside the band",
}


def _long_list(scores):
  """Every cell with all columns; and the notes that it numbers."""
  notes, rows = {}, []
  for s in scores:
    numbers = [notes.setdefault(d, len(notes) + 1) for d in s.details]
    rows.append(
      (
        *(f"{s.cell.row} [{s.cell.metric}, {s.unit}]", s.cell.column, s.reported),
        *(s.shown(s.mean), s.shown(s.std), s.seeds),
        *(s.shown(s.difference, sign=True), s.shown(s.cell.band)),
        Entry(s.verdict, s.kind),
        ", ".join(map(str, numbers)),
      )
    )
  header = ("row", "column", "paper", "ours", "std", "seeds", "diff.", "band")
  header += ("verdict", "notes")
  more = {"labels": 2, "is_grouped": True, "is_list": True}
  return Table("Every cell", header, tuple(rows), **more), notes


def _tests(title, tests):
  if not tests:
    return None
  rows = []
  for c in tests:
    s, t = c.own, c.test
    rows.append(
      (
        f"{s.cell.row} [{s.cell.metric}, {s.unit}]",
        *(f"{s.cell.column} - {c.other.cell.column}", str(t.count)),
        *(s.shown(t.mean, sign=True), s.shown(t.std)),
        *(_p(t.p_t), _p(t.p_exact), c.outcome),
      )
    )
  header = ("row", "pair", "n", "mean diff.", "std", "p (t-test)", "p (exact)")
  header += ("outcome",)
  more = {"labels": 2, "is_grouped": True}
  return Table(title, header, tuple(rows), statistics.CAUTION, **more)


def _p(value):
  return "-" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _runs_column(group):
  """How many runs are done, and what the others do."""
  found = collections.Counter(run.status for run in group)
  order = (run_values.RUNNING, run_values.FAILED, run_values.LEFT)
  others = ", ".join(f"{found[status]} {status}" for status in order if found[status])
  return {"seeds": f"{found[run_values.DONE]}" + (f" ({others})" if others else "")}


def _grid_table(rows):
  names = list(dict.fromkeys(name for row in rows for name in row))
  if all(row["reduced"] == "no" for row in rows):
    names.remove("reduced")
  metrics = [m for m in grid_scores.METRICS if m in names]
  names = [n for n in names if n not in metrics and any(r.get(n) != "-" for r in rows)]
  header = (*names, *(grid_scores.METRICS[m][1] for m in metrics))
  body = tuple(tuple(row.get(n, "-") for n in (*names, *metrics)) for row in rows)
  return Table("Runs", header, body, labels=names.index("seeds"))


def _lines(title, items):
  return Lines(title, tuple(items)) if items else None
