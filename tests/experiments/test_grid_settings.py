"""From list-valued settings to configs and their folders."""

import pytest

import attacks
from tff_defenses import aggregators
from tff_defenses.experiments import datasets, grid_settings, partition, presets
from tff_defenses.experiments.config import ConfigError

PLAS = "fl_plas"


def expand(preset=None, /, **settings):
  return grid_settings.expand(preset, settings)


def test_lists_are_combined_and_single_settings_stay():
  found = expand(defense=["fedavg", "krum"], seed=[1, 2], rounds=7)
  pairs = [(c.defense, c.seed) for c in found]
  assert pairs == [("fedavg", 1), ("fedavg", 2), ("krum", 1), ("krum", 2)]
  assert {c.rounds for c in found} == {7}


@pytest.mark.parametrize(
  ("name", "known", "rest"),
  [
    ("defense", aggregators.AGGREGATORS, {}),
    ("dataset", datasets.DATASETS, {"aux_class": 0}),
    ("partition", partition.PARTITIONS, {}),
  ],
)
def test_all_stands_for_every_name(name, known, rest):
  found = expand(**{name: ["all"]}, **rest)
  assert [getattr(c, name) for c in found] == list(known)


def test_all_attacks_that_fit_the_data_may_be_joined_by_none():
  found = expand(attack=["none", "all"], malicious_fraction=[0.2])
  fitting = [n for n, s in attacks.ATTACKS.items() if s.datasets is None]
  assert [c.attack for c in found] == ["none", *fitting]
  assert [c.malicious_fraction for c in found] == [0.0] + [0.2] * len(fitting)
  on_cifar = expand(attack=["all"], dataset="cifar10")
  assert [c.attack for c in on_cifar] == list(attacks.ATTACKS)


def test_all_pairs_leave_out_what_makes_no_sense_and_name_it(caplog):
  found = expand(attack=["sign_flip"], defense=["all"])
  left_out = (PLAS, "local")
  kept = [name for name in aggregators.AGGREGATORS if name not in left_out]
  assert [c.defense for c in found] == kept
  (message,) = caplog.messages  # below WARNING the command line shows none
  assert message.startswith("2 of") and "'sign_flip' replaces whole updates" in message


def test_what_was_asked_for_by_name_is_refused_by_name():
  with pytest.raises(ConfigError, match="'sign_flip' replaces whole updates"):
    expand(attack=["sign_flip"], defense=[PLAS])
  with pytest.raises(ConfigError, match="'semantic' is made of images of cifar10"):
    expand(attack=["semantic"])


def test_settings_keyed_by_names_go_to_those_alone():
  settings = {"krum": {"variant": "authors"}, "flare": {"mmd": "authors"}}
  found = expand(defense=["fedavg", "krum", "flare"], defense_settings=settings)
  own = [c.defense_settings for c in found]
  assert own == [{}, settings["krum"], settings["flare"]]
  (same,) = expand(defense=["krum"], defense_settings={"variant": "authors"})
  assert same.defense_settings == {"variant": "authors"}


def test_settings_replace_those_of_the_preset():
  (found,) = expand("toy", rounds=5)
  assert found.rounds == 5
  assert found.num_clients == presets.PRESETS["toy"]["num_clients"]


def test_settings_of_the_presets_attack_do_not_go_to_another_attack():
  (found,) = expand("quick_backdoor", attack=["trigger"])
  assert found.attack == "trigger" and found.attack_settings == {}
  (kept,) = expand("quick_backdoor", rounds=2)
  assert kept.attack_settings == presets.PRESETS["quick_backdoor"]["attack_settings"]
  (own,) = expand("quick_backdoor", attack=["trigger"], attack_settings={"fraction": 1})
  assert own.attack_settings == {"fraction": 1}


def settings_by_attack(*arguments, **settings):
  return {c.attack: c.attack_settings for c in expand(*arguments, **settings)}


@pytest.mark.parametrize("preset", ["fl_plas_cifar10", "quick_backdoor"])
def test_the_presets_own_attack_keeps_the_presets_settings_when_named(preset):
  own = presets.PRESETS[preset]
  (named,), (silent,) = expand(preset, attack=[own["attack"]]), expand(preset)
  assert named.attack_settings == own["attack_settings"] != {}
  assert named.hash() == silent.hash()


