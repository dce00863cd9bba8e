"""From a paper's table to runs: narrowing, shared runs, folders."""

import dataclasses
import json
import os

import pytest

import tff_defenses
from tff_defenses.experiments import reproduction
from tff_defenses.experiments.config import ConfigError
from tff_defenses.experiments.errors import OutputError
from tff_defenses.experiments.presets import PRESETS

plan = reproduction.plan


def cell_of(made, row, column):
  (found,) = (c for c in made.cells if (c.row, c.column) == (row, column))
  return found


@pytest.mark.parametrize("scale", [0, -0.1, 1.5, float("nan"), True, "0.1"])
def test_scale_out_of_range_raises(scale):
  with pytest.raises(ConfigError, match=r"`scale` must be in \(0, 1\]"):
    plan("flare:table3", scale=scale)


def test_seeds_are_as_many_as_the_papers_runs():
  assert plan("flare:table3").seeds == (0, 1, 2)
  assert plan("fl_plas:table4").seeds == (0,)
  assert plan("flare:overhead").seeds == (0,)
  assert plan("flare:table3", seeds=[5, 7, 5]).seeds == (5, 7)
  with pytest.raises(ConfigError, match="`seeds` must hold"):
    plan("flare:table3", seeds=[])


def test_cells_of_one_run_share_it():
  made = plan("flare:table3", seeds=[0])
  row = "Attack-Krum-Backdoor (semantic), fMNIST, "
  both = [made.config_of(cell_of(made, row + m, "Krum"), 0) for m in ("Acc", "ASR")]
  assert both[0] == both[1]
  # 6 rows of data and attack, 7 printed columns and mean votes; 3 runs without attack.
  assert len(made.configs()) == 6 * 8 + 3
  folders = [config.output_dir for config in made.configs()]
  assert len(set(folders)) == len(folders)


def test_seeds_pair_across_defenses():
  made = plan("flare:table3", seeds=[4])
  row = "Attack-Krum-Backdoor (semantic), fMNIST, Acc"
  krum, flare = (made.config_of(cell_of(made, row, c), 4) for c in ("Krum", "FLARE"))
  same = {"defense": "krum", "defense_settings": {}, "output_dir": krum.output_dir}
  assert dataclasses.replace(flare, **same) == krum and krum.seed == 4


def test_seeds_vary_slowest():
  seeds = [config.seed for config in plan("flare:table2").configs()]
  assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}


def test_runs_have_folders_of_their_own_below_the_plans():
  (config,) = plan("flare:fig1", output_dir="here", data_dir="raw").configs()
  name = f"fashion_mnist-flare-krum_backdoor-{config.hash()}"
  assert config.output_dir == os.path.join("here", name)
  assert config.data_dir == "raw"


def test_default_folder_names_table_and_scale():
  assert plan("flare:table3").output_dir == os.path.join("results", "flare-table3")
  reduced = plan("fl_plas:fig3", scale=0.1).output_dir
  assert reduced == os.path.join("results", "fl_plas-fig3-scale0.1")


def test_defenses_and_data_sets_narrow_and_a_defense_keeps_all_its_columns():
  made = plan("flare:table3", defenses=["flare"], datasets=["cifar10"])
  assert {c.column for c in made.cells} == {"FLARE", "FLARE, mean votes"}
  assert {c.preset for c in made.cells} == {"flare_cifar10"}
  assert plan("flare:table3", defenses=["all"]).cells == plan("flare:table3").cells


def test_unknown_names_raise_with_those_of_the_table():
  with pytest.raises(ConfigError, match="`defense` must be one of fedavg.*`krum`"):
    plan("flare:table3", defenses=["krun"])
  with pytest.raises(ConfigError, match="flare:table5: `dataset` .* fashion_mnist; "):
    plan("flare:table5", datasets=["cifar10"])
  with pytest.raises(ValueError, match="Did you mean `flare:table3`"):
    plan("flare:table33")
  with pytest.raises(ConfigError, match="`attack` .*Did you mean `fang_krum`"):
    plan("flare:table4", attacks=["fangkrum"])
  with pytest.raises(ConfigError, match="`defense` must hold"):
    plan("flare:table3", defenses=[])


def test_all_that_a_table_does_not_have_is_told_at_once():
  with pytest.raises(ConfigError) as caught:
    plan(
      "flare:table3",
      scale=2,
      seeds=[],
      defenses=["krun"],
      attacks=["fangkrum"],
      rows=["no such row"],
      variants=["no such reading"],
    )
  message = str(caught.value)
  assert message.startswith("6 fault(s) in flare:table3:\n  - plan: `scale` must be")
  for field in ("seeds", "defense", "attack", "rows", "variants"):
    assert message.count(f"`{field}` must") == 1, field


