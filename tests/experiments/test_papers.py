"""The papers' numbers: sound files, and spot checks typed from the papers by hand."""

import copy
import json

import pytest

import attacks
from tff_defenses import aggregators
from tff_defenses.experiments import datasets, papers, presets, reproduction

FLARE = [f"flare:{n}" for n in ("table2", "table3", "table4", "table5")]
FLARE += [f"flare:fig{n}" for n in (1, 4, 6, 7, 8, 9, 10, "11a", "11b", 12)]
FLARE += ["flare:aux_size", "flare:overhead"]
PLAS = [f"fl_plas:table{n}" for n in (2, 4, 5, 6, 7)]
PLAS += [f"fl_plas:fig{n}" for n in (3, 4, 5, 6, 7, 8)]

KRUM_BACKDOOR = "Attack-Krum-Backdoor (semantic)"
COOMED_BACKDOOR = "Attack-Coomed-Backdoor (semantic)"
TM = "Attack-TrimmedMean-Untargeted"
TRIGGER, NEW = "(a) Trigger attack", "(b) New types of attack"

# Typed from the papers' pages; FL-PLAS prints fractions, here percent.
PRINTED = {
  "flare:table2": {
    ("fMNIST", "FLARE"): 91.58,
    ("CIFAR-10", "Krum"): 55.19,
    ("CIFAR-10", "FLARE"): 67.00,
    ("Kather", "TMean"): 78.33,
  },
  "flare:table3": {
    (f"{KRUM_BACKDOOR}, fMNIST, ASR", "FedAvg"): 8.3,
    (f"{KRUM_BACKDOOR}, fMNIST, ASR", "Krum"): 98.3,
    (f"{KRUM_BACKDOOR}, CIFAR-10, Acc", "Krum"): 48.1,
    (f"{KRUM_BACKDOOR}, Kather, ASR", "FLTrust"): 19.4,
    (f"{COOMED_BACKDOOR}, fMNIST, ASR", "Bulyan"): 85.0,
    (f"{COOMED_BACKDOOR}, CIFAR-10, ASR", "FLTrust"): 20.3,
    (f"{COOMED_BACKDOOR}, Kather, Acc", "FedAvg"): 75.3,
    (f"{COOMED_BACKDOOR}, Kather, Acc", "FLARE"): 77.8,
  },
  "flare:table4": {
    ("Attack-Krum-Untargeted, fMNIST", "Krum"): 6.93,
    ("Attack-Krum-Untargeted, Kather", "FLTrust"): 11.6,
    (f"{TM}, fMNIST", "TrimmedMean"): 61.1,
    (f"{TM}, CIFAR-10", "FLARE"): 67.5,
  },
  "flare:table5": {
    ("Attack-Krum-Backdoor, ASR", "Krum"): 75.0,
    ("Attack-Krum-Backdoor, ASR", "FLARE"): 1.6,
    ("Attack-Coomed-Backdoor, ASR", "Coomed"): 86.7,
    ("Attack-Coomed-Backdoor, ASR", "FLARE"): 5.0,
  },
  "flare:fig7": {(f"{KRUM_BACKDOOR}, fMNIST", "Krum"): 100},
  "flare:fig8": {(f"{KRUM_BACKDOOR}, CIFAR-10", "FLARE"): 0},
  "flare:fig9": {(f"{COOMED_BACKDOOR}, Kather", "FLARE"): 0},
  "flare:fig11a": {("n = 10", "no defense"): 80, ("n = 50", "FLARE"): 0},
  "flare:fig11b": {("p = 25 %", "FLARE"): 0, ("p = 30 %", "FLARE"): None},
  "flare:fig12": {("(a) confidence", "no defense"): 90, ("(a) ASR", "FLARE"): 0},
  "flare:aux_size": {("m = 7", "FLARE"): 0, ("m = 5", "FLARE"): None},
  "flare:overhead": {("n = 10", "FLARE"): 3.2, ("n = 50", "FLARE"): 28.3},
  "fl_plas:table2": {
    ("Clean Classifier, BA", "Backdoor FE"): 10,
    ("Backdoor Classifier, MA", "Clean FE"): 98,
    ("Backdoor Classifier, BA", "Clean FE"): 100,
  },
  "fl_plas:table4": {
    (f"{TRIGGER}, MNIST, BA", "RSA"): 34,
    (f"{TRIGGER}, CIFAR-10, BA", "FL-PLAS"): 5,
    (f"{TRIGGER}, CIFAR-100, BA", "FLAME"): 83,
    (f"{NEW}, Semantic, BA", "FL-PLAS"): 0.4,
    (f"{NEW}, Edge-case, BA", "FLTrust"): 85,
  },
  "fl_plas:table5": {
    (f"{TRIGGER}, MNIST, MA", "noattack"): 97,
    (f"{TRIGGER}, CIFAR-10, MA", "RSA"): 44,
    (f"{TRIGGER}, CIFAR-100, MA", "FLAME"): 16,
    (f"{NEW}, Edge-case, MA", "FL-PLAS"): 75,
  },
  "fl_plas:table7": {
    ("10", "BA_atk"): 45.5,
    ("12", "BA"): 36.9,
    ("13 (classifier)", "MA"): 78.97,
  },
  "fl_plas:fig7": {("(a) MNIST, loss", "FL-PLAS"): 0.1},
}
# Figures whose values are drawn, and a table of complexities.
NO_NUMBERS = {f"flare:fig{n}" for n in (1, 4, 6, 10)}
NO_NUMBERS |= {f"fl_plas:fig{n}" for n in (3, 4, 5, 6, 8)} | {"fl_plas:table6"}


