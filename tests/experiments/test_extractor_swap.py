"""FL-PLAS Table 2: two models side by side, and their four combinations."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.doubles import equal
from tests.experiments import toy_runs
from tff_defenses.experiments import checkpoint, federation, trainers
from tff_defenses.experiments.config import ConfigError

SWAP = {**toy_runs.FEDAVG, "measure": "extractor_swap", "pretrain_on_aux": False}
SETTINGS = {"local_epochs": 2, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def config(shard_cache, tmp_path_factory):
  folder = tmp_path_factory.mktemp("swap")
  return toy_runs.toy(folder, shard_cache, **SWAP, **SETTINGS)


@pytest.fixture(scope="module")
def trainer(config, runtime):
  return trainers.build(config, federation.build(config), runtime)


@pytest.fixture(scope="module")
def states(trainer, runtime):
  return trainer.step(runtime, trainer.start(runtime), 1, [0, 1, 2])[0]


def both(states):
  """Weights of the backdoored and of the clean model."""
  return states[0].global_model_weights, states[1][0].global_model_weights


def test_both_models_are_what_separate_runs_give(config, trainer, states, runtime):
  backdoored, clean = both(states)
  assert not equal(backdoored, clean)
  for found, change in (
    (backdoored, {"measure": None}),
    (clean, {"measure": None, "attack": "none"}),
  ):
    alone = dataclasses.replace(config, **change)
    single = trainers.build(alone, federation.build(alone), runtime)
    expected, _ = single.step(runtime, single.start(runtime), 1, [0, 1, 2])
    assert equal(expected[0].global_model_weights, found)
    assert equal(single.initial_weights, trainer.initial_weights)


def test_parts_come_from_the_models_they_are_named_after(trainer, states):
  backdoored, clean = both(states)
  mixed = trainer.swapped(clean, backdoored).trainable
  assert equal(mixed[:4], clean.trainable[:4])  # conv1, conv2: LeNet's shared layers
  assert equal(mixed[4:], backdoored.trainable[4:])
  assert equal(trainer.swapped(clean, clean), clean)


def test_four_combinations_are_scored(trainer, states):
  row = trainer.score(states)
  names = ("accuracy", "backdoor_accuracy", "backdoor_accuracy_nontarget")
  expected = {
    f"swap_{e}_extractor_{c}_classifier_{n}"
    for e in ("clean", "backdoor")
    for c in ("clean", "backdoor")
    for n in names
  }
  assert set(row) == expected | set(names)
  backdoored, clean = both(states)
  for kind, weights in (("backdoor", backdoored), ("clean", clean)):
    own = trainer.scorer.score_global(weights)
    for name, value in own.items():
      assert row[f"swap_{kind}_extractor_{kind}_classifier_{name}"] == value
  assert all(
    row[n] == row[f"swap_backdoor_extractor_backdoor_classifier_{n}"] for n in names
  )
  crossed = trainer.scorer.score_global(trainer.swapped(clean, backdoored))
  for name, value in crossed.items():
    assert row[f"swap_clean_extractor_backdoor_classifier_{name}"] == value


def test_the_starts_of_both_models_have_the_limit_that_they_are_given(trainer, runtime):
  watched, limit = toy_runs.NotesOptions(runtime), {"timeout_seconds": 9.0}
  trainer.start(watched, **limit)
  assert watched.options == [limit] * 2


def test_states_are_saved_and_loaded(trainer, states, runtime, tmp_path):
  kept = checkpoint.Checkpoints(tmp_path / "checkpoint")
  kept.save(1, *states)
  done, *loaded = checkpoint.Checkpoints(tmp_path / "checkpoint").load(
    *trainer.start(runtime)
  )
  assert done == 1 and equal(loaded, states)
  drawn = [0, 1, 2]
  again, _ = trainer.step(runtime, tuple(loaded), 2, drawn)
  expected, _ = trainer.step(runtime, states, 2, drawn)
  assert equal(again, expected)


def test_statistics_go_with_their_layer(config, trainer, monkeypatch):
  """A model with BatchNorm on both sides of the cut."""

  def keras_fn():
    image = tf.keras.Input([2, 2, 1])
    x = tf.keras.layers.BatchNormalization(name="first")(image)
    x = tf.keras.layers.Flatten()(x)
    x = tf.keras.layers.BatchNormalization(name="second")(x)
    return tf.keras.Model(image, tf.keras.layers.Dense(3, name="classifier")(x))

  def filled(value):
    import tensorflow_federated as tff

    model = keras_fn()
    return tff.learning.models.ModelWeights(
      [np.full(v.shape, value) for v in model.trainable_variables],
      [np.full(v.shape, value) for v in model.non_trainable_variables],
    )

  monkeypatch.setattr(trainer, "keras_fn", keras_fn)
  monkeypatch.setattr(federation, "shared_layers", lambda config: ("first",))
  mixed = trainer.swapped(filled(1.0), filled(2.0))
  assert [x.flat[0] for x in mixed.trainable] == [1, 1, 2, 2, 2, 2]
  assert [x.flat[0] for x in mixed.non_trainable] == [1, 1, 2, 2]


def test_attack_without_backdoored_images_raises(config):
  flip = {"mode": "complement", "num_classes": 10}
  config = dataclasses.replace(config, attack="label_flip", attack_settings=flip)
  with pytest.raises(ConfigError, match="'label_flip' has none"):
    trainers.build(config, federation.build(config), None)
