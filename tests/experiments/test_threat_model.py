"""What config.json says of the attackers."""

import pytest

import attacks
from tff_defenses.experiments import threat_model
from tff_defenses.experiments.config import ExperimentConfig


def record(**settings):
  return threat_model.record(ExperimentConfig(**settings))


def test_without_an_attack_nobody_is_malicious():
  found = record()
  assert found["attack"] == "none" and found["kind"] is None
  assert found["malicious_clients"] == [] and found["sees"] == []
  assert found["true_num_byzantine"] == found["told_num_byzantine"] == 0


def test_update_attack_of_a_part_of_the_clients():
  found = record(
    attack="inner_product",
    attack_settings={"epsilon": 2.0},
    num_clients=20,
    clients_per_round=10,
    malicious_fraction=0.3,
    num_byzantine=1,
    rounds=9,
    attack_start=3,
  )
  assert found["malicious_clients"] == list(range(14, 20))
  assert found["malicious_per_round"] == found["true_num_byzantine"] == 3
  assert found["told_num_byzantine"] == 1
  assert found["sees"] == ["benign_updates"] and found["boost"] == 2.0
  assert (found["first_round"], found["last_round"]) == (3, 9)


def test_what_is_seen_follows_the_form_of_the_attack():
  paper = {"form": "paper", "anchor": "benign_mean"}
  found = record(attack="coomed_backdoor", attack_settings=paper)
  assert found["sees"] == ["benign_updates", "own_data", "own_training"]
  found = record(attack="krum_backdoor", attack_settings={"form": "self"})
  assert found["sees"] == ["own_data", "own_training"]


@pytest.mark.parametrize(
  "attack",
  [
    *("fang_krum", "fang_trimmed_mean", "little_is_enough"),
    *("inner_product", "min_max", "min_sum"),
  ],
)
def test_what_is_seen_follows_the_knowledge_of_an_update_attack(attack):
  spec = attacks.ATTACKS[attack]
  full = record(attack=attack, attack_settings={"knowledge": "full"})["sees"]
  assert full == record(attack=attack)["sees"] == sorted(spec.sees)
  partial = record(attack=attack, attack_settings={"knowledge": "partial"})["sees"]
  assert partial == sorted(spec.sees - {"benign_updates"} | {"own_training"})


@pytest.mark.parametrize(
  ("attack", "settings", "malicious", "twice"),
  [
    ("none", {}, 2, False),
    ("trigger", {}, 2, False),
    ("sign_flip", {}, 1, True),
    ("krum_backdoor", {}, 1, True),  # shown the benign mean
    ("krum_backdoor", {"form": "self"}, 1, False),
    ("krum_backdoor", {"form": "self"}, 2, True),  # FLARE's attackers collude
    ("krum_backdoor", {"form": "self", "collude": "none"}, 2, False),
    ("scaling", {}, 2, False),
    ("scaling", {"collude": "copy"}, 2, True),
  ],
)
def test_updates_that_an_attack_needs_are_gathered_first(
  attack, settings, malicious, twice
):
  config = ExperimentConfig(
    attack=attack, attack_settings=settings, malicious_fraction=malicious / 10
  )
  assert threat_model.aggregates_twice(config) == twice


@pytest.mark.parametrize(("stop", "last"), [(None, 5), (4, 4), (8, 5)])
def test_the_attack_ends_with_the_run_at_the_latest(stop, last):
  found = record(attack="sign_flip", rounds=5, attack_stop=stop)
  assert found["last_round"] == last


def test_rounds_outside_the_attack():
  config = ExperimentConfig(attack="sign_flip", attack_start=2, attack_stop=3)
  assert [r for r in range(1, 6) if config.attacks_in(r)] == [2, 3]
