"""The verdicts on a cell, in words, and when one is taken back.

A rule under which an attack never succeeds has held only if the attack works: where it
reaches none of the rules that the paper prints as reached, anyone meets a number so
small that a model without a backdoor would meet it as well.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tff_defenses import aggregators
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
  *("attack_success_rate", "attack_success_rate_over_rounds", "target_confidence"),
  *("backdoor_accuracy_nontarget", "backdoor_accuracy_malicious"),
)
_COUNTS_TARGET_CLASS = "backdoor_accuracy"  # and names that end so


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
    scores: Of all cells of a table.
  """
  rows = collections.defaultdict(list)
  for score in scores:
    rows[_attack_of(score.cell)].append(score)
  return tuple(_checked(score, rows[_attack_of(score.cell)]) for score in scores)


def _attack_of(cell) -> str:
  """What cells under one attack have in common.

  A model put together from two is one run with several rows.
  """
  if cell.metric.startswith("swap_"):
    return f"{cell.preset} {sorted(cell.settings.items())}"
  return cell.row


def _checked(score, row):
  """The score, taken back if a clean model would do and no success was seen beside."""
  cell = score.cell
  if score.kind != REPRODUCED or not _is_hold(cell):
    return score
  most = cell.reported + (cell.band if cell.bound is None else 0.0)  # of a hold
  found = [_in_seeds_of(score, o) for o in row if _should_be_reached(o.cell, most)]
  if any(values and sum(values) / len(values) > most for values in found):
    return score
  did = (
    "reached no rule that it should" if any(found) else "was run on no rule to reach"
  )
  return dataclasses.replace(
    score, kind=NOT_COMPARABLE, verdict=f"{NOT_COMPARABLE} (the attack {did})"
  )


def _in_seeds_of(score, other) -> list[float]:
  """The other's values in the seeds that this one has, too."""
  return [value for seed, value in other.by_seed.items() if seed in score.by_seed]


def _is_success(cell) -> bool:
  """Whether the cell says how far an attack came."""
  return cell.metric in _SUCCESS or cell.metric.endswith(_COUNTS_TARGET_CLASS)


def _is_hold(cell) -> bool:
  """Whether a model without a backdoor would do: one lies within the cell's band."""
  if not _is_success(cell):
    return False
  most = _most_of_a_clean_model(cell)
  return any(map(cell.holds, (0.0, most, min(cell.reported, most))))


def _most_of_a_clean_model(cell) -> float:
  """Up to what there is no success at all, in %.

  FL-PLAS counts triggered images of the target class among the successes, 1 in c, of
  which a model without a backdoor reads most; where an attack has images of its own,
  none is of that class.
  """
  if not cell.metric.endswith(_COUNTS_TARGET_CLASS):
    return 0.0
  dataset = {**presets.PRESETS[cell.preset], **cell.settings}["dataset"]
  return 100.0 / datasets.DATASETS[dataset].num_classes


def _should_be_reached(cell, most) -> bool:
  """Whether the paper lets the attack reach this rule, or does not say.

  Not `local`: what its clients misread nobody brought them.
  """
  is_shared = aggregators.AGGREGATORS[cell.settings["defense"]].aggregates
  printed = cell.reported is None or cell.reported > most
  return is_shared and printed and _is_success(cell)
