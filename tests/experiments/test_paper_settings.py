"""Every defense and attack of the papers' cells can be built with its settings."""

import json

import numpy as np

import attacks
from attacks.training import targets
from models import split
from tff_defenses import aggregators
from tff_defenses.experiments import (
  aims,
  datasets,
  federation,
  papers,
  reproduction,
  training_attacks,
)
from tff_defenses.experiments.config import ExperimentConfig


def all_configs():
  """The distinct runs of all tables, one seed each."""
  found = {}
  for name in papers.names():
    for config in reproduction.plan(name, variants=["all"], seeds=[0]).configs():
      found[config.hash()] = config
  return list(found.values())


def distinct(kind):
  """(data set, name, settings) of every defense or attack that a cell names."""
  found = {}
  for config in all_configs():
    name, settings = getattr(config, kind), getattr(config, f"{kind}_settings")
    found[config.dataset, name, json.dumps(settings, sort_keys=True)] = settings
  return [(dataset, name, found[dataset, name, s]) for dataset, name, s in found]


def test_every_defense_takes_its_settings(monkeypatch):
  class Representations:
    width, has_moving_statistics = 2, False

    def __call__(self, weights):
      raise AssertionError("only the settings are looked at")

  monkeypatch.setattr(split, "plr_fn", lambda *_: Representations())
  given = {"num_byzantine": 1, "num_clients": 10, "root_data": lambda weights: weights}
  given |= {"model_fn": None, "auxiliary_data": None}
  for _, name, settings in distinct("defense"):
    aggregators.AGGREGATORS[name].build(given, **settings)


def test_every_attack_takes_its_settings():
  for dataset, name, settings in distinct("attack"):
    if name != "none":
      build_attack(dataset, name, settings)


def build_attack(dataset, name, settings):
  spec, data = attacks.ATTACKS[name], datasets.DATASETS[dataset]
  kinds = {k: v for k, v in settings.items() if k in aims.SETTINGS}
  own = settings
  if spec.kind == "training":
    own = training_attacks.own_settings(name, settings)
    labels = np.array([4] * 20 + [3])
    targets.choose(np.zeros((21, *data.image_shape), np.uint8), labels, **kinds)
  config = ExperimentConfig(dataset)
  supplied = {
    "images": np.zeros((1, *data.image_shape), np.float32),
    "labels": np.array([3], np.int32),
    "benign_epochs": 5,
    "model_fn": split.make_model_fn(federation.keras_fn(config)),
    "rule": None,
    "shapes": ((2, 2), (2,)),
  }
  suited = spec.suited(class_names=data.class_names, image_shape=data.image_shape)
  spec.build(**{**suited, **{n: supplied[n] for n in spec.needs}, **own})
