"""The printed tables of runs, and the report of a folder."""

import dataclasses
import re

import pytest

from tests.experiments import fabricated_runs as fabricated
from tff_defenses.experiments import report, report_text, reproduction
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import OutputError
from tff_defenses.experiments.report_document import Document, Table

ROWS = [
  {
    "defense": "fedavg",
    "accuracy": 0.875,
    "attack_success_rate": None,
    "seconds": 1.25,
  },
  {"defense": "flare", "accuracy": 1.0, "attack_success_rate": 0.5, "seconds": 10},
]


def cells(text):
  return [line.split() for line in text.splitlines()]


def test_fractions_are_percent_and_none_is_a_dash():
  assert cells(report.table(ROWS)) == [
    ["defense", "accuracy", "%", "ASR", "%", "seconds"],
    ["fedavg", "87.5", "-", "1.2"],
    ["flare", "100.0", "50.0", "10.0"],
  ]


def test_columns_that_nobody_filled_are_left_out():
  text = report.table([{**ROWS[0], "backdoor_accuracy_nontarget": float("nan")}])
  assert cells(text)[0] == ["defense", "accuracy", "%", "seconds"]


def test_rows_keep_their_order_and_are_not_changed():
  rows = [dict(row) for row in ROWS[::-1]]
  assert [row[0] for row in cells(report.table(rows))[1:]] == ["flare", "fedavg"]
  assert rows == ROWS[::-1]


def test_what_a_row_lacks_is_a_dash():
  rows = [{"defense": "krum"}, {"accuracy": 0.5, "defense": "flare", "seconds": None}]
  assert cells(report.table(rows)) == [
    ["defense", "accuracy", "%"],
    ["krum", "-"],
    ["flare", "50.0"],
  ]


def test_other_numbers_are_printed_as_they_are():
  assert cells(report.table([{"seed": 3, "part": "1", "loss": 0.123456}])) == [
    ["seed", "part", "loss"],
    ["3", "1", "0.1235"],
  ]


@pytest.fixture
def reproduce(tmp_path, monkeypatch):
  """A folder with a plan of some cells; returns the plan."""

  def made(*cells, **changes):
    plan = fabricated.plan(tmp_path, *cells, **changes)
    (tmp_path / "plan.json").write_text("{}")
    monkeypatch.setattr(reproduction, "read", lambda folder: plan)
    return plan

  return made


def test_a_card_shows_paper_and_ours_side_by_side(reproduce, tmp_path):
  first, second = fabricated.cell(), fabricated.cell(column="FLARE", reported=3.5)
  plan = reproduce(first, second)
  fabricated.put_seeds(plan, first, {0: 0.48, 1: 0.50, 2: 0.55})
  text = fabricated.report_of(tmp_path, width=100)
  assert "2 cells: 1 reproduced, 1 missing." in text
  assert re.search(r"^ASR +50\.0 \| 51\.0 ± 3\.6 = +3\.5 \| -$", text, re.MULTILINE)
  row = next(line for line in text.splitlines() if line.startswith("  Krum"))
  assert row.split() == "Krum 50.0 51.0 3.6 3/3 +1.0 5.0 reproduced".split()
  assert "= within the band." in " ".join(text.split())
  assert "- The seeds." in text and "- Ours is smaller." in text


def test_a_reduced_card_says_so_at_the_top_and_never_reproduced(reproduce, tmp_path):
  cell = fabricated.cell()
  plan = reproduce(cell, scale=0.1)
  fabricated.put_seeds(plan, cell, dict.fromkeys(range(3), 0.5))
  text = fabricated.report_of(tmp_path)
  assert "*** REDUCED SCALE 0.1: not a reproduction ***" in text
  assert "1 within band (reduced)" in text and "reproduced" not in text


def test_the_legend_explains_marks_not_words(reproduce, tmp_path):
  krum, flare = fabricated.cell(), fabricated.cell(column="FLARE")
  plan = reproduce(krum, flare)
  fabricated.put_seeds(plan, krum, dict.fromkeys(range(3), 0.9))
  for seed in plan.seeds:
    fabricated.put(tmp_path, plan.config_of(flare, seed), error="Disk full.")
  text = fabricated.report_of(tmp_path)
  assert "x outside the band." in text and "failed failed" not in text


def test_notes_are_printed_once_and_numbered(reproduce, tmp_path):
  changes = {"comparable": False, "note": "Other data."}
  names = ("Krum", "FLARE")
  plan = reproduce(*(fabricated.cell(column=n, **changes) for n in names))
  for cell in plan.cells:
    fabricated.put_seeds(plan, cell, {0: 0.5})
  text = fabricated.report_of(tmp_path)
  assert text.count("Other data.") == 1 and "- [1] Other data." in text
  assert text.count("not comparable (1 of 3 seeds)      1") == 2


