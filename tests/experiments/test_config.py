"""Experiment configs: each fault by name, who is malicious, and the hash."""

import dataclasses
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_defenses.experiments import config as config_lib
from tff_defenses.experiments.config import ConfigError, ExperimentConfig, attacks_kind

TRIGGER = {"attack": "trigger", "malicious_fraction": 0.2}
FOLDERS = ("data_dir", "cache_dir", "output_dir")

# Settings, and what the one sentence about them must contain.
FAULTS = [
  ({"dataset": "minst"}, "`dataset` must be one of .*Did you mean `mnist`"),
  ({"defense": "flair"}, "`defense` must be one of .*Did you mean `flare`"),
  ({"attack": "triger"}, "`attack` must be one of none, .*Did you mean `trigger`"),
  ({"partition": "idd"}, "`partition` must be one of .*Did you mean `iid`"),
  ({"model": "lenett"}, "`model` must be one of .*Did you mean `lenet`"),
  ({"optimizer": "adamw"}, "`optimizer` must be one of .*Did you mean `adam`"),
  ({"participation": "randm"}, "`participation` .*Did you mean `random`"),
  ({"aux_source": "author"}, "`aux_source` .*Did you mean `authors`"),
  (
    {"malicious_fraction": 80},
    r"`malicious_fraction` must be in \[0, 1\], got 80.*80 %",
  ),
  ({"malicious_fraction": -0.1}, r"`malicious_fraction` must be in \[0, 1\]"),
  ({"malicious_fraction": float("nan")}, r"`malicious_fraction` must be in \[0, 1\]"),
  ({"momentum": 1.5}, r"`momentum` must be in \[0, 1\]"),
  ({"rate_decay": 0}, r"`rate_decay` must be in \(0, 1\]"),
  ({"weight_decay": -1}, "`weight_decay` must be finite and >= 0"),
  ({"learning_rate": 0.0}, "`learning_rate` must be finite and > 0"),
  ({"learning_rate": "fast"}, "`learning_rate` must be finite and > 0, got 'fast'"),
  ({"alpha": float("inf")}, "`alpha` must be finite and > 0"),
  ({"num_clients": 0}, "`num_clients` must be a whole number >= 1"),
  ({"num_clients": 2.5}, "`num_clients` must be a whole number >= 1, got 2.5"),
  ({"rounds": True}, "`rounds` must be a whole number >= 1, got True"),
  ({"rounds": None}, "`rounds` must be a whole number >= 1, got None"),
  ({"local_epochs": 0}, "`local_epochs`"),
  ({"batch_size": 0}, "`batch_size`"),
  ({"eval_every": 0}, "`eval_every`"),
  ({"checkpoint_every": 0}, "`checkpoint_every`"),
  ({"seed": -1}, "`seed`"),
  ({"clients_per_round": 0}, "`clients_per_round`"),
  ({"num_byzantine": -1}, "`num_byzantine`"),
  ({"max_train_images": 0}, "`max_train_images`"),
  ({"max_test_images": 0}, "`max_test_images`"),
  ({"attack_start": 0}, "`attack_start` must be a whole number >= 1"),
  (
    {"attack": "sign_flip", "attack_start": 8, "rounds": 5},
    r"`attack_start` must be at most `rounds` \(5\), got 8\.",
  ),
  (
    {"attack": "sign_flip", "attack_start": 8, "attack_stop": 9, "rounds": 5},
    r"`attack_start` must be at most `rounds` \(5\), got 8\.",
  ),
  (
    {"attack": "sign_flip", "attack_start": 8, "attack_stop": 6},
    r"`attack_stop` must be at least `attack_start` \(8\), got 6\.",
  ),
  ({"warmup_rounds": -1}, "`warmup_rounds` must be a whole number >= 0"),
  ({"measure": "extractor"}, "`measure` must be one of extractor_swap"),
  ({"warmup_rounds": 3}, "`warmup_rounds` must be the only start, .*`pretrain_on_aux`"),
  (
    {"pretrained_file": "none.npz", "pretrain_on_aux": False},
    "`pretrained_file` must be an .npz file that exists, got 'none.npz'",
  ),
  (
    {"pretrained_file": __file__, "warmup_rounds": 3, "pretrain_on_aux": False},
    "`pretrained_file` must be the only start, got `warmup_rounds`",
  ),
  (
    {"pretrained_file": __file__},
    "`pretrained_file` must be the only start, got `pretrain_on_aux`",
  ),
  ({"measure": "extractor_swap"}, "needs a data attack .*, got attack 'none'"),
  (
    TRIGGER | {"measure": "extractor_swap", "defense": "fl_plas"},
    "cuts global models, and defense 'fl_plas' has none",
  ),
  (
    TRIGGER | {"measure": "extractor_swap", "shared_cut": "all"},
    "`shared_cut` must be one that leaves a classifier",
  ),
  (
    {"attack": "scaling", "malicious_fraction": 0.2, "defense": "fl_plas"}
    | {"attack_settings": {"collude": "copy"}},
    "must leave out `collude` with defense 'fl_plas'",
  ),
  (
    {"attack": "scaling", "malicious_fraction": 0.2, "defense": "local"},
    "'scaling' changes what clients send, and under defense 'local' they send nothing",
  ),
  ({"seed": 2**63}, "`seed` must be below 9,223,372,036,854,775,808"),
  ({"batch_size": 10**20}, "`batch_size` must be below 2,147,483,648, got 1000"),
  ({"root_per_class": 0}, "`root_per_class` must be a whole number >= 1"),
  ({"root_epochs": 0}, "`root_epochs` must be a whole number >= 1"),
  ({"aux_size": 1}, "`aux_size` must be a whole number >= 2"),
  ({"aux_class": -1}, "`aux_class`"),
  ({"aux_class": 10}, r"`aux_class` must be a class of mnist5k, 0\.\.9, got 10"),
  ({"dataset": "kather", "aux_class": 8}, r"a class of kather, 0\.\.7"),
  (
    {"clients_per_round": 11},
    r"`clients_per_round` must be at most `num_clients` \(10",
  ),
  ({"num_byzantine": 11}, "`num_byzantine` must be at most the 10 clients of a round"),
  ({"clients_per_round": 5, "num_byzantine": 6}, "at most the 5 clients of a round"),
  (TRIGGER | {"malicious_fraction": 0.01}, "large enough for one of 10 clients"),
  (TRIGGER | {"clients_per_round": 2}, "one of the 2 clients of a round"),
  (TRIGGER | {"malicious_fraction": 1}, "a benign client must be left"),
  (TRIGGER | {"malicious_fraction": 0.96}, "a benign client must be left"),
  (
    {"partition": "classes", "classes_per_client": 11},
    "`classes_per_client` .* 10 clas",
  ),
  ({"classes_per_client": 0}, "`classes_per_client` must be a whole number >= 1"),
  (
    {"shared_cut": "table7_a_10"},
    "`shared_cut` must be one of default, last_layer, all",
  ),
  ({"augment": "flip"}, "`augment` must be none or crop_flip"),
  (
    {"defense": "fl_plas", "attack": "krum_backdoor", "malicious_fraction": 0.1},
    "attack 'krum_backdoor' replaces whole updates, which defense 'fl_plas'",
  ),
]
# A sound value other than the default for every setting.
OTHER = {
  "dataset": "fashion_mnist",
  "min_client_images": 11,
  "warmup_on_all": True,
  "warmup_pooled": True,
  "model": "fmnist_cnn",
  "defense": "flare",
  "defense_settings": {"temperature": 2.0},
  "attack": "trigger",
  "attack_settings": {"fraction": 0.5},
  "num_clients": 11,
  "clients_per_round": 9,
  "participation": "random",
  "malicious_fraction": 0.2,
  "malicious_first": True,
  "num_byzantine": 1,
  "partition": "dirichlet",
  "classes_per_client": 3,
  "alpha": 0.3,
  "as_published": True,
  "rounds": 21,
  "local_epochs": 4,
  "batch_size": 31,
  "drop_remainder": True,
  "augment": "crop_flip",
  "optimizer": "sgd",
  "learning_rate": 2e-3,
  "momentum": 0.5,
  "weight_decay": 1e-4,
  "rate_decay": 0.9,
  "aux_class": 2,
  "aux_size": 11,
  "attack_start": 2,
  "attack_stop": 3,
  "root_per_class": 5,
  "root_epochs": 2,
  "aux_source": "authors",
  "pretrain_on_aux": False,
  "shared_cut": "all",
  "moving_statistics": "authors",
  "eval_clients": "sampled",
  "max_train_images": 100,
  "max_test_images": 100,
  "eval_every": 2,
  "warmup_rounds": 4,
  "pretrained_file": "model.npz",
  "measure": "extractor_swap",
  "checkpoint_every": 5,
  "seed": 1,
}


