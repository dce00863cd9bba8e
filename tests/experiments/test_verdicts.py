"""When a printed 0 is met for want of an attack."""

import pytest

from tests.experiments import fabricated_runs as fabricated
from tff_defenses.experiments import reproduction, scorecard


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


def test_what_clients_misread_that_share_nothing_is_no_evidence(tmp_path):
  """`local`: no attack can reach them."""
  flare = fabricated.cell(column="FLARE", reported=0.0)
  for number, (name, expected) in enumerate(
    [("local", "not comparable"), ("krum", "reproduced")]
  ):
    settings = {"defense": name, "attack": "label_flip"}
    other = fabricated.cell(column="ours", reported=None, settings=settings)
    plan = fabricated.plan(tmp_path / str(number), other, flare, seeds=(0,))
    fabricated.put_seeds(plan, other, {0: 0.3})
    fabricated.put_seeds(plan, flare, {0: 0.0})
    assert kind_of(plan, flare) == expected


def test_evidence_for_a_bound_is_what_lies_beyond_it(tmp_path):
  named, bound = {"FedAvg": 60.0, "FLARE": 10.0}, {"bound": "below", "band": 10.0}
  found = [
    kinds(tmp_path / str(fedavg), (fedavg, 4), printed=named, **bound)[1]
    for fedavg in (9, 15)
  ]
  assert found == ["not comparable", "reproduced"]


def test_evidence_is_a_mean_over_seeds(tmp_path):
  """Of 0 and 9 %, with a band of 5 about 0."""
  fedavg = fabricated.cell(column="FedAvg", reported=60.0)
  flare = fabricated.cell(column="FLARE", reported=0.0)
  plan = fabricated.plan(tmp_path, fedavg, flare, seeds=(0, 1))
  fabricated.put_seeds(plan, fedavg, {0: 0.0, 1: 0.09})
  fabricated.put_seeds(plan, flare, {0: 0.0, 1: 0.0})
  assert kind_of(plan, flare) == "not comparable"


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
  # of the target class; 5 +- 4.9: what one has that misses some of these.
  for number, (reported, ours, band) in enumerate(
    [(10.0, 9, 5.0), (0.4, 0, 5.0), (5.0, 7, 4.9)]
  ):
    alone, beaten, worked = (
      backdoor(tmp_path / f"{number}{i}", (fedavg, ours), reported, band=band)
      for i, fedavg in enumerate([None, 9 if ours else 4, 98])
    )
    assert (alone, beaten, worked) == ("not comparable", "not comparable", "reproduced")
  assert backdoor(tmp_path / "c", (None, 43), 40.0) == "reproduced"  # no clean model's


def kind_of(plan, cell):
  return next(s.kind for s in scorecard.build(plan).scores if s.cell == cell)


def test_accuracy_is_no_evidence(tmp_path):
  """FL-PLAS Table 7 has accuracies and backdoors in one row."""
  accuracy = fabricated.cell(column="MA", metric="accuracy", reported=77.0)
  backdoor = fabricated.cell(metric="backdoor_accuracy", reported=10.0)
  malicious = fabricated.cell(
    column="BA_atk", metric="backdoor_accuracy_malicious", reported=None
  )
  plan = fabricated.plan(tmp_path, accuracy, backdoor, malicious, seeds=(0,))
  values = {"accuracy": 0.77, "backdoor_accuracy": 0.1}
  for own, expected in ((0.1, "not comparable"), (0.99, "reproduced")):
    values["backdoor_accuracy_malicious"] = own
    fabricated.put(tmp_path, plan.config_of(backdoor, 0), **values)
    assert kind_of(plan, backdoor) == expected


def test_evidence_of_models_put_together_stands_in_other_rows(tmp_path):
  def name(extractor, classifier):
    return f"swap_{extractor}_extractor_{classifier}_classifier_backdoor_accuracy"

  printed = {("backdoor", "clean"): 10.0, ("backdoor", "backdoor"): 100.0}
  clean, poisoned = (
    fabricated.cell(row=names[1], metric=name(*names), reported=number)
    for names, number in printed.items()
  )
  plan = fabricated.plan(tmp_path, clean, poisoned, seeds=(0,))
  for ours, expected in ((0.1, "not comparable"), (1.0, "reproduced")):
    values = {clean.metric: 0.1, poisoned.metric: ours}
    fabricated.put(tmp_path, plan.config_of(clean, 0), **values)
    assert kind_of(plan, clean) == expected


def test_evidence_is_of_the_same_seeds(tmp_path):
  krum = fabricated.cell(reported=90.0)
  flare = fabricated.cell(column="FLARE", reported=0.0)
  plan = fabricated.plan(tmp_path, krum, flare)
  fabricated.put_seeds(plan, krum, {0: 0.0, 1: 1.0, 2: 1.0})
  fabricated.put_seeds(plan, flare, {0: 0.0})
  assert kind_of(plan, flare) == "not comparable"
  fabricated.put_seeds(plan, flare, {1: 0.0})
  assert kind_of(plan, flare) == "reproduced"  # half of both seeds' inputs


def test_a_narrowed_plan_knows_the_evidence_of_the_whole_table(tmp_path):
  narrow = {"datasets": ["mnist"], "attacks": ["trigger"], "output_dir": str(tmp_path)}
  plan = reproduction.plan("fl_plas:table4", defenses=["fl_plas"], **narrow)
  fedavg = reproduction.plan("fl_plas:table4", defenses=["fedavg"], **narrow)
  [cell] = [c for c in plan.cells if c.reported is not None and c.reading_of is None]
  fabricated.put_seeds(plan, cell, {0: 0.1})
  assert kind_of(plan, cell) == "not comparable"
  fabricated.put_seeds(
    fedavg, next(c for c in fedavg.cells if c.row == cell.row), {0: 1}
  )
  assert kind_of(plan, cell) == "reproduced"
  assert {s.cell.settings["defense"] for s in scorecard.build(plan).scores} == {
    "fl_plas"
  }