def test_each_of_several_attacks_has_its_own_settings():
  found = settings_by_attack("fl_plas_cifar10", attack=["trigger", "semantic", "none"])
  own = presets.PRESETS["fl_plas_cifar10"]["attack_settings"]
  assert found == {"trigger": own, "semantic": {}, "none": {}}


def test_a_run_without_an_attack_gets_nobodys_settings():
  given = {"fraction": 0.5}
  attacks_asked = {"attack": ["none", "trigger"], "attack_settings": given}
  assert settings_by_attack(**attacks_asked) == {"none": {}, "trigger": given}


def test_settings_replace_those_of_the_presets_own_attack_one_by_one():
  own = presets.PRESETS["fl_plas_mnist"]["attack_settings"]
  given = {"fraction": 0.5}
  found = settings_by_attack("fl_plas_mnist", attack_settings=given)
  assert found == {"trigger": own | given}
  keyed = {"attack": ["trigger", "label_flip"], "attack_settings": {"trigger": given}}
  found = settings_by_attack("fl_plas_mnist", **keyed)
  assert found == {"trigger": own | given, "label_flip": {}}
  others = {**keyed, "attack_settings": {"label_flip": given}}
  assert settings_by_attack("fl_plas_mnist", **others)["trigger"] == own
  assert settings_by_attack("fl_plas_mnist", attack_settings={}) == {"trigger": {}}


def test_without_an_attack_equal_runs_are_made_once():
  asked = {"attack": ["none", "trigger"], "malicious_fraction": [0.1, 0.2]}
  assert [c.attack for c in expand(**asked)] == ["none", "trigger", "trigger"]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (
      {"malicious_fraction": [0.2]},
      "`attack` must be given where `malicious_fraction`",
    ),
    (
      {"attack_settings": {"boost": 2}},
      "`attack` must be given where `attack_settings`",
    ),
    ({"attack_start": 3}, "`attack` must be given where `attack_start`"),
    (
      {"attack": ["none"], "attack_stop": 3},
      "`attack` must be given where `attack_stop`",
    ),
    ({"malicious_first": True}, "`attack` must be given where `malicious_first`"),
    ({"num_byzantine": 2}, "`defense` must be a rule that heeds `num_byzantine`"),
    ({"root_epochs": 2}, "a rule that heeds `root_epochs` .* such as fltrust"),
    ({"eval_clients": "sampled"}, "a rule that heeds `eval_clients` .* got fedavg"),
    ({"shared_cut": ["last_layer"]}, "a rule that heeds `shared_cut`"),
    (
      {"shared_cut": "last_layer", "defense": "local"},
      "a rule that heeds `shared_cut`",
    ),
    (
      {
        "defense": "bucketing",
        "defense_settings": {"inner": ["krum"]},
        "root_epochs": 2,
      },
      "a rule that heeds `root_epochs`",
    ),
    (
      {"moving_statistics": "authors"},
      "`model` must have BatchNorm, .* got lenet and fedavg",
    ),
    (
      {"moving_statistics": "authors", "model": "mobilenet", "defense": "fl_plas"},
      "`defense` a global model, .* got mobilenet and fl_plas",
    ),
    ({"participation": "random"}, "`clients_per_round` must be less .* got all 10"),
    ({"defense_settings": {"krum": {}}}, "`defense_settings` must name .* got 'krum'"),
    ({"momentum": 0.9}, "`optimizer` must be sgd where `momentum` is given, got adam"),
    ({"alpha": 0.5}, "`partition` must be dirichlet where `alpha` is given, got iid"),
    ({"classes_per_client": 3}, "`partition` must be classes"),
    ({"as_published": True}, "`partition` must be dirichlet"),
    (
      {"warmup_pooled": True},
      "`warmup_rounds` must be at least 1 where `warmup_pooled`",
    ),
  ],
)
def test_a_setting_that_no_run_heeds_is_refused(settings, message):
  with pytest.raises(ConfigError, match=message):
    expand(**settings)