def test_two_metrics_in_one_place_get_a_row_each(reproduce, tmp_path):
  reproduce(fabricated.cell(), fabricated.cell(metric="accuracy", reported=80.0))
  text = fabricated.report_of(tmp_path)
  assert "ASR, attack_success_rate" in text and "ASR, accuracy" in text


def test_own_defense_is_tested_against_the_others(reproduce, tmp_path):
  plan = reproduce(fabricated.cell(column="FLARE"), fabricated.cell(column="Krum"))
  fabricated.put_seeds(plan, plan.cells[0], {0: 0.10, 1: 0.11, 2: 0.12})
  fabricated.put_seeds(plan, plan.cells[1], {0: 0.50, 1: 0.52, 2: 0.52})
  text = fabricated.report_of(tmp_path)
  line = next(row for row in text.splitlines() if "FLARE - Krum" in row)
  assert line.split()[3:6] == ["3", "-40.3", "0.6"] and "flare beats krum" in line
  assert "fewer than 3 pairs nothing is tested" in " ".join(text.split())


def test_other_readings_are_counted_apart_and_not_tested(reproduce, tmp_path):
  settings = {"defense": "krum", "attack": "label_flip", "num_byzantine": 2}
  reading = {"reading_of": "ASR", "variant": True, "settings": settings}
  again = fabricated.cell(row="ASR [code]", **reading)
  plan = reproduce(fabricated.cell(column="FLARE"), fabricated.cell(), again)
  for cell in plan.cells:
    fabricated.put_seeds(plan, cell, dict.fromkeys(range(3), 0.5))
  text = fabricated.report_of(tmp_path)
  assert "2 cells: 2 reproduced." in text
  assert "1 more read printed cells in another way: 1 reproduced." in text
  assert text.count("FLARE - Krum") == 1


def test_a_plan_without_runs_is_a_card_of_missing_cells(reproduce, tmp_path):
  reproduce(fabricated.cell())
  assert "1 cell: 1 missing." in fabricated.report_of(tmp_path)


def test_a_real_table_is_read_back_from_its_folder(tmp_path):
  plan = reproduction.plan("flare:table3", scale=0.1, output_dir=str(tmp_path))
  plan.save()
  cell = next(c for c in plan.cells if c.reported is not None and c.comparable)
  config = plan.config_of(cell, plan.seeds[0])
  fabricated.put(tmp_path, config, **{cell.metric: cell.reported / 100})
  scores = report.read(tmp_path).scores
  assert len(scores) == len(plan.cells)
  (found,) = (s for s in scores if s.cell == cell)
  assert found.verdict == f"within band (reduced) (1 of {len(plan.seeds)} seeds)"


def test_a_damaged_plan_is_named_and_the_runs_are_reported(tmp_path):
  fabricated.put(tmp_path, ExperimentConfig(), accuracy=0.5)
  (tmp_path / "plan.json").write_text("{")
  text = " ".join(fabricated.report_of(tmp_path).split())
  assert "plan.json cannot be used" in text and "50.0" in text


CONFIG = ExperimentConfig(defense="krum", attack="label_flip", malicious_fraction=0.2)


def test_a_grid_is_grouped_over_seeds(tmp_path):
  for seed, accuracy in ((0, 0.5), (1, 0.6)):
    config = dataclasses.replace(CONFIG, seed=seed)
    fabricated.put(tmp_path, config, accuracy=accuracy, seconds_total=12.0)
  table = _runs_table(tmp_path)
  assert table.header == (
    *("dataset", "defense", "attack", "malicious %", "seeds"),
    *("accuracy %", "total s"),
  )
  # Mean 55, deviations of 5 each: std sqrt(50).
  assert table.rows == (
    ("mnist5k", "krum", "label_flip", "20", "2", "55.0 ± 7.1", "12 ± 0"),
  )


def test_what_was_varied_is_a_column(tmp_path):
  for aux_size in (5, 10):
    config = dataclasses.replace(CONFIG, defense="flare", aux_size=aux_size)
    fabricated.put(tmp_path, config, accuracy=0.5)
  fabricated.put(tmp_path, dataclasses.replace(CONFIG, batch_size=8), accuracy=0.4)
  table = _runs_table(tmp_path)
  assert "aux_size" in table.header and "batch_size" not in table.header
  column = table.header.index("aux_size")
  assert sorted(row[column] for row in table.rows) == ["10", "10", "5"]


def test_a_half_done_grid_says_what_is_open_and_why(tmp_path):
  fabricated.put(tmp_path, CONFIG, accuracy=0.5)
  fabricated.put(tmp_path, dataclasses.replace(CONFIG, seed=1), rounds=2)
  fabricated.put(tmp_path, dataclasses.replace(CONFIG, seed=2), error="Disk full.")
  text = fabricated.report_of(tmp_path)
  assert "3 run(s), 1 done" in text and "1 (1 failed, 1 left)" in text
  assert "ValueError: Disk full." in text