def small_file():
  return {
    "name": "flare:small",
    "paper": "flare",
    "title": "Small",
    "anchor": "Table 0",
    "kind": "table",
    "paper_runs": 3,
    "x": None,
    "unstated": ["The seed."],
    "deviations": [],
    "bands": {"accuracy": {"within": 2.0, "within_at_zero": 1.0, "reason": "seeds"}},
    "columns": {
      "FedAvg": {"defense": "fedavg"},
      "FLARE": {"defense": "flare"},
      "mean votes": {
        "defense": "flare",
        "defense_settings": {"temperature_mode": "mean_votes"},
        "reading_of": "FLARE",
      },
    },
    "rows": [
      {
        "label": "digits",
        "preset": "toy",
        "settings": {"rounds": 3},
        "metric": "accuracy",
        "reported_fraction": {"FedAvg": 0.07, "FLARE": 0},
      }
    ],
  }


def parse(**changes):
  return papers.parse({**small_file(), **changes}, "flare_small.json")


def parse_row(**changes):
  (row,) = small_file()["rows"]
  return parse(rows=[{**row, **changes}])


def cells_of(table):
  return {(cell.row, cell.column): cell for cell in table.cells}


def test_every_table_and_figure_of_both_papers_is_there():
  assert papers.names() == FLARE + PLAS


@pytest.mark.parametrize("name", FLARE + PLAS)
def test_table_says_where_it_stands_and_what_the_paper_leaves_open(name):
  table = papers.load(name)
  assert table.name == name and table.paper == name.split(":")[0]
  assert table.title and table.anchor and table.unstated
  assert table.paper_runs in ((3, None) if table.paper == "flare" else (None,))
  for sentence in (*table.unstated, *table.deviations):
    assert sentence.endswith(".") and len(sentence) > 10
  if table.x not in (None, "round"):
    assert all(table.x in cell.settings for cell in table.cells)


@pytest.mark.parametrize("name", FLARE + PLAS)
def test_cells_are_sound_and_named_once(name):
  cells = papers.load(name).cells
  assert cells and len({(c.row, c.column) for c in cells}) == len(cells)
  for cell in cells:
    assert cell.table == name and cell.preset in presets.PRESETS
    assert (cell.reported is None) == (cell.band is None)
    assert cell.comparable or cell.note
    if cell.reported is None and not cell.bound:
      assert cell.holds(0.0) is None
    if cell.reported is not None and cell.unit == "percent":
      assert 0 <= cell.reported <= 100


@pytest.mark.parametrize("name", FLARE + PLAS)
def test_every_run_of_every_cell_is_a_sound_experiment(name):
  for config in reproduction.plan(name, variants=["all"]).configs():  # checks them all
    assert config.dataset in datasets.DATASETS
    assert config.defense in aggregators.AGGREGATORS
    assert config.attack in ("none", *attacks.ATTACKS)


@pytest.mark.parametrize("name", PRINTED)
def test_numbers_are_those_of_the_paper(name):
  cells = cells_of(papers.load(name))
  for place, printed in PRINTED[name].items():
    assert cells[place].reported == printed, place


def test_every_table_is_spot_checked_or_prints_no_number():
  assert set(PRINTED) | NO_NUMBERS == set(papers.names())
  for name in NO_NUMBERS:
    assert all(cell.reported is None for cell in papers.load(name).cells)


def test_flares_backdoor_rate_is_that_over_rounds_on_unchanged_images():
  for cell in papers.load("flare:table3").cells:
    if cell.row.endswith(", ASR"):
      assert cell.metric == "attack_success_rate_over_rounds"
      assert cell.settings["attack_settings"]["kind"] == "semantic"