def test_settings_that_ask_for_nothing_or_that_some_run_heeds_are_not():
  nothing = {"malicious_fraction": [0.0], "attack_settings": {}, "attack_start": 1}
  assert expand(**nothing, momentum=0.0, as_published=False)[0].attack == "none"
  assert len(expand(partition=["iid", "dirichlet"], alpha=0.5)) == 2
  assert len(expand(defense=["fedavg", "krum"], num_byzantine=[1])) == 2
  wrapped = {"defense": "bucketing", "defense_settings": {"inner": "krum"}}
  assert len(expand(**wrapped, num_byzantine=1)) == 1
  twice = {"inner": "bucketing", "inner_settings": {"inner": "fltrust"}}
  assert len(expand(defense="fl_plas", defense_settings=twice, root_epochs=2)) == 1
  assert len(expand(participation="random", clients_per_round=5)) == 1
  authors = {"dataset": "cifar10", "moving_statistics": "authors"}
  assert len(expand(**authors, model="mobilenet")) == 1
  assert (
    len(expand("fl_plas_mnist", measure="extractor_swap", shared_cut="last_layer")) == 1
  )
  assert expand("fl_plas_mnist", momentum=0.5)[0].momentum == 0.5


@pytest.mark.parametrize("unknown", [{"dataset": "minst"}, {"model": "mobilnet"}])
def test_an_unknown_name_is_told_and_not_what_depends_on_it(unknown):
  with pytest.raises(ConfigError, match=r"^1 fault\(s\)"):
    expand(**unknown, moving_statistics="authors")


def test_faults_of_all_configs_are_told_once_each():
  with pytest.raises(ConfigError, match=r"^2 fault\(s\)") as raised:
    expand(defense=["flair", "krum"], seed=[1, 2], rounds=0)
  assert str(raised.value).count("Did you mean `flare`") == 1
  assert str(raised.value).count("`rounds`") == 1


def test_settings_that_nobody_heeds_are_told_with_the_other_faults():
  with pytest.raises(ConfigError, match=r"^3 fault\(s\)") as raised:
    expand(momentum=0.5, rounds=0, learning_rate=float("inf"))
  for words in ("where `momentum` is given", "`rounds`", "must be finite and > 0"):
    assert str(raised.value).count(words) == 1


def test_unknown_preset_raises_with_the_nearest_name():
  with pytest.raises(ValueError, match="`preset` must be one of .*Did you mean `toy`"):
    expand("tooy")


def test_empty_list_raises_with_its_name():
  with pytest.raises(ConfigError, match="`defense` must hold a value"):
    expand(defense=[])


def test_single_run_writes_to_the_folder_itself():
  (found,) = grid_settings.expand("toy", {}, output_dir="here")
  assert found.output_dir == "here"


def test_several_runs_get_a_folder_each():
  found = grid_settings.expand(
    "toy", {"defense": ["fedavg", "krum"]}, output_dir="here"
  )
  assert [c.output_dir for c in found] == [
    f"here/mnist5k-{c.defense}-none-{c.hash()}" for c in found
  ]
  (alone,) = expand("toy")
  assert alone.output_dir == f"results/mnist5k-fedavg-none-{alone.hash()}"


def test_folders_go_into_every_config():
  found = grid_settings.expand(
    "toy", {"seed": [1, 2]}, data_dir="raw", cache_dir="shards"
  )
  assert {(c.data_dir, c.cache_dir) for c in found} == {("raw", "shards")}


@pytest.mark.parametrize(
  ("preset", "asked"),
  [
    (None, {"warmup_rounds": 20}),
    ("flare_fashion_mnist", {"warmup_rounds": 20}),
    ("toy", {"pretrained_file": __file__}),
    ("fl_plas_mnist", {"pretrained_file": __file__}),
    ("fl_plas_mnist", {"pretrain_on_aux": True}),
  ],
)
def test_start_that_is_asked_for_replaces_the_others(preset, asked):
  (config,) = expand(preset, **asked)
  starts = {"warmup_rounds": 0, "pretrained_file": None, "pretrain_on_aux": False}
  assert {n: getattr(config, n) for n in starts} == {**starts, **asked}


def test_other_starts_stay_where_none_is_asked_for():
  (config,) = expand("fl_plas_mnist", warmup_rounds=0)
  assert (config.warmup_rounds, config.pretrain_on_aux) == (0, False)
  assert expand("fl_plas_mnist")[0].warmup_rounds == 20
  assert expand()[0].pretrain_on_aux


def test_two_starts_are_refused():
  with pytest.raises(ConfigError, match="must be the only start"):
    expand(warmup_rounds=3, pretrained_file=__file__)