def test_a_table_is_narrowed_to_attacks():
  made = plan("flare:table3", attacks=["none", "krum_backdoor"], seeds=[0])
  assert {c.attack for c in made.configs()} == {"none", "krum_backdoor"}
  with pytest.raises(ConfigError, match="none with all"):
    plan("flare:table3", attacks=["none"], defenses=["krum"])


def test_a_table_is_narrowed_to_rows():
  made = plan("flare:fig11a", rows=["N = 30"], seeds=[0])
  assert {c.num_clients for c in made.configs()} == {30}
  made = plan("fl_plas:fig3", rows=["mnist, ba, 90 %", "CIFAR-10, BA, 0 %"], seeds=[0])
  found = {(c.dataset, c.malicious_fraction) for c in made.configs()}
  assert found == {("mnist", 0.9), ("cifar10", 0.0)}


def test_a_rows_other_readings_come_with_it():
  row = "(a) Trigger attack, MNIST, BA"
  made = plan("fl_plas:table4", rows=[row], variants=["split"])
  assert {c.row for c in made.cells} == {row, f"{row} [split as published]"}


def test_unknown_row_raises_with_those_of_the_table():
  with pytest.raises(ConfigError, match=r"got 'n = 11'. It has: n = 10;"):
    plan("flare:fig11a", rows=["n = 11"])
  with pytest.raises(ConfigError, match="rows asked for, got none with all"):
    plan("flare:table3", rows=["fMNIST"], datasets=["cifar10"])


def test_variants_are_run_on_request():
  columns = {c.column for c in plan("flare:table4").cells}
  more = {c.column for c in plan("flare:table4", variants=["all"]).cells}
  assert "Krum, authors' code" not in columns and columns < more
  assert {"Krum, authors' code", "FLTrust, absolute cosine"} <= more
  published = [
    plan("fl_plas:table4", variants=wanted, seeds=[0]).configs()
    for wanted in ([], ["Split AS"])
  ]
  assert [any(c.as_published for c in found) for found in published] == [False, True]


def test_one_variant_is_chosen_by_part_of_its_name():
  made = plan("fl_plas:table4", variants=["split", "ROOT"])
  assert set(made.variants) == {"split as published", "FLTrust, 2 root epochs"}
  assert {c.variant for c in made.cells} == {None, *made.variants}


def test_a_whole_name_stands_for_itself_alone():
  made = plan("flare:table4", variants=["Authors' code"])
  assert made.variants == ("authors' code",)
  made = plan("flare:table4", variants=["authors"])
  assert {"authors' code", "Krum, authors' code"} < set(made.variants)


def test_a_variant_that_is_narrowed_away_is_refused():
  with pytest.raises(ConfigError, match="got none for one draw"):
    plan("flare:table4", variants=["one draw"], attacks=["fang_krum"])
  made = plan("flare:table4", variants=["all"], attacks=["fang_krum"])
  assert {c.attack for c in made.configs()} == {"fang_krum"}


@pytest.mark.parametrize("damaged", [False, None, "0"])
def test_a_plan_file_without_lists_is_damaged(tmp_path, damaged):
  made = plan("flare:table4", scale=0.1, output_dir=str(tmp_path))
  made.save()
  content = json.loads((tmp_path / "plan.json").read_text())
  (tmp_path / "plan.json").write_text(json.dumps({**content, "variants": damaged}))
  for use in (made.save, lambda: reproduction.read(tmp_path)):
    with pytest.raises(OutputError, match="sound plan.json"):
      use()


def test_unknown_variant_raises_with_those_of_the_table():
  with pytest.raises(ConfigError, match="got ''"):
    plan("fl_plas:table4", variants=[""])
  with pytest.raises(ConfigError, match=r"got 'slpit'. It has: .*split as published;"):
    plan("fl_plas:table4", variants=["root", "slpit"])
  with pytest.raises(ConfigError, match="It has: none"):
    plan("flare:fig1", variants=["split"])


def test_from_scratch_leaves_out_the_warm_start():
  warm, cold = (
    plan("fl_plas:table7", from_scratch=scratch).configs() for scratch in (False, True)
  )
  assert {c.warmup_rounds for c in warm} == {10}
  assert {c.warmup_rounds for c in cold} == {0}


def test_run_without_attack_has_nobody_malicious_and_no_settings_of_one():
  made = plan("fl_plas:table5")
  cell = cell_of(made, "(a) Trigger attack, MNIST, MA", "noattack")
  config = made.config_of(cell, 0)
  assert (config.attack, config.attack_settings) == ("none", {})
  assert config.malicious_fraction == 0.0


