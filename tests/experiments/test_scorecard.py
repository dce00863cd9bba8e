"""Verdicts: paper beside ours, cell by cell."""

import dataclasses
import math

import pytest

from tests.experiments import fabricated_runs as fabricated
from tests.experiments import fake_runs
from tff_defenses.experiments import (
  claims,
  comparisons,
  reproduction,
  run_values,
  scorecard,
  verdicts,
)


@pytest.fixture
def one(tmp_path):
  """Puts runs of one cell and scores it."""

  def score(values, *, plan_changes=(), **changes):
    cell = fabricated.cell(**changes)
    plan = fabricated.plan(tmp_path, cell, **dict(plan_changes))
    fabricated.put_seeds(plan, cell, values)
    card = scorecard.build(plan)
    return card.scores[0]

  return score


def test_mean_spread_and_difference_in_percent_by_hand(one):
  score = one({0: 0.48, 1: 0.50, 2: 0.55})
  # Mean (48 + 50 + 55) / 3 = 51; deviations -3, -1, 4: std = sqrt(26 / 2).
  assert score.mean == pytest.approx(51) and score.std == pytest.approx(math.sqrt(13))
  assert score.difference == pytest.approx(1) and score.seeds == "3/3"
  assert (score.reported, score.ours) == ("50.0", "51.0 ± 3.6")
  assert (score.kind, score.verdict) == ("reproduced", "reproduced")


@pytest.mark.parametrize(
  ("value", "verdict"),
  [
    (0.55, "reproduced"),  # the band's end belongs to it
    (0.45, "reproduced"),
    (0.551, "off by +5.1"),
    (0.40, "off by -10.0"),
  ],
)
def test_the_band_decides(one, value, verdict):
  score = one({0: value, 1: value, 2: value})
  assert score.verdict == verdict
  assert score.kind == ("reproduced" if verdict == "reproduced" else "off")


def test_a_band_that_binary_cannot_hold_includes_its_end(one):
  # 100 x 0.57 - 56.9 is 0.1 and a 15th digit.
  score = one({0: 0.57, 1: 0.57, 2: 0.57}, reported=56.9, band=0.1)
  assert score.kind == "reproduced"


def test_fewer_seeds_than_wanted_are_said(one):
  score = one({1: 0.5})
  assert score.verdict == "reproduced (1 of 3 seeds)" and score.seeds == "1/3"
  assert not score.is_complete and score.ours == "50.0"  # one value has no spread


def test_another_seed_does_not_stand_for_a_wanted_one(one):
  score = one({0: 0.5, 1: 0.5, 7: 0.5})
  assert score.seeds == "2/3 +1" and score.verdict == "reproduced (2 of 3 seeds)"


def test_seeds_beyond_the_plan_count_and_are_named(one):
  score = one({0: 0.5, 1: 0.5, 2: 0.5, 7: 0.9})
  assert score.mean == pytest.approx(60) and score.seeds == "3/3 +1"
  assert score.verdict == "off by +10.0"
  assert "beyond those asked for are counted: 7." in score.details[0]


def test_not_comparable_still_shows_ours(one):
  score = one({0: 0.9, 1: 0.9, 2: 0.9}, comparable=False, note="Other data")
  assert score.kind == score.verdict == "not comparable"
  assert score.ours == "90.0 ± 0.0" and score.details == ("Other data.",)


def test_a_column_of_ours_has_no_paper_value(one):
  score = one({0: 0.9, 1: 0.9, 2: 0.9}, reported=None)
  assert score.verdict == "no paper value" and math.isnan(score.difference)
  assert score.reported == "-"


@pytest.mark.parametrize(("value", "kind"), [(0.93, "reproduced"), (0.7, "off")])
def test_a_bound_is_no_number_to_meet(one, value, kind):
  score = one(dict.fromkeys(range(3), value), reported=80.0, band=20.0, bound="above")
  assert score.kind == kind and score.reported == "> 80.0"