def test_kather_is_run_but_not_compared():
  for name in ("flare:table2", "flare:table3", "flare:table4", "flare:fig9"):
    for cell in papers.load(name).cells:
      assert cell.comparable == (cell.preset != "flare_kather")
      assert cell.comparable or "5,000" in cell.note


def test_seconds_of_another_machine_are_not_compared():
  cells = cells_of(papers.load("flare:overhead"))
  cell = cells["n = 10", "FLARE"]
  assert (cell.unit, cell.comparable, cell.holds(3.2)) == ("seconds", False, None)


def test_layers_of_table_7_follow_both_readings():
  cells = cells_of(papers.load("fl_plas:table7"))
  cuts = {row: cells[row, "BA"].settings["shared_cut"] for row, _ in cells}
  assert cuts["12"] == "table7_a_12" and cuts["12, one block fewer"] == "table7_b_12"
  assert cells["12, one block fewer", "BA"].reading_of == "12"


def test_fractions_become_percent_and_zero_has_its_own_band():
  cells = cells_of(parse())
  fedavg, flare = cells["digits", "FedAvg"], cells["digits", "FLARE"]
  assert (fedavg.reported, fedavg.unit, fedavg.band) == (7.0, "percent", 2.0)
  assert (flare.reported, flare.band) == (0.0, 1.0)


@pytest.mark.parametrize(
  ("printed", "band"), [(0.0, 5.0), (0.07, 5.3), (0.15, 13.3), (0.2, 15.0)]
)
def test_an_attack_that_never_works_is_not_one_that_worked_a_little(printed, band):
  """Up to `within`, a band ends a step short of zero."""
  bands = {"accuracy": {"within": 15, "within_at_zero": 5, "step": 1.7, "reason": "?"}}
  (row,) = small_file()["rows"]
  table = parse(bands=bands, rows=[{**row, "reported_fraction": {"FedAvg": printed}}])
  assert cells_of(table)["digits", "FedAvg"].band == pytest.approx(band)


def test_settings_of_row_and_column_are_joined():
  cell = cells_of(parse())["digits", "mean votes"]
  assert cell.settings == {
    "rounds": 3,
    "defense": "flare",
    "defense_settings": {"temperature_mode": "mean_votes"},
  }
  assert cell.reading_of == "FLARE" and cell.reported == 0.0


def test_a_reading_of_a_row_keeps_its_numbers_and_is_run_on_request():
  reading = {"label": "short", "settings": {"rounds": 1}, "note": "Why."}
  cells = cells_of(parse_row(readings=[reading]))
  cell = cells["digits [short]", "FedAvg"]
  assert (cell.variant, cell.reading_of, cell.reported) == ("short", "digits", 7.0)
  assert cell.settings["rounds"] == 1 and cell.note == "Why."
  assert cells["digits", "FedAvg"].variant is None


@pytest.mark.parametrize(
  ("value", "holds"), [(5.0, True), (9.0, True), (4.9, False), (9.1, False)]
)
def test_a_cell_holds_within_its_band_and_at_its_ends(value, holds):
  assert cells_of(parse())["digits", "FedAvg"].holds(value) is holds