def test_a_clean_run_has_no_malicious_clients_and_a_reduced_one_says_so(tmp_path):
  config = ExperimentConfig(malicious_fraction=0.2, max_train_images=100)
  fabricated.put(tmp_path, config, accuracy=0.5)
  table = _runs_table(tmp_path)
  row = dict(zip(table.header, table.rows[0], strict=True))
  assert row["malicious %"] == "0" and row["reduced"] == "yes"


def test_a_grid_compares_the_papers_defenses_with_the_others(tmp_path):
  for seed in range(3):
    for defense, accuracy in (("flare", 0.8), ("krum", 0.5)):
      config = dataclasses.replace(CONFIG, defense=defense, seed=seed)
      fabricated.put(
        tmp_path, config, accuracy=accuracy + seed**2 / 100 * (defense < "g")
      )
  text = fabricated.report_of(tmp_path)
  assert "flare - krum" in text and "flare beats krum" in text


def test_a_folder_with_one_run_is_a_grid_of_one(tmp_path):
  folder = fabricated.put(tmp_path, CONFIG, accuracy=0.5)
  assert "50.0" in fabricated.report_of(folder)


def test_no_folder_and_no_run_are_one_sentence_each(tmp_path):
  with pytest.raises(OutputError, match="does not exist"):
    fabricated.report_of(tmp_path / "nowhere")
  (tmp_path / "file").touch()
  with pytest.raises(OutputError, match="which is none"):
    fabricated.report_of(tmp_path / "file")
  (tmp_path / "file").unlink()
  with pytest.raises(OutputError, match=r"must hold runs.*Run some there first"):
    fabricated.report_of(tmp_path)
  fabricated.put(tmp_path, CONFIG)
  for file in tmp_path.rglob("config.json"):
    file.write_text("?")
  with pytest.raises(OutputError, match=r"config\.json is damaged"):
    fabricated.report_of(tmp_path)


@pytest.mark.parametrize("place", ["flare-table9", "published/deep/flare-table9"])
def test_plans_are_pointed_to_at_any_depth(tmp_path, place):
  fabricated.put(tmp_path / place, CONFIG, accuracy=0.5)
  (tmp_path / place / "plan.json").write_text("{}")
  text = " ".join(fabricated.report_of(tmp_path, width=200).split())
  assert f"{tmp_path / place} has a scorecard of its own" in text


def test_a_damaged_plan_points_to_no_scorecard(tmp_path):
  fabricated.put(tmp_path, CONFIG, accuracy=0.5)
  (tmp_path / "plan.json").write_text("{")
  text = " ".join(fabricated.report_of(tmp_path).split())
  assert "has a scorecard of its own" not in text


def test_a_table_and_its_copy_are_one_seed(tmp_path):
  for name in ("table9", "published/table9"):
    fabricated.put(tmp_path / name, CONFIG, accuracy=0.5)
  content = report.read(tmp_path)
  assert [score.wanted for score in content.scores] == [(CONFIG.seed,)]
  assert _runs_table(tmp_path).rows[0][4] == "1"
  text = " ".join(report.render(content, width=200).split())
  assert "1 run(s), 1 done" in text and "1 folder(s) repeat the run of another" in text


def test_tables_too_wide_are_broken_and_repeat_their_labels():
  header = ("row", *(f"column {i}" for i in range(6)))
  rows = (("a long label " * 4, *("10.0 | 11.0 =",) * 6), ("b", *("-",) * 6))
  document = Document("Title", "", (), (Table("T", header, rows),))
  text = report_text.render(document, width=60)
  assert max(map(len, text.splitlines())) <= 60
  assert text.count("a long label") >= 3 and text.count("column 5") == 1


def test_labels_that_fill_the_page_are_a_numbered_list():
  header = ("data set", "rule", "settings", "n", "accuracy %")
  rows = tuple(("digits", rule, "word " * 9, "-", "50.0") for rule in ("krum", "flare"))
  document = Document("Title", "", (), (Table("T", header, rows, labels=4),))
  lines = report_text.render(document, width=40).splitlines()
  assert max(map(len, lines)) <= 40
  assert lines[-9:-4] == [
    "all:  data set digits, settings word",
    "      word word word word word word word",
    "      word",
    "1:    rule krum",
    "2:    rule flare",
  ]
  assert [line.split() for line in lines[-2:]] == [["1", "50.0"], ["2", "50.0"]]


def _runs_table(folder):
  blocks = report.read(folder).document.blocks
  return next(block for block in blocks if block.title == "Runs")