def test_other_units_are_not_scaled(one):
  more = {"metric": "seconds_total", "unit": "seconds", "band": 1.0}
  score = one({0: 12.5, 1: 12.5, 2: 12.5}, reported=12.0, **more)
  assert score.mean == 12.5 and score.unit == "s" and score.kind == "reproduced"


def test_as_many_decimals_as_the_paper_prints(one):
  score = one({0: 0.97256, 1: 0.97256, 2: 0.97256}, reported=97.31)
  assert score.ours == "97.26 ± 0.00" and score.shown(score.difference) == "-0.05"


def test_without_runs_a_cell_is_missing(one):
  score = one({})
  assert score.verdict == "missing" and score.seeds == "0/3" and score.ours == "-"


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_run_that_did_not_measure_it_is_missing_and_says_so(one, value):
  score = one({0: value})
  assert score.kind == "missing"
  assert score.details == ("seed 0 is done but measured no attack_success_rate.",)


def test_a_nan_among_seeds_leaves_the_others(one):
  score = one({0: 0.5, 1: float("nan"), 2: 0.5})
  assert score.mean == 50 and score.verdict == "reproduced (2 of 3 seeds)"


def test_a_failed_run_gives_its_sentence(tmp_path):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  fabricated.put(tmp_path, plan.config_of(cell, 0), error="Disk full")
  other = fabricated.put(tmp_path, plan.config_of(cell, 1), rounds=4)
  with claims.claim(other):
    (score,) = scorecard.build(plan).scores
  assert score.kind == "failed" and score.details == (
    "seed 0 failed: ValueError: Disk full.",
  )
  fabricated.put_seeds(plan, cell, {2: 0.5})
  (score,) = scorecard.build(plan).scores
  assert score.verdict == "reproduced (1 of 3 seeds)"
  assert score.details == ("seed 0 failed: ValueError: Disk full.",)


def test_a_run_in_the_middle_says_its_round(tmp_path):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  folders = [
    fabricated.put(tmp_path, plan.config_of(cell, seed), rounds=rounds)
    for seed, rounds in ((0, 4), (1, 7), (2, 9))
  ]
  with claims.claim(folders[0]), claims.claim(folders[1]):
    (score,) = scorecard.build(plan).scores
  assert (score.kind, score.verdict) == ("running", "running (round 7 of 20)")


def test_a_run_that_stopped_says_where(tmp_path):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  fabricated.put(tmp_path, plan.config_of(cell, 1), rounds=9)
  (score,) = scorecard.build(plan).scores
  verdict = "missing (stopped in round 9 of 20)"
  assert (score.kind, score.verdict) == ("missing", verdict)


@pytest.mark.parametrize(
  ("value", "verdict"),
  [(0.5, "within band (reduced)"), (0.7, "off by +20.0 (reduced)")],
)
def test_a_reduced_card_never_says_reproduced(tmp_path, value, verdict):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell, scale=0.1)
  fabricated.put_seeds(plan, cell, dict.fromkeys(range(3), value))
  card = scorecard.build(plan)
  assert card.scores[0].verdict == verdict
  assert card.label == "REDUCED SCALE 0.1: not a reproduction"
  words = [card.word(kind) for kind in verdicts.KINDS] + [card.scores[0].verdict]
  assert not any("reproduced" in word for word in words)


def test_counts_name_every_kind_that_occurs(tmp_path):
  cells = [
    fabricated.cell(column="Krum"),
    fabricated.cell(column="FedAvg", comparable=False, note="Why."),
    fabricated.cell(column="FLARE", reported=90.0),
    fabricated.cell(row="other", settings={"defense": "median"}),
  ]
  plan = fabricated.plan(tmp_path, *cells)
  for cell in cells[:3]:
    fabricated.put_seeds(plan, cell, dict.fromkeys(range(3), 0.5))
  assert scorecard.counts(scorecard.build(plan).scores) == {
    "reproduced": 1,
    "off": 1,
    "not comparable": 1,
    "missing": 1,
  }


