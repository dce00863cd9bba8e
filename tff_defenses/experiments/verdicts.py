"""The verdicts on a cell, in words, and when one is taken back.

A rule under which an attack never succeeds has held only if the attack works: where it
reaches none of the rules that the paper prints as reached, anyone meets a printed 0.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from tff_defenses.experiments.scorecard import CellScore

REPRODUCED, OFF = "reproduced", "off"
NOT_COMPARABLE, NO_PAPER_VALUE = "not comparable", "no paper value"
FAILED, RUNNING, MISSING = "failed", "running", "missing"
KINDS = (
  *(REPRODUCED, OFF, NOT_COMPARABLE, NO_PAPER_VALUE),
  *(FAILED, RUNNING, MISSING),
)
_SUCCESS = ("attack_success_rate", "attack_success_rate_over_rounds")


def word(kind: str, *, is_reduced: bool) -> str:
  """A kind in words: runs at reduced scale reproduce nothing.

  >>> word("reproduced", is_reduced=True)
  'within band (reduced)'
  """
  if is_reduced and kind in (REPRODUCED, OFF):
    return ("within band" if kind == REPRODUCED else kind) + " (reduced)"
  return kind


def without_evidence(scores: "Sequence[CellScore]") -> "tuple[CellScore, ...]":
  """The scores, a printed 0 without a working attack beside it not comparable.

  Args:
    scores: Of all cells that were asked for.
  """
  rows = collections.defaultdict(list)
  for score in scores:
    rows[score.cell.row].append(score)
  return tuple(_checked(score, rows[score.cell.row]) for score in scores)


def _checked(score, row):
  is_zero = score.cell.metric in _SUCCESS and score.cell.reported == 0
  if score.kind != REPRODUCED or not is_zero:
    return score
  if any(_is_reached(other, score.cell.band) for other in row):
    return score
  why = "the attack reached no rule that it should"
  return dataclasses.replace(
    score, kind=NOT_COMPARABLE, verdict=f"{NOT_COMPARABLE} ({why})"
  )


def _is_reached(score, most):
  """Whether the paper lets the attack reach this rule, and in our runs it did."""
  should = score.cell.reported is None or score.cell.reported > most
  return should and score.mean > most  # NaN, without a run, is not
