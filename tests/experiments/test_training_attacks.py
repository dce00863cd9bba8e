"""What the harness supplies to training attacks, and which data attack goes along."""

import collections
import dataclasses

import numpy as np
import pytest

import attacks
from attacks.training import targets
from tests.experiments.toy_runs import toy
from tff_defenses.experiments import training_attacks
from tff_defenses.experiments.config import ConfigError

Fed = collections.namedtuple("Fed", ["targets", "class_names"])
FED = Fed(
  targets.Targets(np.zeros([1, 28, 28, 1], np.float32), np.int32([3]), np.int32([4])),
  tuple("0123456789"),
)
TRAINING = [n for n, spec in attacks.ATTACKS.items() if spec.kind == "training"]


def build(attack, **changes):
  config = toy("unused", "unused", attack=attack, malicious_fraction=0.34, **changes)
  config.check()
  return training_attacks.build_training_attack(config, FED)


@pytest.mark.parametrize("name", TRAINING)
def test_every_training_attack_is_built_from_its_entrys_needs(name):
  built = build(name)
  assert built.sees <= attacks.ATTACKS[name].sees


def test_every_word_that_an_entry_may_need_is_supplied(monkeypatch):
  needs = attacks.NEEDS["training"]
  spec = dataclasses.replace(attacks.ATTACKS["projected"], build=dict, needs=needs)
  monkeypatch.setitem(attacks.ATTACKS, "projected", spec)
  assert set(build("projected")) == needs


def test_no_attack_and_data_attacks_build_nothing():
  assert build("none") is None and build("trigger") is None


def test_scaling_learns_the_sizes_of_a_round():
  """10 clients, 3 malicious, 5 drawn: 2 of them malicious (0.34 * 5 rounded)."""
  built = build("scaling", num_clients=10, clients_per_round=5)
  assert (built.num_clients, built.num_malicious) == (5, 2)
  assert built.factor == 2.5


def test_scaling_without_malicious_clients_is_built_and_not_used():
  config = toy("unused", "unused", attack="scaling", malicious_fraction=0.0)
  assert training_attacks.build_training_attack(config, FED).num_malicious == 1


def test_settings_of_the_data_attack_do_not_reach_the_training():
  settings = {"data_attack": "trigger", "data_settings": {"fraction": 0.5}, "eps": 3.0}
  assert build("projected", attack_settings=settings).eps == 3.0
  assert attacks.ATTACKS["projected"].data_attack(settings) == (
    "trigger",
    {"fraction": 0.5},
  )
  assert attacks.ATTACKS["scaling"].data_attack({}) == ("trigger", {})


def test_feature_backdoor_is_scored_by_its_own_trigger_and_poisons_nothing():
  settings = {"pattern": "square", "target_label": 2, "eta": 0.5}
  name, found = attacks.ATTACKS["feature_backdoor"].data_attack(settings)
  built = build("feature_backdoor", attack_settings=settings)
  assert name == "trigger" and attacks.ATTACKS[name].build(**found) == built.data_attack
  assert found["fraction"] == 0.0


def test_feature_backdoor_paints_the_pattern_that_suits_the_data():
  assert build("feature_backdoor").pattern == "flplas_mnist"
  changes = {"dataset": "cifar10", "model": "cifar_cnn"}
  assert build("feature_backdoor", **changes).pattern == "flplas_cifar"


@pytest.mark.parametrize(
  ("settings", "private"),
  [
    ({}, "penultimate"),  # LeNet shares conv1 and conv2
    ({"attack_settings": {"layer": "classifier"}}, "penultimate, classifier"),
    ({"attack_settings": {"layer": "conv2"}}, None),
    ({"shared_cut": "last_layer"}, None),
    ({"shared_cut": "all"}, None),
    ({"defense": "fedavg"}, None),
  ],
)
def test_features_behind_private_layers_are_warned_of(settings, private, caplog):
  built = build("feature_backdoor", **{"defense": "fl_plas", **settings})
  assert built.layer == settings.get("attack_settings", {}).get("layer", "penultimate")
  warned = [record.getMessage() for record in caplog.records]
  assert len(warned) == (private is not None)
  if warned:
    assert f"lies behind private layers ({private}) of the cut 'default'" in warned[0]


def test_users_settings_come_first():
  built = build("krum_backdoor", attack_settings={"benign_epochs": 7, "boost": 3.0})
  assert built.benign_epochs == 7 and built.boost == 3.0


@pytest.mark.parametrize("name", ["krum_backdoor", "plr_matching"])
def test_who_looks_at_benign_updates_needs_a_benign_client_in_each_round(name):
  """Two of the two that are drawn: the mean of nobody would be zero."""
  config = toy("unused", "unused", attack=name, num_clients=10, clients_per_round=2)
  config = dataclasses.replace(config, malicious_fraction=0.8)
  with pytest.raises(ConfigError, match="must hold a benign client .* got 2 .* of 2"):
    training_attacks.build_training_attack(config, FED)
  alone = dataclasses.replace(config, attack_settings={"anchor": "self"})
  if name == "krum_backdoor":
    assert training_attacks.build_training_attack(alone, FED) is not None


@pytest.mark.parametrize(
  "given", [{"data_attack": "label_flip"}, {"data_settings": {}}]
)
def test_an_attack_with_a_trigger_of_its_own_takes_no_other_data_attack(given):
  with pytest.raises(ConfigError, match="settings that feature_backdoor takes"):
    build("feature_backdoor", attack_settings=given)


def test_settings_of_a_data_attack_that_are_none_are_refused():
  with pytest.raises(ValueError, match="`data_settings` must be .* got 5"):
    attacks.ATTACKS["scaling"].data_attack({"data_settings": 5})


def test_unknown_setting_is_named():
  with pytest.raises(ConfigError, match="settings that scaling takes.*gama"):
    build("scaling", attack_settings={"gama": 2.0})


@pytest.mark.parametrize("name", ["scaling", "projected", "feature_backdoor"])
def test_attacks_on_shared_layers_are_allowed_under_fl_plas(name):
  assert build(name, defense="fl_plas") is not None


@pytest.mark.parametrize("name", ["plr_matching", "krum_backdoor", "coomed_backdoor"])
def test_others_are_refused_under_fl_plas(name):
  with pytest.raises(ConfigError, match="replaces whole updates"):
    build(name, defense="fl_plas")


@pytest.mark.parametrize(
  ("name", "setting"),
  [("scaling", {"num_targets": 2}), ("krum_backdoor", {"data_attack": "trigger"})],
)
def test_a_setting_of_another_kind_of_training_attack_is_refused(name, setting):
  with pytest.raises(ConfigError, match=f"settings that {name} takes"):
    build(name, attack_settings=setting)
