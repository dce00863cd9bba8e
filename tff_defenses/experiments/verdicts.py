"""The verdicts on a cell, in words, and when one is taken back.

A rule under which an attack never succeeds has held only if the attack works: where it
reaches none of the rules that the paper prints as reached, anyone meets a number so
small that a model without a backdoor would meet it as well.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tff_defenses.experiments import datasets, presets

if TYPE_CHECKING:
  from tff_defenses.experiments.scorecard import CellScore

REPRODUCED, OFF = "reproduced", "off"
NOT_COMPARABLE, NO_PAPER_VALUE = "not comparable", "no paper value"
FAILED, RUNNING, MISSING = "failed", "running", "missing"
KINDS = (
  *(REPRODUCED, OFF, NOT_COMPARABLE, NO_PAPER_VALUE),
  *(FAILED, RUNNING, MISSING),
)
_SUCCESS = (
  *("attack_success_rate", "attack_success_rate_over_rounds"),
  *("target_confidence", "backdoor_accuracy"),
)


def word(kind: str, *, is_reduced: bool) -> str:
  """A kind in words: runs at reduced scale reproduce nothing.

  >>> word("reproduced", is_reduced=True)
  'within band (reduced)'
  """
  if is_reduced and kind in (REPRODUCED, OFF):
    return ("within band" if kind == REPRODUCED else kind) + " (reduced)"
  return kind


def without_evidence(scores: "Sequence[CellScore]") -> "tuple[CellScore, ...]":
  """The scores; a hold without a working attack beside it is not comparable.

  Args:
    scores: Of all cells that were asked for.
  """
  rows = collections.defaultdict(list)
  for score in scores:
    rows[score.cell.row].append(score)
  return tuple(_checked(score, rows[score.cell.row]) for score in scores)


def _checked(score, row):
  """The score, taken back if a clean model would do and no success was seen beside."""
  cell = score.cell
  is_hold = cell.metric in _SUCCESS and any(map(cell.holds, _of_a_clean_model(cell)))
  if score.kind != REPRODUCED or not is_hold:
    return score
  most = cell.reported + (cell.band if cell.bound is None else 0.0)  # of a hold
  others = [other for other in row if _should_be_reached(other, most)]
  if any(other.mean > most for other in others):  # NaN, without a run, is not
    return score
  was_run = any(other.by_seed for other in others)
  did = "reached no rule that it should" if was_run else "was run on no rule to reach"
  return dataclasses.replace(
    score, kind=NOT_COMPARABLE, verdict=f"{NOT_COMPARABLE} (the attack {did})"
  )


def _of_a_clean_model(cell) -> tuple[float, ...]:
  """What no success at all is, in %.

  FL-PLAS counts triggered images of the target class among the successes, 1 in c; where
  an attack has images of its own, none is of that class.
  """
  if cell.metric != "backdoor_accuracy":
    return (0.0,)
  dataset = {**presets.PRESETS[cell.preset], **cell.settings}["dataset"]
  return 0.0, 100.0 / datasets.DATASETS[dataset].num_classes


def _should_be_reached(score, most):
  """Whether the paper lets the attack reach this rule, or does not say."""
  reported = score.cell.reported
  return reported is None or reported > most
