"""The clients of an experiment: shards, who is malicious, who is drawn, seeds."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from attacks.data import fixed_set
from tests.experiments.toy_runs import toy
from tff_defenses.experiments import federation, presets, shards, training_attacks
from tff_defenses.experiments.config import ConfigError, ExperimentConfig

TRIGGER = {"attack": "trigger", "malicious_fraction": 0.34}
BACKDOOR = {"attack": "krum_backdoor", "malicious_fraction": 0.34}


@pytest.fixture
def build(shard_cache):
  """The federation of a toy experiment."""
  return lambda cache=shard_cache, **changes: federation.build(
    toy("unused", cache, **changes)
  )


def contents(fed, *, honest=False):
  """Digest of each client's shard, or of what it holds in rounds without an attack."""
  shards_read = fed.honest_shards if honest else fed.shards
  files = [shards_read.path(i) for i in range(len(fed.malicious))]
  return [hashlib.sha256(pathlib.Path(f).read_bytes()).hexdigest() for f in files]


def drawn_in(config, rounds):
  return [federation.draw_clients(config, r) for r in range(1, rounds + 1)]


def test_attack_changes_the_malicious_shards_only(build):
  clean, attacked = build(), build(**TRIGGER)
  assert attacked.malicious.tolist() == [False, False, True]
  pairs = zip(contents(clean), contents(attacked), strict=True)
  assert [a == b for a, b in pairs] == [True, True, False]


def test_first_clients_may_be_the_malicious_ones(build):
  attacked = build(**TRIGGER, malicious_first=True)
  assert attacked.malicious.tolist() == [True, False, False]
  pairs = zip(contents(build()), contents(attacked), strict=True)
  assert [a == b for a, b in pairs] == [False, True, True]


@pytest.mark.parametrize("attack", ["trigger", "scaling", "projected"])
def test_data_are_poisoned_in_the_rounds_of_the_attack_only(build, attack):
  fed = build(attack=attack, malicious_fraction=0.34, attack_start=2, attack_stop=2)
  clean = contents(build())
  assert contents(fed)[:2] == clean[:2] and contents(fed)[2] != clean[2]
  assert contents(fed, honest=True) == clean
  quiet, attacked = (fed.client_input(2, 1, 0, attacks=on) for on in (False, True))
  assert (quiet["shard"], quiet["is_malicious"]) == (fed.honest_shards.path(2), False)
  assert (attacked["shard"], attacked["is_malicious"]) == (fed.shards.path(2), True)


def test_an_attack_without_a_pause_has_its_shards_alone(build):
  fed = build(**TRIGGER)
  assert fed.honest_shards is fed.shards


def test_training_attack_leaves_all_shards_alone(build):
  assert contents(build(**BACKDOOR)) == contents(build())


def test_same_seed_gives_the_same_shards_from_another_cache(build, tmp_path):
  assert contents(build(cache=tmp_path)) == contents(build())
  assert contents(build(seed=1)) != contents(build())


def test_defense_does_not_change_what_is_shared(build):
  one, other = build(**TRIGGER), build(**TRIGGER, defense="flare")
  assert one.shards.folder == other.shards.folder
  assert np.array_equal(one.test_images, other.test_images)


@pytest.mark.parametrize(
  "settings",
  [
    {"partition": "classes", "classes_per_client": 5},
    {"partition": "dirichlet", "alpha": 5.0},
  ],
)
def test_every_partition_is_written(build, settings):
  counts = build(**settings).shards.num_examples
  assert len(counts) == 3 and min(counts) >= 5 and sum(counts) <= 60


@pytest.mark.parametrize(
  ("least", "chosen", "expected"), [(300, 400, 30), (11, 400, 10), (8, 400, 8)]
)
def test_smallest_client_shrinks_with_the_images_but_not_below_ten(
  least, chosen, expected
):
  config = ExperimentConfig(min_client_images=least)
  assert federation._least_images(config, chosen, 4_000) == expected


def test_a_smallest_client_that_is_too_large_is_told_by_its_flag(build):
  settings = {"partition": "dirichlet", "max_train_images": 400}
  words = r"`min_client_images` must be at most .* got \d+ \(of 90000, in proportion"
  with pytest.raises(ValueError, match=words):
    build(**settings, min_client_images=90_000)


def test_smallest_client_of_a_split(build):
  settings = {"partition": "dirichlet", "alpha": 0.5, "max_train_images": 400}
  few, more = (
    build(**settings, min_client_images=n).shards.num_examples for n in (10, 1_100)
  )
  assert min(few) < 110 <= min(more)  # a tenth of the images: a tenth of 1,100


def test_published_dirichlet_split_is_another_one(build):
  settings = {"partition": "dirichlet", "alpha": 5.0}
  assert contents(build(**settings)) != contents(build(**settings, as_published=True))