def config(**settings):
  return ExperimentConfig(**settings)


OF_THE_FIRST = {**TRIGGER, "dataset": "cifar10", "model": "mobilenet"}
OF_THE_FIRST |= {"moving_statistics": "authors"}


@pytest.mark.parametrize("defense", ["fedavg", "rsa", "norm_clipping"])
def test_statistics_of_the_first_client_are_a_malicious_ones(defense):
  theirs = config(**OF_THE_FIRST, defense=defense)
  with pytest.raises(ConfigError, match="`malicious_first` must be true with"):
    theirs.check()
  for change in (
    {"malicious_first": True},
    {"malicious_fraction": 0.0},
    {"attack": "none"},
    {"moving_statistics": "mean"},
    {"model": "cifar_cnn"},  # has none
    {"defense": "krum"},
  ):
    dataclasses.replace(theirs, **change).check()


@pytest.mark.parametrize(("settings", "sentence"), FAULTS)
def test_fault_is_one_sentence_that_names_the_setting(settings, sentence):
  with pytest.raises(ConfigError, match=rf"1 fault\(s\).*\n  - .*{sentence}"):
    config(**settings).check()


def test_default_config_has_no_fault():
  config().check()


def test_all_faults_are_reported_at_once():
  faults = config(defense="flair", dataset="minst", rounds=0, alpha=-1).problems()
  assert len(faults) == 4
  for name in ("defense", "dataset", "rounds", "alpha"):
    assert any(f"`{name}`" in fault for fault in faults), name


