"""When a printed 0 is met for want of an attack."""

import pytest

from tests.experiments import fabricated_runs as fabricated
from tff_defenses.experiments import scorecard


def kinds(tmp_path, values, *, metric="attack_success_rate", printed=None):
  """Verdicts on FedAvg, Krum and FLARE, printed as 60, 90 and 0; ours in %, or None."""
  printed = printed or {"FedAvg": 60.0, "Krum": 90.0, "FLARE": 0.0}
  cells = [
    fabricated.cell(column=name, reported=number, metric=metric)
    for name, number in printed.items()
  ]
  plan = fabricated.plan(tmp_path, *cells, seeds=(0,))
  for cell, value in zip(cells, values, strict=True):
    if value is not None:
      fabricated.put_seeds(plan, cell, {0: value / 100})
  return [score.kind for score in scorecard.build(plan).scores]


@pytest.mark.parametrize(
  ("values", "expected"),
  [
    ((0, 100, 0), "reproduced"),  # one rule was reached
    ((60, None, 0), "reproduced"),
    ((0, 5, 0), "not comparable"),  # within what counts as 0
    ((None, None, 0), "not comparable"),
    ((0, 0, 17), "off"),
  ],
)
def test_a_zero_needs_an_attack_that_works(tmp_path, values, expected):
  assert kinds(tmp_path, values)[2] == expected


def test_what_is_printed_as_reached_is_off_as_before(tmp_path):
  assert kinds(tmp_path, (0, 0, 0))[:2] == ["off", "off"]


def test_a_rule_that_should_hold_is_no_evidence(tmp_path):
  printed = {"FedAvg": 60.0, "Krum": 0.0, "FLARE": 0.0}
  assert kinds(tmp_path, (0, 50, 0), printed=printed)[2] == "not comparable"


def test_a_column_that_the_paper_does_not_print_is_evidence(tmp_path):
  printed = {"FedAvg": None, "FLARE": 0.0}
  assert kinds(tmp_path, (100, 0), printed=printed)[1] == "reproduced"
  assert kinds(tmp_path / "b", (0, 0), printed=printed)[1] == "not comparable"


def test_other_metrics_are_left_alone(tmp_path):
  assert kinds(tmp_path, (0, 0, 0), metric="accuracy")[2] == "reproduced"
