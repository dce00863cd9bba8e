"""Data attacks in a federation: what clients hold, what is scored, what is said."""

import dataclasses
import importlib
import linecache
import sys

import numpy as np
import pytest

import attacks
from attacks.data import base, fixed_set
from attacks.data.trigger import TriggerAttack
from tests.attacks.fixed_sets import CARS, HELD_OUT, SHAPE, images_of, train
from tests.experiments.toy_runs import toy
from tff_defenses.experiments import data_attacks, datasets, federation
from tff_defenses.experiments.config import ConfigError
from tff_defenses.experiments.errors import DataError

__all__ = ["train"]  # a fixture

CIFAR = {
  **{"dataset": "cifar10", "model": "cifar_cnn", "max_train_images": None},
  **{"aux_class": 9, "root_per_class": 1, "malicious_fraction": 0.34},
}
SEMANTIC = {"attack": "semantic", "attack_settings": {"num_clean": 7}}
SMALL_EDGE = {"num_poisoned": 3, "num_clean": 4}


@pytest.fixture
def cifar(train, monkeypatch):
  """Makes `train` and 40 test images the data set cifar10."""
  test = images_of(40, seed=7), (np.arange(40) % 10).astype(np.int32)
  names = datasets.DATASETS["cifar10"].class_names
  found = datasets.Dataset("cifar10", *train, *test, 10, names, "made up")
  monkeypatch.setattr(datasets, "load", lambda name, data_dir: found)
  return found


@pytest.fixture
def build(tmp_path):
  """The federation of a toy experiment."""
  return lambda **changes: federation.build(toy("unused", tmp_path, **changes))


def shard(fed, client):
  """Labels and images of a client, read byte by byte."""
  size = int(np.prod(fed.shards.image_shape)) + 1
  records = np.fromfile(fed.shards.path(client), np.uint8).reshape(-1, size)
  return records[:, 0], records[:, 1:].reshape(-1, *fed.shards.image_shape)


def digests(fed, client):
  return fixed_set.digests(shard(fed, client)[1])


def label_counts(fed, client):
  return np.bincount(shard(fed, client)[0], minlength=10)


def test_no_benign_client_holds_a_reserved_image(cifar, build):
  cars = set(fixed_set.digests(cifar.train_images[[*CARS, *HELD_OUT]]))
  plain = build(**CIFAR, attack="none")
  attacked = build(**CIFAR, **SEMANTIC)
  for client in (0, 1):
    before = digests(plain, client)
    assert cars & set(before)
    assert digests(attacked, client) == [d for d in before if d not in cars]


def test_malicious_clients_hold_the_fixed_set(cifar, build):
  fed = build(**{**CIFAR, "malicious_fraction": 0.67}, **SEMANTIC)
  assert fed.malicious.tolist() == [False, True, True]
  assert fed.shards.num_examples[1:] == (34, 34)
  assert digests(fed, 1) == digests(fed, 2)
  labels, images = shard(fed, 1)
  assert (labels[7:] == 2).all()
  np.testing.assert_array_equal(images[7:], cifar.train_images[list(CARS)])


def test_attackers_clean_images_are_never_the_servers(cifar, build):
  settings = {"attack": "semantic", "attack_settings": {"num_clean": 140}}
  fed = build(**{**CIFAR, "root_per_class": 2}, **settings)
  servers = (*fed.held_out.aux_images, *fed.held_out.root_images)
  assert not set(fixed_set.digests(np.stack(servers))) & set(digests(fed, 2)[:140])


def test_without_malicious_clients_only_reserved_images_are_missing(cifar, build):
  nobody = {**CIFAR, "malicious_fraction": 0.0}
  cars = set(fixed_set.digests(cifar.train_images[[*CARS, *HELD_OUT]]))
  plain, attacked = build(**nobody, attack="none"), build(**nobody, **SEMANTIC)
  for client in range(3):
    left = [d for d in digests(plain, client) if d not in cars]
    assert digests(attacked, client) == left
  assert attacked.backdoor_images is not None


@pytest.mark.parametrize("name", ["trigger", "label_flip", "distributed_trigger"])
def test_without_malicious_clients_shards_are_those_without_the_attack(build, name):
  plain, attacked = build(), build(attack=name, malicious_fraction=0.0)
  assert plain.shards.folder != attacked.shards.folder
  assert [digests(plain, i) for i in range(3)] == [
    digests(attacked, i) for i in range(3)
  ]


def test_semantic_test_images_have_their_own_labels(cifar, build):
  fed = build(**CIFAR, **SEMANTIC)
  assert len(fed.test_images) == 40 and len(fed.backdoor_images) == 1000
  assert set(fed.backdoor_labels) == {1} and fed.backdoor_target == 2


def test_edge_case_takes_its_files_from_the_data_folder(cifar, build, tmp_path):
  np.save(tmp_path / "southwest_train.npy", images_of(5, seed=8))
  np.save(tmp_path / "southwest_test.npy", images_of(6, seed=9))
  settings = {"attack": "edge_case", "attack_settings": SMALL_EDGE}
  fed = build(**CIFAR, **settings, data_dir=str(tmp_path))
  assert fed.shards.num_examples[2] == 7 and (shard(fed, 2)[0][4:] == 9).all()
  np.testing.assert_array_equal(fed.backdoor_images, images_of(6, seed=9))
  assert set(fed.backdoor_labels) == {0} and fed.backdoor_target == 9
  np.save(tmp_path / "southwest_train.npy", images_of(5, seed=10))
  again = build(**CIFAR, **settings, data_dir=str(tmp_path))
  assert again.shards.folder != fed.shards.folder  # other images, another cache