def test_bounds_of_the_text_hold_on_one_side():
  printed = {"FedAvg": {"above": 0.8}, "FLARE": {"below": 0.1}}
  cells = cells_of(parse_row(reported_fraction=printed))
  above, below = cells["digits", "FedAvg"], cells["digits", "FLARE"]
  assert [above.holds(v) for v in (79.0, 80.0, 100.0)] == [False, True, True]
  assert [below.holds(v) for v in (0.0, 10.0, 11.0)] == [True, True, False]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"metric": "accurracy"}, "row 'digits': `metric` .*Did you mean `accuracy`"),
    ({"preset": "toyy"}, "row 'digits': `preset` .*Did you mean `toy`"),
    ({"settings": {"roundz": 3}}, "no 'roundz'. Did you mean `rounds`"),
    ({"settings": {"dataset": "minst"}}, "`dataset` .*Did you mean `mnist`"),
    ({"settings": {"attack": "krum"}}, "row 'digits': `attack` must be one of"),
    ({"reported_fraction": {"Krum": 0.5}}, "row 'digits', column 'Krum': it must be"),
    (
      {"reported_fraction": {"FLARE": "7"}},
      "column 'FLARE': .* finite number, got '7'",
    ),
    ({"reported_fraction": {"FLARE": {"near": 1}}}, "column 'FLARE': .*\"above\""),
    ({"reported_percent": {"FLARE": 7}}, "one unit"),
    ({"band": "wide"}, "must have a band, got none for 'wide'"),
    ({"comparable": False}, "`note` must say why"),
    ({"commparable": False}, "no 'commparable'. Did you mean `comparable`"),
    ({"readings": [{"label": "x", "settings": {"sed": 1}}]}, "reading 'x': .*'sed'"),
    ({"readings": [{"note": "?", "settings": {}}]}, "reading None: 'label' must be"),
    ({"readings": [{"note": "?", "label": "x"}]}, "reading 'x': 'settings' must be"),
    ({"columns": ["FLAER"]}, "row 'digits': `columns` .*Did you mean `FLARE`"),
  ],
)
def test_a_wrong_row_is_told_with_file_and_cell(change, message):
  with pytest.raises(papers.PaperError, match=rf"(?s)flare_small.json has .*{message}"):
    parse_row(**change)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"kind": "tabel"}, "`kind` .*Did you mean `table`"),
    ({"x": "clients"}, "`x` must be one of round"),
    ({"bands": {"accuracy": {"within": -1, "reason": "?"}}}, ">= 0, got -1"),
    ({"bands": {"accuracy": {"within": 1}}}, "`reason` must say why"),
    ({"bands": {"accuracy": {"within": 1, "step": 1}}}, "beside `step`, got none"),
    ({"rows": 2 * small_file()["rows"]}, "row 'digits': a label must stand once"),
    ({"columns": {"FLARE": {"defense": "flair"}}}, "Did you mean `flare`"),
    ({"columns": {"FLARE": {}}}, "column 'FLARE': `defense` must be given"),
  ],
)
def test_a_wrong_table_is_told_with_its_file(change, message):
  with pytest.raises(papers.PaperError, match=rf"(?s)flare_small.json has .*{message}"):
    parse(**change)


def test_missing_parts_are_named():
  content = copy.deepcopy(small_file())
  del content["bands"], content["rows"]
  with pytest.raises(papers.PaperError, match="must have 'bands', 'rows'"):
    papers.parse(content, "flare_small.json")


def test_unknown_table_raises_with_the_nearest():
  with pytest.raises(ValueError, match="Did you mean `flare:table3`"):
    papers.load("flare:tabel3")


def test_a_file_of_an_unknown_paper_hides_no_table(tmp_path, monkeypatch):
  monkeypatch.setattr(papers, "_folder", lambda: tmp_path)
  for name in ("flare_small", "mypaper_table1", "fl_plas_small"):
    (tmp_path / f"{name}.json").write_text("{}")
  message = "mypaper_table1.json must begin .*flare, fl_plas.*`papers.PAPER_NAMES`"
  with pytest.raises(papers.PaperError, match=message):
    papers.names()


def test_another_paper_costs_a_line(tmp_path, monkeypatch):
  content = {**small_file(), "name": "mypaper:small", "paper": "mypaper"}
  with pytest.raises(papers.PaperError, match="`paper` must be one of flare, fl_plas;"):
    papers.parse(content, "mypaper_small.json")
  monkeypatch.setitem(papers.PAPER_NAMES, "mypaper", "My paper")
  monkeypatch.setattr(papers, "_folder", lambda: tmp_path)
  (tmp_path / "mypaper_small.json").write_text(json.dumps(content))
  assert papers.names() == ["mypaper:small"]
  assert papers.parse(content, "mypaper_small.json").paper == "mypaper"


def test_file_that_is_no_json_or_has_another_name_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(papers, "_folder", lambda: tmp_path)
  (tmp_path / "flare_broken.json").write_text("{")
  (tmp_path / "flare_moved.json").write_text(json.dumps(small_file()))
  with pytest.raises(papers.PaperError, match=r"flare_broken.json must be JSON"):
    papers.load("flare:broken")
  with pytest.raises(papers.PaperError, match=r"flare_moved.json must have `name`"):
    papers.load("flare:moved")


def test_a_small_printed_success_is_not_met_by_an_attack_that_never_works():
  cells = {
    (cell.row, cell.column): cell
    for name in ("flare:table3", "flare:table5")
    for cell in papers.load(name).cells
    if cell.reported and cell.metric == "attack_success_rate_over_rounds"
  }
  small = [cell for cell in cells.values() if 5 < cell.reported < 20]
  assert len(small) >= 3 and not any(cell.holds(0.0) for cell in small)
  fedavg = cells["Attack-Krum-Backdoor (semantic), fMNIST, ASR", "FedAvg"]
  assert fedavg.band == pytest.approx(8.3 - 1.7)


def test_a_model_that_knows_nothing_reproduces_no_cell_of_cifar100():
  for name in ("fl_plas:table4", "fl_plas:table5"):
    cells = [c for c in papers.load(name).cells if c.preset == "fl_plas_cifar100"]
    assert cells and not any(cell.comparable for cell in cells)