def test_another_reading_of_a_cell_is_counted_apart(tmp_path):
  cells = fabricated.cell(), fabricated.cell(column="Krum [code]", reading_of="Krum")
  plan = fabricated.plan(tmp_path, *cells)
  fabricated.put_seeds(plan, cells[0], dict.fromkeys(range(3), 0.5))
  card = scorecard.build(plan)
  assert [s.cell.column for s in card.printed] == ["Krum"]
  assert [s.cell.column for s in card.readings] == ["Krum [code]"]


def test_runs_of_other_settings_are_named_and_not_counted(tmp_path):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  config = dataclasses.replace(plan.config_of(cell, 0), rounds=3)
  folder = fabricated.put(tmp_path, config, attack_success_rate=0.5)
  card = scorecard.build(plan)
  assert card.scores[0].kind == "missing"
  assert "1 run(s)" in card.faults[0] and folder.name in card.faults[0]


def test_runs_of_several_versions_are_named_by_version(tmp_path):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  fabricated.put_seeds(plan, cell, {0: 0.5, 1: 0.5}, version="1")
  (old,) = fabricated.put_seeds(plan, cell, {2: 0.5}, version="0")
  card = scorecard.build(plan)
  assert f"2 versions lie in one folder: 0 ({old.name})" in card.faults[0]
  assert card.scores[0].kind == "reproduced"


def test_runs_that_read_other_files_are_named(tmp_path):
  """A complete run is not repeated, whatever `--data_dir` is given later."""
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  folders = fabricated.put_seeds(plan, cell, {0: 0.5, 1: 0.5, 2: 0.5})
  for folder, digest in zip(folders, ("whole", "whole", "part"), strict=True):
    fabricated.write(folder / "data.json", {"server": digest})
  [fault] = scorecard.build(plan).faults
  assert "must have read the same images, got 2 sets of files" in fault
  assert f"; {folders[2].name}. " in fault
  fabricated.write(folders[2] / "data.json", {"server": "whole"})
  assert scorecard.build(plan).faults == ()


def test_runs_that_started_from_other_weights_are_named(tmp_path):
  """A start that was made anew in another cache is another model."""
  defenses = ("fedavg", "krum", "flare")
  cells = [fabricated.cell(row=d, settings={"defense": d}) for d in defenses]
  plan = fabricated.plan(tmp_path, *cells)
  for cell, digest in zip(cells, ("one", "one", "two"), strict=True):
    [folder] = fabricated.put_seeds(plan, cell, {0: 0.5})
    fabricated.write(folder / "start.json", {"accuracy": 0.1, "weights": digest})
  [fault] = scorecard.build(plan).faults
  assert "must have started from the same weights, got 2 starts" in fault
  assert f"; {folder.name}. " in fault
  fabricated.write(folder / "start.json", {"accuracy": 0.1, "weights": "one"})
  assert scorecard.build(plan).faults == ()


def test_runs_of_other_seeds_start_from_other_weights(tmp_path):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  folders = fabricated.put_seeds(plan, cell, {0: 0.5, 1: 0.5, 2: 0.5})
  for folder, digest in zip(folders, "abc", strict=True):
    fabricated.write(folder / "start.json", {"accuracy": 0.1, "weights": digest})
  assert scorecard.build(plan).faults == ()


@pytest.mark.parametrize(
  "setting", [{"aux_size": 5}, {"aux_class": 3}, {"root_per_class": 4}]
)
def test_runs_whose_server_takes_other_images_by_their_settings_agree(
  tmp_path, setting
):
  cells = [fabricated.cell(), fabricated.cell(row="other")]
  cells[1] = dataclasses.replace(cells[1], settings={**cells[1].settings, **setting})
  plan = fabricated.plan(tmp_path, *cells)
  for cell, digest in zip(cells, ("ten", "five"), strict=True):
    (folder,) = fabricated.put_seeds(plan, cell, {0: 0.5})
    fabricated.write(folder / "data.json", {"server": digest})
  assert scorecard.build(plan).faults == ()


