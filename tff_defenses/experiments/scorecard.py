"""The paper's numbers beside ours, cell by cell, with a verdict for each.

A verdict compares the mean over seeds with the printed value; the band within which we
call a cell reproduced was chosen with the paper's number, before any run. A plan at
reduced scale never says "reproduced".
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tff_defenses.experiments import (
  report_numbers,
  run_faults,
  run_values,
  verdicts,
)

if TYPE_CHECKING:  # for annotations; whoever has a plan has imported it
  from tff_defenses.experiments.papers import Cell
  from tff_defenses.experiments.reproduction import Plan


@dataclasses.dataclass(frozen=True)
class CellScore:
  """One cell, with what our runs say about it.

  Args:
    cell: Of the paper's table.
    config: Settings of the cell's runs, whatever the seed.
    by_seed: seed -> measured value in the cell's unit.
    wanted: Seeds that the plan asks for.
    kind: One of `verdicts.KINDS`.
    verdict: The kind in words, with its numbers.
    details: What else is to be known: errors, further seeds, the cell's note; a
      sentence each.
  """

  cell: "Cell"
  config: Mapping[str, Any]
  by_seed: Mapping[int, float]
  wanted: tuple[int, ...]
  kind: str
  verdict: str
  details: tuple[str, ...]

  @property
  def mean(self) -> float:
    """Over seeds, in the cell's unit; NaN without a value."""
    return float(np.mean(list(self.by_seed.values()))) if self.by_seed else math.nan

  @property
  def std(self) -> float:
    """Sample standard deviation over seeds; NaN with fewer than two."""
    values = list(self.by_seed.values())
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

  @property
  def difference(self) -> float:
    """Ours minus the paper's; NaN if one of them is absent."""
    reported = self.cell.reported
    return math.nan if reported is None else self.mean - reported

  @property
  def is_verdict(self) -> bool:
    """Whether the paper's number was met or missed."""
    return self.kind in (verdicts.REPRODUCED, verdicts.OFF)

  @property
  def is_complete(self) -> bool:
    """Whether every wanted seed has a value."""
    return set(self.wanted) <= set(self.by_seed)

  @property
  def seeds(self) -> str:
    """Wanted seeds done of seeds wanted, and how many further ones are in the mean."""
    done = len(set(self.wanted) & set(self.by_seed))
    further = len(self.by_seed) - done
    return f"{done}/{len(self.wanted)}" + (f" +{further}" if further else "")

  @property
  def unit(self) -> str:
    """As printed."""
    return report_numbers.unit(self.cell.unit)

  def shown(self, value: float | None, *, sign: bool = False) -> str:
    """A number of this cell, as precise as the paper prints it; "-" if absent."""
    like = self.cell.reported
    return report_numbers.shown(value, self.cell.unit, like=like, sign=sign)

  @property
  def reported(self) -> str:
    """The paper's number, or the bound that its text gives."""
    bound = {"above": "> ", "below": "< "}.get(self.cell.bound, "")
    return bound + self.shown(self.cell.reported)

  @property
  def ours(self) -> str:
    """Mean and, with several seeds, standard deviation."""
    spread = "" if math.isnan(self.std) else f" ± {self.shown(self.std)}"
    return self.shown(self.mean) + spread


@dataclasses.dataclass(frozen=True)
class Scorecard:
  """All cells of a plan.

  Args:
    plan: What was asked for.
    scores: One a cell, in the table's order.
    runs: All runs of the folder.
    faults: Files that could not be read, runs that belong to no cell or to another
      version; a sentence each.
  """

  plan: "Plan"
  scores: tuple[CellScore, ...]
  runs: tuple[run_values.RunValues, ...]
  faults: tuple[str, ...]

  @property
  def is_reduced(self) -> bool:
    """Whether the runs are smaller than the paper's."""
    return self.plan.scale != 1

  @property
  def label(self) -> str:
    """What stands above a reduced card; "" at full scale."""
    if not self.is_reduced:
      return ""
    return f"REDUCED SCALE {self.plan.scale:g}: not a reproduction"

  @property
  def printed(self) -> tuple[CellScore, ...]:
    """The cells but for those that read a printed one in another way."""
    return tuple(score for score in self.scores if score.cell.reading_of is None)

  @property
  def readings(self) -> tuple[CellScore, ...]:
    """The others: to count them would count a printed number twice."""
    return tuple(score for score in self.scores if score.cell.reading_of is not None)

  def word(self, kind: str) -> str:
    """A kind as this card may call it."""
    return verdicts.word(kind, is_reduced=self.is_reduced)


