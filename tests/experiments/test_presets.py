"""Presets: each is a sound experiment with every defense it may be run with."""

import pytest

from tff_defenses.experiments import presets
from tff_defenses.experiments.config import ExperimentConfig, attacks_kind


@pytest.mark.parametrize("name", presets.PRESETS)
def test_preset_is_sound(name):
  settings = presets.PRESETS[name]
  assert "defense" not in settings  # `--defense` chooses
  ExperimentConfig(**settings, defense="krum").check()
  if attacks_kind(settings.get("attack", "none")) != "training":
    ExperimentConfig(**settings, defense="fl_plas").check()


def test_settings_of_the_papers():
  flare = ExperimentConfig(**presets.PRESETS["flare_fashion_mnist"])
  assert (flare.num_drawn, flare.num_malicious, flare.rounds) == (10, 1, 20)
  assert (flare.local_epochs, flare.batch_size, flare.aux_size) == (5, 64, 10)
  plas = ExperimentConfig(**presets.PRESETS["fl_plas_mnist"])
  assert (plas.num_clients, plas.num_drawn, plas.num_malicious_drawn) == (100, 30, 27)
  assert (plas.rounds, plas.learning_rate, plas.rate_decay) == (200, 6.7e-3, 0.998)


def test_fl_plas_starts_from_a_stated_number_of_clean_rounds():
  plas = {n: ExperimentConfig(**s) for n, s in presets.PRESETS.items() if "plas" in n}
  rounds = {name: config.warmup_rounds for name, config in plas.items()}
  assert rounds.pop("fl_plas_mnist") == 20 and set(rounds.values()) == {10}
  pooled = {n for n, config in plas.items() if config.warmup_pooled}
  assert pooled == set(rounds)  # all but MNIST's
  assert {config.eval_every for config in plas.values()} == {10}


def test_fl_plas_has_a_preset_for_each_of_its_attacks_and_data_sets():
  semantic = ExperimentConfig(**presets.PRESETS["fl_plas_semantic"])
  edge = ExperimentConfig(**presets.PRESETS["fl_plas_edge_case"])
  assert (semantic.dataset, semantic.attack) == ("cifar10", "semantic")
  assert (edge.dataset, edge.attack, edge.model) == (
    "cifar10",
    "edge_case",
    "mobilenet",
  )
  hundred = ExperimentConfig(**presets.PRESETS["fl_plas_cifar100"])
  assert (hundred.model, hundred.learning_rate) == ("resnet18", 1.5e-5)
  assert hundred.root_per_class * 100 == 100  # FLTrust's root data, as Sec. 6.1


def test_quick_start_compares_each_defense_with_fedavg():
  assert [part.number for part in presets.QUICK_START] == [1, 2]
  for part in presets.QUICK_START:
    assert part.defenses[0] == "fedavg" and len(part.defenses) > 1
    for defense in part.defenses:
      ExperimentConfig(**part.settings, defense=defense).check()
