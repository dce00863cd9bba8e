"""What a rule or an attack refuses, or lacks, is told before the first of many runs."""

import pytest

from tests.experiments.toy_runs import toy
from tff_defenses import experiments
from tff_defenses.experiments import (
  aggregation,
  grid,
  loop,
  training_attacks,
  trial_builds,
)
from tff_defenses.experiments.config import ConfigError


def grid_of(**settings):
  return experiments.expand(None, {"dataset": "mnist5k", **settings})


def check(*changes):
  trial_builds.check([toy(f"run{i}", "unused", **c) for i, c in enumerate(changes)])


def test_every_sensible_pair_of_rule_and_attack_is_built():
  configs = grid_of(
    defense=["all"], attack=["all"], num_clients=10, malicious_fraction=0.2
  )
  assert len(configs) > 200
  trial_builds.check(configs)


def test_all_faults_are_told_at_once():
  attack = {"attack": "trigger", "malicious_fraction": 0.34}
  with pytest.raises(ConfigError) as error:
    check(
      {"defense": "krum", "defense_settings": {"varient": "authors"}},
      {"defense": "flare", "defense_settings": {"temperature_mode": "hot"}},
      {**attack, "attack_settings": {"fractoin": 0.3}},
      {**attack, "attack": "krum_backdoor", "attack_settings": {"kind": "semantik"}},
      {**attack, "attack": "min_max", "attack_settings": {"gama": 1.0}},
    )
  lines = str(error.value).splitlines()
  assert lines[0] == "5 fault(s) in settings and data:"
  for word in ("varient", "hot", "fractoin", "semantik", "gama"):
    assert sum(word in line for line in lines) == 1


def test_missing_data_and_files_are_told_with_the_rest(tmp_path):
  edge_case = {"dataset": "cifar10", "attack": "edge_case", "malicious_fraction": 0.34}
  places = {"data_dir": str(tmp_path)}
  with pytest.raises(ConfigError) as error:
    check(
      {**places, "defense": "krum", "defense_settings": {"varient": "authors"}},
      {**places, "dataset": "kather"},
      {**places, **edge_case},
      {**places, **edge_case, "seed": 1},
    )
  lines = str(error.value).splitlines()
  assert lines[0] == "4 fault(s) in settings and data:"
  for words in ("Kather", "data_batch_1.bin", "varient", "southwest_train.npy"):
    assert sum(words in line for line in lines) == 1
  (tmp_path / "southwest_train.npy").touch()
  (tmp_path / "southwest_test.npy").touch()
  with pytest.raises(ConfigError, match="^1 fault.*\n.*data_batch_1"):
    check({**places, **edge_case}, {**places, **edge_case, "seed": 1})


@pytest.mark.usefixtures("isolated")
def test_what_a_single_run_lacks_is_told_whole_before_it_starts(tmp_path, monkeypatch):
  monkeypatch.setattr(loop, "run", lambda *_, **__: pytest.fail("begun"))
  attack = {"attack": "edge_case", "malicious_fraction": 0.34, "model": "cifar_cnn"}
  places = {"dataset": "cifar10", "data_dir": str(tmp_path / "raw")}
  config = toy(tmp_path / "run", tmp_path, **places, **attack)
  with pytest.raises(ConfigError) as error:
    grid.run([config], None)
  lines = str(error.value).splitlines()
  assert lines[0] == "2 fault(s) in settings and data:"
  assert "data_batch_1.bin" in lines[1] and "southwest_train.npy" in lines[2]
  # Longer than a failed run's line, and whole: its end says what to do.
  assert len(lines[1]) > 600 and lines[1].endswith("parent folder as `data_dir`.")
  assert "cifar-10-binary.tar.gz" in lines[1]


def test_classes_that_the_data_lack_are_told_before_the_first_run():
  attack = {"attack": "krum_backdoor", "malicious_fraction": 0.34}
  with pytest.raises(ConfigError, match=r"^1 fault.*\n.*`target_class` in 0\.\.9"):
    check({**attack, "attack_settings": {"target_class": 12}}, attack)


def test_number_of_targets_is_left_to_the_real_images():
  settings = {"num_targets": 9_000}  # more than mnist5k has
  attack = {"attack": "krum_backdoor", "malicious_fraction": 0.34}
  check({**attack, "attack_settings": settings}, {**attack, "attack_settings": {}})


def test_a_single_run_is_not_built_twice(monkeypatch):
  monkeypatch.setattr(aggregation, "build_aggregator", None)
  monkeypatch.setattr(training_attacks, "build_training_attack", None)
  check({"defense": "krum", "defense_settings": {"varient": "authors"}})


def test_no_run_of_a_grid_begins(tmp_path, monkeypatch):
  monkeypatch.setattr(loop, "run", lambda *_, **__: pytest.fail("begun"))
  bad = {"defense": "krum", "defense_settings": {"varient": "authors"}}
  configs = [
    toy(tmp_path / name, tmp_path, **changes)
    for name, changes in {"good": {}, "bad": bad}.items()
  ]
  with pytest.raises(ConfigError, match="1 fault.*\n.*krum.*varient"):
    grid.run(configs, None)