def build(plan: "Plan") -> Scorecard:
  """Scores every cell of the plan by the runs found in its output folder."""
  runs, faults = run_values.read_all(plan.output_dir)
  by_key = collections.defaultdict(list)
  for run in runs:
    by_key[run.key].append(run)
  scores, reduced, known = [], plan.scale != 1, set()
  for cell in plan.table.cells:  # all: another cell may show that an attack works
    config = plan.config_of(cell, plan.seeds[0]).settings()
    known.add(run_values.settings_key(config))
    found = by_key.get(run_values.settings_key(config), [])
    scores.append(score(cell, config, found, wanted=plan.seeds, is_reduced=reduced))
  faults += run_faults.of(runs)
  faults += run_faults.foreign([run for run in runs if run.key not in known])
  asked = plan.cells
  scores = [s for s in verdicts.without_evidence(scores) if s.cell in asked]
  return Scorecard(plan, tuple(scores), tuple(runs), tuple(faults))


def counts(scores: Sequence[CellScore]) -> dict[str, int]:
  """Kind -> number of cells, those that occur."""
  found = collections.Counter(score.kind for score in scores)
  return {kind: found[kind] for kind in verdicts.KINDS if found[kind]}


def score(
  cell: "Cell",
  config: Mapping[str, Any],
  runs: Sequence[run_values.RunValues],
  *,
  wanted: Sequence[int],
  is_reduced: bool = False,
) -> CellScore:
  """Scores one cell by its runs.

  Args:
    cell, config, wanted: See `CellScore`.
    runs: All with these settings, whatever their seed and status.
    is_reduced: Whether they are smaller than the paper's.
  """
  scale = 100.0 if cell.unit == "percent" else 1.0
  by_seed, silent = {}, []
  for run in runs:
    value = run.number(cell.metric)
    if value is not None and run.seed is not None:
      by_seed.setdefault(run.seed, scale * value)
    elif run.status == run_values.DONE:
      silent.append(run)
  open_runs = [r for r in runs if r.seed not in by_seed and r not in silent]
  by_seed = dict(sorted(by_seed.items()))
  draft = CellScore(cell, config, by_seed, tuple(wanted), "", "", ())
  kind, verdict = _verdict(draft, open_runs, is_reduced)
  details = tuple(_details(draft, open_runs, silent))
  return dataclasses.replace(draft, kind=kind, verdict=verdict, details=details)


def _verdict(draft, open_runs, is_reduced):
  """Kind and words."""
  if not draft.by_seed:
    return _verdict_without_value(open_runs)
  if draft.cell.reported is None:
    return verdicts.NO_PAPER_VALUE, verdicts.NO_PAPER_VALUE + _so_far(draft)
  holds = draft.cell.holds(draft.mean)
  if holds is None:
    return verdicts.NOT_COMPARABLE, verdicts.NOT_COMPARABLE + _so_far(draft)
  if holds:
    within = verdicts.word(verdicts.REPRODUCED, is_reduced=is_reduced)
    return verdicts.REPRODUCED, within + _so_far(draft)
  off = draft.shown(draft.difference, sign=True)
  reduced = " (reduced)" if is_reduced else ""
  return verdicts.OFF, f"off by {off}{reduced}{_so_far(draft)}"


def _verdict_without_value(open_runs):
  failed = [r for r in open_runs if r.status == run_values.FAILED]
  running = [r for r in open_runs if r.status == run_values.RUNNING]
  if failed:
    return verdicts.FAILED, verdicts.FAILED
  if running:
    return verdicts.RUNNING, f"running ({_furthest(running)})"
  begun = [r for r in open_runs if r.rounds_done]
  if begun:
    return verdicts.MISSING, f"{verdicts.MISSING} (stopped in {_furthest(begun)})"
  return verdicts.MISSING, verdicts.MISSING


def _furthest(runs):
  run = max(runs, key=lambda run: run.rounds_done)
  return f"round {run.rounds_done} of {run.config.get('rounds', '?')}"


def _so_far(draft):
  """Says so where a verdict rests on fewer seeds than wanted."""
  done = len(set(draft.wanted) & set(draft.by_seed))
  return "" if draft.is_complete else f" ({done} of {len(draft.wanted)} seeds)"


def _details(draft, open_runs, silent):
  for run in open_runs:
    if run.status == run_values.FAILED:
      yield f"seed {run.seed} failed: {_sentence(run.error)}"
  for run in silent:
    yield f"seed {run.seed} is done but measured no {draft.cell.metric}."
  further = sorted(set(draft.by_seed) - set(draft.wanted))
  if further:
    yield f"seeds beyond those asked for are counted: {', '.join(map(str, further))}."
  if draft.cell.note:
    yield _sentence(draft.cell.note)


def _sentence(text):
  text = " ".join(str(text).split())
  return text if text.endswith((".", "!", "?")) else f"{text}."