def test_a_damaged_run_is_named_and_the_rest_is_scored(tmp_path):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  folders = fabricated.put_seeds(plan, cell, {0: 0.5, 1: 0.5, 2: 0.9})
  (folders[2] / "summary.json").write_text('{"accuracy": 0.')
  card = scorecard.build(plan)
  assert card.scores[0].verdict == "reproduced (2 of 3 seeds)"
  assert f"{folders[2].name}/summary.json is damaged" in card.faults[0]


def compared(tmp_path, metric="attack_success_rate", **values):
  cells = [fabricated.cell(column=name, metric=metric) for name in values]
  plan = fabricated.plan(tmp_path, *cells)
  for cell, by_seed in zip(cells, values.values(), strict=True):
    fabricated.put_seeds(plan, cell, by_seed)
  return comparisons.against("flare", scorecard.build(plan).scores)


LOW = {0: 0.10, 1: 0.11, 2: 0.12, 3: 0.10}
HIGH = {0: 0.50, 1: 0.52, 2: 0.52, 3: 0.51}


def test_less_attack_success_beats_more(tmp_path):
  (found,) = compared(tmp_path, FLARE=LOW, Krum=HIGH)
  assert found.outcome == "flare beats krum" and found.test.count == 4
  # -40, -41, -40, -41 points
  assert found.test.mean == pytest.approx(-40.5)


def test_less_accuracy_does_not(tmp_path):
  (found,) = compared(tmp_path, metric="accuracy", FLARE=LOW, Krum=HIGH)
  assert found.outcome == "krum beats flare"


def test_the_same_difference_in_all_pairs_is_not_called_none(tmp_path):
  """The t-test has no spread to go by, three signs reach 0.25 at best."""
  (found,) = compared(
    tmp_path, FLARE=dict.fromkeys((0, 1, 2), 0.0), Krum=dict.fromkeys((0, 1, 2), 1.0)
  )
  assert found.outcome == "the same difference in all 3 pairs: too few to tell"


def test_every_other_defense_is_compared_over_common_seeds(tmp_path):
  found = compared(tmp_path, FLARE=LOW, Krum={1: 0.5, 9: 0.1}, FedAvg=LOW)
  assert [c.other.config["defense"] for c in found] == ["krum", "fedavg"]
  assert [c.outcome for c in found] == ["not tested (n = 1)", "no difference shown"]


def test_runs_that_differ_in_more_than_the_defense_are_not_paired(tmp_path):
  cells = [
    fabricated.cell(column="FLARE"),
    fabricated.cell(settings={"defense": "krum", "attack": "label_flip", "rounds": 3}),
    fabricated.cell(
      row="other",
      settings={"defense": "krum", "attack": "label_flip", "num_byzantine": 2},
    ),
  ]
  plan = fabricated.plan(tmp_path, *cells)
  for cell in cells:
    fabricated.put_seeds(plan, cell, LOW)
  (found,) = comparisons.against("flare", scorecard.build(plan).scores)
  assert found.other.cell.row == "other"  # what the rule is told belongs to the rule


def test_metrics_without_a_better_side_are_not_compared(tmp_path):
  assert compared(tmp_path, metric="train_loss", FLARE=LOW, Krum=HIGH) == []


def test_reading_a_card_changes_no_file(tmp_path):
  cell = fabricated.cell()
  plan = fabricated.plan(tmp_path, cell)
  fabricated.put_seeds(plan, cell, {0: 0.5})
  before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
  scorecard.build(plan)
  assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
  assert run_values.find(tmp_path)


@pytest.mark.parametrize(
  ("name", "dataset"), [("flare:table2", "fashion_mnist"), ("fl_plas:table4", "mnist")]
)
def test_runs_of_a_plan_are_found_by_what_their_folders_say(tmp_path, name, dataset):
  plan = reproduction.plan(
    name, seeds=[0], scale=0.1, datasets=[dataset], output_dir=str(tmp_path)
  )
  for config in plan.configs():
    fake_runs.write(config)
  found = scorecard.counts(scorecard.build(plan).scores)
  assert verdicts.MISSING not in found and sum(found.values()) == len(plan.cells)
