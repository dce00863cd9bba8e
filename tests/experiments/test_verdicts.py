"""When a printed 0 is met for want of an attack."""

import pytest

from tests.experiments import fabricated_runs as fabricated
from tff_defenses.experiments import scorecard


def scores(tmp_path, values, *, metric="attack_success_rate", printed=None, **flare):
  """Of FedAvg, Krum and FLARE, printed as 60, 90 and 0; ours in %, or None.

  `flare` is what else is known of FLARE's cell.
  """
  printed = printed or {"FedAvg": 60.0, "Krum": 90.0, "FLARE": 0.0}
  cells = [
    fabricated.cell(
      column=name,
      reported=number,
      metric=metric,
      **(flare if name == "FLARE" else {}),
    )
    for name, number in printed.items()
  ]
  plan = fabricated.plan(tmp_path, *cells, seeds=(0,))
  for cell, value in zip(cells, values, strict=True):
    if value is not None:
      fabricated.put_seeds(plan, cell, {0: value / 100})
  return scorecard.build(plan).scores


def kinds(*args, **settings):
  return [score.kind for score in scores(*args, **settings)]


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


@pytest.mark.parametrize(
  ("flare", "printed", "ours", "expected"),
  [
    ({"band": 10.0}, 5.0, 0, "not comparable"),  # no success at all is within 5 +- 10
    ({"band": 3.0}, 5.0, 4, "reproduced"),  # it is not within 5 +- 3
    ({"bound": "below", "band": 10.0}, 10.0, 4, "not comparable"),
    ({"bound": "below", "band": 10.0}, 10.0, 11, "off"),
  ],
)
def test_a_small_number_that_none_would_meet_needs_one_too(
  tmp_path, flare, printed, ours, expected
):
  named = {"FedAvg": 60.0, "FLARE": printed}
  assert kinds(tmp_path, (0, ours), printed=named, **flare)[1] == expected
  worked = kinds(tmp_path / "b", (60, ours), printed=named, **flare)[1]
  assert worked == ("off" if expected == "off" else "reproduced")


def test_confidence_in_the_target_is_success_too(tmp_path):
  found = kinds(tmp_path, (11, 9, 2), metric="target_confidence")
  assert found == ["off", "off", "reproduced"]  # 11 is more than what counts as 0
  found = kinds(tmp_path / "b", (4, 5, 2), metric="target_confidence")
  assert found == ["off", "off", "not comparable"]


def test_it_is_said_whether_the_attack_was_tried_elsewhere(tmp_path):
  tried = scores(tmp_path, (0, 0, 0))[2].verdict
  assert tried == "not comparable (the attack reached no rule that it should)"
  alone = scores(tmp_path / "b", (None, None, 0))[2].verdict
  assert alone == "not comparable (the attack was run on no rule to reach)"


def test_other_metrics_are_left_alone(tmp_path):
  assert kinds(tmp_path, (0, 0, 0), metric="accuracy")[2] == "reproduced"


def backdoor(tmp_path, values, reported, **of_both):
  """Of FedAvg, printed as 100, and FLARE, under a backdoor on ten classes."""
  printed = {"FedAvg": 100.0, "FLARE": reported}
  settings = {"metric": "backdoor_accuracy", "printed": printed, **of_both}
  return scores(tmp_path, values, **settings)[1].kind


def test_a_backdoor_accuracy_of_a_clean_model_needs_an_attack_that_works(tmp_path):
  # 10 +- 5 and 0.4 +- 5: what a model without a backdoor has, with and without images
  # of the target class
  for number, (reported, ours) in enumerate([(10.0, 9), (0.4, 0)]):
    alone, beaten, worked = (
      backdoor(tmp_path / f"{number}{i}", (fedavg, ours), reported)
      for i, fedavg in enumerate([None, 12 if ours else 4, 98])
    )
    assert (alone, beaten, worked) == ("not comparable", "not comparable", "reproduced")
  assert backdoor(tmp_path / "c", (None, 43), 40.0) == "reproduced"  # no clean model's