def test_faults_of_fit_are_reported_at_once():
  faults = config(clients_per_round=11, aux_class=10, augment="flip").problems()
  assert [f.split("`")[1] for f in faults] == [
    "clients_per_round",
    "aux_class",
    "augment",
  ]


def test_random_participation_may_leave_rounds_without_malicious_clients():
  config(**TRIGGER, clients_per_round=2, participation="random").check()


def test_classes_per_client_matters_only_for_its_partition():
  config(classes_per_client=11).check()


@pytest.mark.parametrize("name", sorted(OTHER))
def test_hash_changes_with_the_setting(name):
  assert config(**{name: OTHER[name]}).hash() != config().hash()


@pytest.mark.parametrize("name", FOLDERS)
def test_hash_does_not_change_with_a_folder(name):
  assert config(**{name: "elsewhere"}).hash() == config().hash()


def test_every_setting_is_hashed_or_a_folder():
  fields = {field.name for field in dataclasses.fields(ExperimentConfig)}
  assert fields == {*OTHER, *FOLDERS}


def test_settings_that_came_later_leave_the_hash_of_older_runs():
  plain = config().settings()
  assert not {"min_client_images", "warmup_on_all"} & set(plain)
  assert config(min_client_images=100).settings()["min_client_images"] == 100
  assert config(min_client_images=100).hash() != config().hash()


def test_no_augmentation_may_be_asked_for_and_is_the_same_run():
  assert config(augment="none") == config()
  assert config(augment="none").hash() == config(augment=None).hash()
  config(augment="none").check()