def test_client_reads_back_its_images(build):
  fed = build()
  batches = shards.read(
    fed.client_input(0, 1, seed=0)["shard"], (28, 28, 1), batch_size=8, seed=0
  )
  labels = np.concatenate([batch["y"] for batch in batches])
  assert len(labels) == fed.shards.num_examples[0] == 20
  assert set(labels) <= set(range(10))


def test_reduced_data_are_as_few_as_asked_for(build):
  fed = build(**TRIGGER)
  assert sum(fed.shards.num_examples) == 60
  assert len(fed.test_images) == len(fed.test_labels) == len(fed.backdoor_images) == 50


def test_auxiliary_images_are_of_the_class_and_in_no_shard(build):
  fed = build(aux_class=3, aux_size=5, max_train_images=None)
  assert fed.held_out.aux_labels.tolist() == [3] * 5
  left = 4000 - 5 - 10 * 10  # FLTrust's root data are held out as well
  assert len(fed.held_out.train_images) == left
  assert sum(fed.shards.num_examples) == left // 3 * 3


@pytest.mark.parametrize("limit", [None, 600])
def test_no_client_holds_an_image_of_the_server_or_of_the_test(build, limit):
  fed = build(aux_size=20, root_per_class=5, max_train_images=limit)
  held = fed.held_out
  others = (held.aux_images, held.root_images, fed.test_images)
  theirs = set(fixed_set.digests(np.concatenate(others)))
  assert len(theirs) == 20 + 5 * 10 + len(fed.test_images)
  for client in range(len(fed.malicious)):
    records = np.fromfile(fed.shards.path(client), np.uint8).reshape(-1, 1 + 28 * 28)
    images = records[:, 1:].reshape(-1, 28, 28, 1)
    assert theirs.isdisjoint(fixed_set.digests(images)), client


def test_root_data_are_held_out_for_every_defense(build):
  for defense in ("fltrust", "fedavg"):
    held = build(defense=defense, root_per_class=2).held_out
    assert held.root_labels.tolist() == [c for c in range(10) for _ in range(2)]


def test_backdoor_images_come_only_with_a_data_attack(build):
  fed = build(**TRIGGER)
  assert not np.array_equal(fed.backdoor_images, fed.test_images)
  assert fed.backdoor_target == 0 and fed.targets is None
  assert build().backdoor_images is None and build().backdoor_target is None


def test_targets_come_only_with_a_training_attack(build):
  settings = {"num_targets": 2, "source_class": 7, "target_class": 1}
  fed = build(**BACKDOOR, attack_settings=settings)
  assert fed.targets.true_labels.tolist() == [7, 7]
  assert fed.targets.labels.tolist() == [1, 1] and len(fed.targets.images) == 2
  assert fed.backdoor_images is None
  assert build().targets is None


def test_settings_go_to_the_targets_or_to_the_attack(build, shard_cache):
  settings = {"kind": "semantic", "boost": 3.0}
  config = toy("unused", shard_cache, **BACKDOOR, attack_settings=settings)
  fed = federation.build(config)
  attack = training_attacks.build_training_attack(config, fed)
  assert attack.boost == 3.0 and attack.benign_epochs == config.local_epochs
  assert np.array_equal(attack.images, fed.targets.images)


@pytest.mark.parametrize("attack", ["trigger", "krum_backdoor"])
def test_setting_that_the_attack_does_not_take_is_named(shard_cache, attack):
  settings = {"attack": attack, "attack_settings": {"bost": 1}}
  config = toy("unused", shard_cache, malicious_fraction=0.34, **settings)
  message = f"`attack_settings` must be settings that {attack} takes.*'bost'"
  with pytest.raises(ConfigError, match=message):
    fed = federation.build(config)
    training_attacks.build_training_attack(config, fed)


def test_more_clients_than_images_raise(build):
  with pytest.raises(ValueError, match="`num_clients`"):
    build(num_clients=61)


def test_fixed_frequency_draws_27_malicious_of_30_at_90_percent():
  config = ExperimentConfig(**presets.PRESETS["fl_plas_mnist"])
  rounds = drawn_in(config, 20)
  for drawn in rounds:
    assert len(set(drawn)) == 30 and drawn == sorted(drawn)
    assert sum(client < 90 for client in drawn) == 27  # the first are malicious
  assert len({tuple(drawn) for drawn in rounds}) == 20


def test_random_participation_draws_from_all_alike():
  settings = presets.PRESETS["fl_plas_mnist"] | {"participation": "random"}
  config = ExperimentConfig(**settings)
  counts = [sum(client < 90 for client in drawn) for drawn in drawn_in(config, 200)]
  assert len(set(counts)) > 3 and np.mean(counts) == pytest.approx(27, abs=0.5)
  assert all(len(set(drawn)) == 30 for drawn in drawn_in(config, 5))


