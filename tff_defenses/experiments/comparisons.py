"""One defense against every other, seed by seed."""

import collections
import dataclasses
import math
from collections.abc import Sequence

from tff_defenses.experiments import run_values, scorecard, statistics

# Settings that only a defense reads: two runs that differ in these differ in it alone.
_OF_A_DEFENSE = ("defense", "defense_settings", "num_byzantine", "shared_cut")
_HIGHER_IS_BETTER = ("accuracy",)
_LOWER_IS_BETTER = (
  *("attack_success_rate", "attack_success_rate_over_rounds", "target_confidence"),
  *("backdoor_accuracy", "backdoor_accuracy_nontarget"),
)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Own defense against another, in the same row of the table.

  Args:
    own, other: The two cells.
    test: Of own minus other, in the cells' unit.
  """

  own: scorecard.CellScore
  other: scorecard.CellScore
  test: statistics.Paired

  @property
  def outcome(self) -> str:
    """Who beats whom, if anybody."""
    own, other = self.own.config["defense"], self.other.config["defense"]
    if math.isnan(self.test.p):
      return f"not tested (n = {self.test.count})"
    higher = self.own.cell.metric in _HIGHER_IS_BETTER
    wins, loses = self.test.is_larger, self.test.is_smaller
    if not higher:
      wins, loses = loses, wins
    if wins:
      return f"{own} beats {other}"
    if loses:
      return f"{other} beats {own}"
    if math.isnan(self.test.p_t):  # no spread to measure the difference by
      return f"the same difference in all {self.test.count} pairs: too few to tell"
    return "no difference shown"


def against(defense: str, scores: Sequence[scorecard.CellScore]) -> list[Comparison]:
  """One defense against every other measured with the same settings.

  Metrics of which neither more nor less is better are left out, and pairs without a
  common seed.
  """
  known = [s for s in scores if s.by_seed and _has_direction(s.cell.metric)]
  alike = collections.defaultdict(list)
  for score in known:
    alike[_like(score)].append(score)
  found = {}
  for ours in known:
    others = alike[_like(ours)] if ours.config["defense"] == defense else ()
    for other in others:
      common = ours.by_seed.keys() & other.by_seed.keys()
      if common and other.config["defense"] != defense:
        pair = _runs(ours), _runs(other)  # printed twice, but not tested twice
        if pair not in found:
          test = statistics.paired(ours.by_seed, other.by_seed)
          found[pair] = Comparison(ours, other, test)
  return list(found.values())


def _has_direction(metric):
  return metric in (*_HIGHER_IS_BETTER, *_LOWER_IS_BETTER)


def _like(score):
  """Equal for cells that differ in their defense alone."""
  rest = {k: v for k, v in score.config.items() if k not in _OF_A_DEFENSE}
  return run_values.settings_key(rest), score.cell.metric, score.cell.unit


def _runs(score):
  """Equal for cells that show the same number of the same runs."""
  return run_values.settings_key(score.config), score.cell.metric