def test_hash_is_16_hex_digits_and_names_the_model_that_is_run():
  assert len(config().hash()) == 16 and int(config().hash(), 16) >= 0
  assert config(model="lenet").hash() == config().hash()


@pytest.mark.parametrize(
  ("dataset", "model"),
  [
    ("mnist5k", "lenet"),
    ("mnist", "lenet"),
    ("fashion_mnist", "fmnist_cnn"),
    ("cifar10", "cifar_cnn"),
    ("cifar100", "resnet18"),
    ("kather", "kather_cnn"),
  ],
)
def test_model_is_the_one_made_for_the_data_set(dataset, model):
  assert config(dataset=dataset).model_name == model


def test_malicious_clients_are_the_last_or_the_first():
  assert config(**TRIGGER).malicious_clients == (8, 9)
  assert config(**TRIGGER, malicious_first=True).malicious_clients == (0, 1)


def test_without_an_attack_nobody_is_malicious():
  assert config(malicious_fraction=0.5).malicious_clients == ()
  assert config(malicious_fraction=0.5).told_byzantine == 0


@pytest.mark.parametrize(
  ("fraction", "clients", "drawn", "malicious", "malicious_drawn"),
  [
    (0.9, 100, 30, 90, 27),  # FL-PLAS
    (0.1, 10, None, 1, 1),  # FLARE
    (0.25, 10, None, 3, 3),  # 2.5 is rounded up
    (0.25, 10, 4, 3, 1),
  ],
)
def test_numbers_of_malicious_clients(
  fraction, clients, drawn, malicious, malicious_drawn
):
  found = config(
    attack="trigger",
    malicious_fraction=fraction,
    num_clients=clients,
    clients_per_round=drawn,
  )
  assert found.num_malicious == malicious
  assert found.num_malicious_drawn == found.told_byzantine == malicious_drawn


def test_rule_may_be_told_another_number():
  assert config(**TRIGGER, num_byzantine=4).told_byzantine == 4
  assert config(**TRIGGER, num_byzantine=0).told_byzantine == 0


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 60), st.integers(1, 60))
def test_fixed_frequency_never_needs_more_clients_than_there_are(fraction, n, drawn):
  found = config(
    attack="trigger",
    malicious_fraction=fraction,
    num_clients=n,
    clients_per_round=min(drawn, n),
  )
  assert 0 <= found.num_malicious_drawn <= found.num_malicious
  assert found.num_drawn - found.num_malicious_drawn <= n - found.num_malicious


def test_reduced_runs_say_so():
  assert not config().is_reduced
  assert config(max_train_images=10).is_reduced and config(max_test_images=1).is_reduced


def test_dict_rebuilds_the_config():
  found = config(**OTHER)
  assert ExperimentConfig(**found.to_dict()) == found


def test_kinds_of_attacks():
  assert attacks_kind("none") is None
  assert attacks_kind("trigger") == "data"
  assert attacks_kind("krum_backdoor") == "training"


def test_hash_knows_what_a_pretrained_file_holds_not_where_it_lies(tmp_path):
  first, second = tmp_path / "a.npz", tmp_path / "b.npz"
  first.write_bytes(b"weights")
  second.write_bytes(b"weights")
  found = [ExperimentConfig(pretrained_file=str(f)).hash() for f in (first, second)]
  assert found[0] == found[1]
  second.write_bytes(b"others")
  assert ExperimentConfig(pretrained_file=str(second)).hash() != found[0]


def test_another_recipe_is_another_run(monkeypatch):
  before = config().hash()
  assert "recipe" not in config().settings()
  monkeypatch.setattr(config_lib, "RECIPE", 2)
  assert config().hash() != before and config().settings()["recipe"] == 2


def test_hash_reads_a_pretrained_file_again_only_when_its_time_has_changed(tmp_path):
  file = tmp_path / "model.npz"
  file.write_bytes(b"weights")
  config, before = ExperimentConfig(pretrained_file=str(file)), os.stat(file)
  found = config.hash()
  file.write_bytes(b"changed")
  os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
  assert config.hash() == found
  os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
  assert config.hash() != found