@pytest.mark.parametrize("participation", ["fixed_frequency", "random"])
def test_every_defense_has_the_same_clients_in_a_round(participation):
  config = ExperimentConfig(
    num_clients=50, clients_per_round=5, participation=participation
  )
  assert drawn_in(config, 5) == drawn_in(config, 5)
  other = ExperimentConfig(
    **json.loads(json.dumps(config.to_dict() | {"defense": "flare"}))
  )
  assert drawn_in(other, 5) == drawn_in(config, 5)
  reseeded = ExperimentConfig(**config.to_dict() | {"seed": 1})
  assert drawn_in(reseeded, 5) != drawn_in(config, 5)


def test_who_is_malicious_decides_a_draw_of_fixed_frequency_alone():
  attacked = {"attack": "trigger", "malicious_fraction": 0.9}
  for participation, same in (("random", True), ("fixed_frequency", False)):
    settings = presets.PRESETS["fl_plas_mnist"] | {"participation": participation}
    clean = ExperimentConfig(**settings | {"attack": "none", "attack_settings": {}})
    under = ExperimentConfig(**settings | attacked)
    assert (drawn_in(clean, 5) == drawn_in(under, 5)) == same


def test_without_a_number_all_clients_take_part_each_round():
  assert drawn_in(ExperimentConfig(num_clients=4), 2) == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("name", ["source_class", "target_class"])
@pytest.mark.parametrize("value", [10, -1, 2.5, "7"])
def test_classes_of_targets_are_classes_of_the_data(build, name, value):
  with pytest.raises(
    ConfigError, match=rf"`{name}` in 0\.\.9, the classes of mnist5k, got {value!r}\."
  ):
    build(**BACKDOOR, attack_settings={name: value})


def test_targets_may_be_drawn_from_the_test_images(build):
  drawn = {"kind": "semantic", "target_source": "test", "num_targets": 2}
  fed = build(**BACKDOOR, attack_settings=drawn)
  same = build(**BACKDOOR, attack_settings=drawn, defense="krum")
  np.testing.assert_array_equal(fed.targets.images, same.targets.images)
  for image, true in zip(fed.targets.images, fed.targets.true_labels, strict=True):
    matches = (fed.test_images == image).all(axis=(1, 2, 3))
    assert fed.test_labels[matches].tolist() == [true]
  assert (fed.targets.labels != fed.targets.true_labels).all()


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"target_source": "web"}, "`target_source` must be one of 'train', 'test'"),
    ({"target_source": "test", "target_class": 3}, "`target_class` must be left out"),
  ],
)
def test_bad_source_of_targets_raises(build, settings, message):
  with pytest.raises(ValueError, match=message):
    build(**BACKDOOR, attack_settings=settings)


def test_client_inputs_carry_flag_and_index(build):
  fed = build(**TRIGGER)
  inputs = [fed.client_input(client, 1, seed=0) for client in range(3)]
  assert [bool(x["is_malicious"]) for x in inputs] == [False, False, True]
  assert [int(x["client_index"]) for x in inputs] == [0, 1, 2]
  assert [x["shard"] for x in inputs] == [fed.shards.path(i) for i in range(3)]


def test_client_seeds_differ_by_round_client_and_seed(build):
  fed = build()
  places = [(c, r, s) for c in range(3) for r in range(1, 5) for s in range(2)]
  seeds = [int(fed.client_input(*place)["seed"]) for place in places]
  assert len(set(seeds)) == len(places) and min(seeds) >= 0
  assert seeds == [int(fed.client_input(*place)["seed"]) for place in places]


def test_model_is_built_for_the_images_of_the_data_set():
  model = federation.keras_fn(ExperimentConfig(model="mobilenet"))()
  assert model.input_shape == (None, 28, 28, 1) and model.output_shape == (None, 10)


def test_model_that_the_images_are_too_small_for_says_so():
  with pytest.raises(ValueError, match="kather_cnn: .* at least 32x32 pixels"):
    federation.keras_fn(ExperimentConfig(model="kather_cnn"))()


def test_cut_is_the_models_own_or_a_named_one():
  assert federation.shared_layers(ExperimentConfig()) == ("conv1", "conv2")
  assert federation.shared_layers(ExperimentConfig(shared_cut="all")) == ("*",)


def test_shards_lie_in_the_users_cache_by_default(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  folder = federation.cache_folder(ExperimentConfig())
  assert folder == tmp_path / "tff_defenses" / "shards"
  assert federation.cache_folder(ExperimentConfig(cache_dir="x")) == pathlib.Path("x")
