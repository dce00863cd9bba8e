"""What the harness gives update attacks, when attackers collude, what it writes."""

import dataclasses

import numpy as np
import pytest

import attacks
from attacks.updates import copy_first, fang_krum, sign_flip
from tests.experiments import toy_runs
from tff_defenses.aggregators import krum, mean
from tff_defenses.experiments import update_attacks
from tff_defenses.experiments.config import ConfigError

UPDATE = [name for name, spec in attacks.ATTACKS.items() if spec.kind == "update"]
MEAN = mean.FiniteMeanFactory()


def build(attack, aggregator=MEAN, **changes):
  settings = {"num_clients": 10, "malicious_fraction": 0.3, **changes}
  config = toy_runs.toy("unused", "unused", attack=attack, **settings)
  config.check()
  return update_attacks.build_update_attack(config, aggregator)


@pytest.mark.parametrize("name", UPDATE)
def test_every_update_attack_is_built_from_its_entrys_needs(name):
  assert build(name).sees == attacks.ATTACKS[name].sees


def test_no_attack_and_data_attacks_build_nothing():
  assert build("none") is None and build("trigger") is None


def test_settings_reach_the_attack():
  settings = {"scale": 4.0}
  assert build("sign_flip", attack_settings=settings) == sign_flip.SignFlipAttack(
    scale=4.0
  )


def test_krum_attack_is_given_the_servers_krum_and_the_models_shapes():
  rule = krum.KrumFactory(2, 5, variant="authors")
  built = build("fang_krum", rule)
  assert built.rule is rule
  assert built.shapes[-1] == (10,) and len(built.shapes) == 8  # LeNet
  assert build("fang_krum").rule is None
  other = build("fang_krum", attack_settings={"form": "authors"})
  assert isinstance(other, fang_krum.FangKrumAttack) and other.form == "authors"


def test_update_attacks_may_need_the_sizes_of_a_round(monkeypatch):
  found = {}

  def builder(**needed):
    found.update(needed)
    return sign_flip.SignFlipAttack()

  needs = attacks.NEEDS["update"]
  spec = dataclasses.replace(attacks.ATTACKS["sign_flip"], build=builder, needs=needs)
  monkeypatch.setitem(attacks.ATTACKS, "sign_flip", spec)
  build("sign_flip", clients_per_round=5)
  assert set(found) == needs
  assert (found["num_clients"], found["num_malicious"]) == (5, 2)
  build("sign_flip", malicious_fraction=0.0)
  assert found["num_malicious"] == 1


def test_unknown_setting_raises_with_the_attacks_name():
  with pytest.raises(ConfigError, match=r"`attack_settings` .*min_max takes.*gama"):
    build("min_max", attack_settings={"gama": 1.0})


def test_a_round_without_benign_clients_is_refused():
  changes = {"clients_per_round": 1, "malicious_fraction": 0.5}
  with pytest.raises(ConfigError, match="`num_malicious`"):
    build("min_max", **changes)
  build("inner_product", **changes, attack_settings={"knowledge": "partial"})
  build("sign_flip", **changes)


@pytest.mark.parametrize("name", ["fang_krum", "little_is_enough", "min_max"])
def test_one_attacker_of_partial_knowledge_has_nobody_to_compare_with(name):
  rule = krum.KrumFactory(1, num_selected=2)
  settings = {"attack_settings": {"knowledge": "partial"}, "num_clients": 6}
  assert build(name, rule, malicious_fraction=0.34, **settings) is not None
  with pytest.raises(
    ConfigError, match="must be at least 2 with these settings, got 1"
  ):
    build(name, rule, malicious_fraction=0.17, **settings)


def test_what_krum_is_told_is_refused_where_the_attack_knows_the_servers():
  settings = {"attack_settings": {"num_byzantine": 1}}
  assert build("fang_krum", **settings).num_byzantine == 1
  with pytest.raises(ValueError, match="`num_byzantine` .* left out with `rule`"):
    build("fang_krum", krum.KrumFactory(3), **settings)


def test_attackers_of_flare_copy_the_first_and_those_of_fl_plas_do_not():
  assert build("krum_backdoor") == copy_first.CopyFirst()
  assert build("scaling") is None
  assert build("scaling", attack_settings={"collude": "copy"}) == copy_first.CopyFirst()
  assert build("krum_backdoor", attack_settings={"collude": "none"}) is None


def test_one_attacker_has_nobody_to_copy():
  assert build("krum_backdoor", malicious_fraction=0.1) is None
  few = {"clients_per_round": 5, "malicious_fraction": 0.2}
  assert build("krum_backdoor", **few) is None
  # Drawn from all alike, both of them may be in a round.
  drawn = build("krum_backdoor", **few, participation="random")
  assert drawn == copy_first.CopyFirst()


def test_unknown_collusion_raises():
  with pytest.raises(ConfigError, match=r"`collude` one of 'copy', 'none', got 'yes'"):
    build("krum_backdoor", attack_settings={"collude": "yes"})


@pytest.mark.parametrize("name", UPDATE)
def test_personal_models_take_no_update_attack(name):
  config = toy_runs.toy("unused", "unused", defense="fl_plas", attack=name)
  assert any("does not exchange" in fault for fault in config.problems())


def test_a_run_writes_what_the_attack_measured(finish):
  settings = {"attack": "sign_flip", "attack_settings": {"scale": 10.0}}
  result = finish(malicious_fraction=0.34, rounds=1, **settings)
  table = result.folder.read("metrics.csv")
  assert table["attack_no_attack"].tolist() == [0.0]
  assert np.isfinite(table["accuracy"]).all()


def test_colluding_attackers_send_the_same(finish, runtime):
  settings = {"num_clients": 4, "malicious_fraction": 0.5, "rounds": 1}
  result = finish(defense="krum", attack="coomed_backdoor", **settings)
  trainer, states = result.trainer, result.states
  _, metrics = trainer.step(runtime, states, 2, [0, 1, 2, 3])
  scores = metrics["aggregator"]["score"]
  assert scores[2] == scores[3] and len(set(scores.tolist())) == 3