def test_settings_of_the_presets_attack_are_joined_or_left():
  made = plan("fl_plas:table4", variants=["text"])
  row = "(a) Trigger attack, MNIST, BA [trigger of the text]"
  config = made.config_of(cell_of(made, row, "FedAvg"), 0)
  expected = {"pattern": "flplas_mnist_paper", "fraction": 0.3}
  assert config.attack_settings == expected
  semantic = cell_of(made, "(b) New types of attack, Semantic, BA", "FedAvg")
  assert made.config_of(semantic, 0).attack_settings == {}


def test_faults_of_all_runs_are_told_at_once(monkeypatch):
  broken = {**PRESETS["flare_fashion_mnist"], "rounds": 0, "batch_size": 0}
  monkeypatch.setitem(PRESETS, "flare_fashion_mnist", broken)
  with pytest.raises(ConfigError, match=r"2 fault\(s\) in flare:table5") as raised:
    plan("flare:table5").configs()
  assert "`rounds`" in str(raised.value) and "`batch_size`" in str(raised.value)


def test_plan_is_kept_without_its_narrowing_and_read_again(tmp_path):
  folder = str(tmp_path / "out")
  made = plan(
    "flare:table3", scale=0.1, seeds=[9], defenses=["krum"], output_dir=folder
  )
  made.save()
  made.save()
  assert json.loads((tmp_path / "out" / "plan.json").read_text()) == {
    "version": tff_defenses.__version__,
    "name": "flare:table3",
    "scale": 0.1,
    "from_scratch": False,
    "variants": [],
    "seeds": [9],
  }
  assert sorted(os.listdir(folder)) == [".plan", "plan.json"]
  found = reproduction.read(folder)
  assert found == plan("flare:table3", scale=0.1, seeds=[9], output_dir=folder)


def test_plan_remembers_all_seeds_and_variants_ever_asked_for(tmp_path):
  settings = {"scale": 0.1, "output_dir": str(tmp_path / "out")}
  for seeds, variants in (([4], ["split"]), ([1, 2], ["root"]), ([1], [])):
    plan("fl_plas:table4", seeds=seeds, variants=variants, **settings).save()
  found = reproduction.read(settings["output_dir"])
  assert found.seeds == (1, 2, 4)
  assert set(found.variants) == {"split as published", "FLTrust, 2 root epochs"}


@pytest.mark.parametrize(
  ("changes", "field"),
  [
    ({"name": "fl_plas:table4"}, "name"),
    ({"scale": 0.5}, "scale"),
    ({"from_scratch": True}, "from_scratch"),
  ],
)
def test_folder_of_another_plan_is_refused_by_name(tmp_path, changes, field):
  settings = {"name": "fl_plas:table5", "scale": 0.1, "output_dir": str(tmp_path)}
  plan(**settings).save()
  before = (tmp_path / "plan.json").read_bytes()
  with pytest.raises(OutputError, match=rf"{tmp_path} must hold .*`{field}`"):
    plan(**{**settings, **changes}).save()
  assert (tmp_path / "plan.json").read_bytes() == before


def test_folder_without_a_plan_has_none(tmp_path):
  assert reproduction.read(tmp_path) is None


def test_plan_of_another_version_is_read_and_not_added_to(tmp_path):
  """Published tables stay readable; runs of two versions do not share a table."""
  made = plan("flare:table2", seeds=[0], output_dir=str(tmp_path))
  made.save()
  file = tmp_path / "plan.json"
  file.write_text(json.dumps({**json.loads(file.read_text()), "version": "0.0.1"}))
  assert reproduction.read(tmp_path).seeds == (0,)
  with pytest.raises(OutputError, match=r"`version` .* got '0.0.1'"):
    made.save()


def test_a_start_of_its_own_has_a_folder_of_its_own():
  made = reproduction.plan("fl_plas:table4", scale=0.1, from_scratch=True)
  assert made.output_dir == "results/fl_plas-table4-scratch-scale0.1"


def test_a_start_is_left_out_only_where_there_is_one():
  with pytest.raises(ConfigError, match="`from_scratch` must be left out for flare:"):
    reproduction.plan("flare:table2", from_scratch=True).configs()


@pytest.mark.parametrize(
  "text", ["{", "[]", json.dumps({"version": tff_defenses.__version__})]
)
def test_plan_that_is_damaged_is_refused(tmp_path, text):
  (tmp_path / "plan.json").write_text(text)
  with pytest.raises(OutputError, match="sound plan.json"):
    reproduction.read(tmp_path)


def test_unwritable_folder_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  made = plan("flare:table3", output_dir=str(tmp_path / "file" / "below"))
  with pytest.raises(OutputError, match="`output_dir`"):
    made.save()
