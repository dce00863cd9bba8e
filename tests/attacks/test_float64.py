"""Every training attack trains models of float64, too."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks import ATTACKS
from attacks.data import trigger
from models import split
from tests import doubles
from tests.attacks import training_doubles as td
from tff_defenses.learning import client_work


def double_keras():
  """`doubles.tiny_keras` in float64."""
  config = {"dtype": "float64", "kernel_initializer": "ones"}
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      tf.keras.layers.Flatten(dtype="float64"),
      tf.keras.layers.Rescaling(1 / 255, dtype="float64"),
      tf.keras.layers.Dense(3, activation="relu", name="penultimate", **config),
      tf.keras.layers.Dense(2, name="classifier", **config),
    ]
  )


MODEL_FN = split.make_model_fn(double_keras)
THETA = doubles.weights_of(double_keras()).trainable
TARGET = {"images": td.IMAGES[:1], "labels": np.int32([1 - td.LABELS[0]])}
TRIGGER = {"pattern": trigger.square(1), "target_label": 1}
SETTINGS = {
  "krum_backdoor": {**TARGET, "distance": "norm", "boost": 2.0},
  "coomed_backdoor": {**TARGET, "check_every": 100},
  "plr_matching": {**TARGET, "model_fn": MODEL_FN},
  "scaling": {"gamma": 2.0, "alpha": 0.5},
  "projected": {"eps": 1e-3, "eps_decay": 0.9},
  "feature_backdoor": {**TRIGGER, "model_fn": MODEL_FN},
}


@pytest.mark.parametrize(
  "name", [name for name, spec in ATTACKS.items() if spec.kind == "training"]
)
def test_updates_keep_the_models_type(name):
  attack = ATTACKS[name].build(**SETTINGS[name])
  run = attack.build_craft(MODEL_FN(), client_work.ClientWork(td.SGD, 1))
  weights = tff.learning.models.ModelWeights(THETA, [])
  zeros = [np.zeros_like(w) for w in THETA]

  @tf.function
  def go():
    return run(weights, td.batches(), tf.constant(1), zeros, zeros)

  update, _ = go()
  assert all(u.dtype == tf.float64 and np.isfinite(u).all() for u in update)
  assert td.norm(update) > 1e-4