def test_missing_files_are_an_error_of_the_data(cifar, build, tmp_path):
  with pytest.raises(DataError, match="missing: southwest_train.npy, southwest_test"):
    build(**CIFAR, attack="edge_case", data_dir=str(tmp_path))


def test_missing_cars_are_an_error_of_the_data(cifar, build, monkeypatch):
  part = dataclasses.replace(
    cifar, train_images=images_of(200, seed=4), train_labels=cifar.train_labels
  )
  monkeypatch.setattr(datasets, "load", lambda name, data_dir: part)
  with pytest.raises(DataError, match="the 27 green cars.*got 0"):
    build(**CIFAR, **SEMANTIC)


@pytest.mark.parametrize("name", ["semantic", "edge_case"])
def test_attack_made_for_other_images_names_itself_and_the_data_set(build, name):
  message = f"attack '{name}' must fit data set 'mnist5k'.*CIFAR-10's, 32x32x3"
  with pytest.raises(ConfigError, match=message):
    build(attack=name, malicious_fraction=0.34)


def test_settings_that_suit_the_data_are_taken_unless_given(build):
  flips = {"attack": "label_flip", "malicious_fraction": 0.34}
  fed = build(**flips, max_test_images=None)
  assert set(fed.backdoor_labels) == {7} and fed.backdoor_target == 1
  own = build(**flips, attack_settings={"source_class": 2}, max_test_images=None)
  assert set(own.backdoor_labels) == {2} and own.backdoor_target == 1


def test_label_flip_changes_labels_only(build):
  plain = build()
  fed = build(attack="label_flip", malicious_fraction=0.34)
  np.testing.assert_array_equal(shard(plain, 2)[1], shard(fed, 2)[1])
  before, after = label_counts(plain, 2), label_counts(fed, 2)
  assert after[7] == 0 and after[1] == before[1] + before[7]


def test_complement_has_nothing_to_score_but_accuracy(build):
  settings = {"mode": "complement"}
  fed = build(attack="label_flip", attack_settings=settings, malicious_fraction=0.34)
  assert fed.backdoor_images is fed.backdoor_labels is fed.backdoor_target is None
  assert label_counts(fed, 2).tolist() == label_counts(build(), 2)[::-1].tolist()


def test_each_malicious_client_paints_its_own_part(build):
  settings = {"malicious_fraction": 0.67, "attack_settings": {"fraction": 1.0}}
  fed = build(attack="distributed_trigger", **settings)
  for client, column in ((1, 0), (2, 6)):  # parts 0 and 1 of four
    images = shard(fed, client)[1]
    assert (images[:, 0, column : column + 4] == 255).all()
  assert (fed.backdoor_images[:, [0, 0, 3, 3], [0, 6, 0, 6]] == 255).all()


def test_only_images_of_the_target_cannot_be_scored():
  images, labels = np.zeros((3, 28, 28, 1), np.uint8), np.zeros(3, np.int32)
  with pytest.raises(DataError, match="whose true class is not the target 0"):
    data_attacks.test_set(TriggerAttack(), images, labels)


def test_training_attack_may_bring_a_data_attack(build, monkeypatch):
  spec = dataclasses.replace(
    attacks.ATTACKS["krum_backdoor"],
    data_attack=lambda settings: (settings["which"], {"fraction": 1.0}),
  )
  monkeypatch.setitem(attacks.ATTACKS, "both", dataclasses.replace(spec, name="both"))
  both = {"attack": "both", "malicious_fraction": 0.34}
  fed = build(**both, attack_settings={"which": "trigger"})
  assert (shard(fed, 2)[0] == 0).all() and fed.backdoor_target == 0
  assert (fed.backdoor_images[:, 25, 25] == 255).all()
  with pytest.raises(ConfigError, match="must name a data attack, one of trigger"):
    build(**both, attack_settings={"which": "krum_backdoor"})


@pytest.mark.parametrize(
  "name", [n for n, s in attacks.ATTACKS.items() if s.kind == "data"]
)
def test_every_data_attack_follows_the_protocol(name):
  attack = attacks.ATTACKS[name].build()
  assert isinstance(attack, base.DataAttack) and attack.sees == {"own_data"}
  assert attack.fingerprint == "" and type(attack).__name__ in repr(attack)
  assert hash(attack) == hash(attacks.ATTACKS[name].build())


def test_attack_without_needs_of_its_own_does_nothing():
  images, labels = np.zeros((4, *SHAPE), np.uint8), np.zeros(4, int)
  attack = TriggerAttack()
  assert attack.prepare(images, labels, None, None) is attack
  assert attack.reserved(images).tolist() == [False] * 4


def test_key_tells_settings_and_findings_apart():
  assert data_attacks.key(None) == {"attack": "None"}
  one, other = TriggerAttack(), TriggerAttack(fraction=0.5)
  assert data_attacks.key(one) != data_attacks.key(other)
  assert set(data_attacks.key(one)) == {"attack", "found", "code"}


MINE = """
from attacks.data.trigger import TriggerAttack

class Mine(TriggerAttack):
  def _poisoned(self, images, labels, malicious_index):
    return images * 0 + {value}, labels
"""


def test_key_tells_an_edited_attack_from_what_it_was(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)

  def key(value):
    (tmp_path / "my_attack.py").write_text(MINE.format(value=value))
    sys.modules.pop("my_attack", None)
    linecache.clearcache()
    importlib.invalidate_caches()
    return data_attacks.key(importlib.import_module("my_attack").Mine())

  first, again, edited = key(10), key(10), key(200)
  assert first == again and first["attack"] == edited["attack"]
  assert first["code"] != edited["code"]


def test_an_attack_without_a_source_has_a_key():
  module = {}
  exec(MINE.format(value=10), module)  # as a class of an interactive session
  assert data_attacks.key(module["Mine"]())["code"]
