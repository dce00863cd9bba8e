"""What holds for every attack and every model of the lists."""

import copy

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks import ATTACKS
from attacks.data import trigger
from models import ALL_SHARED, MODELS, inputs, split
from tests import doubles
from tff_defenses.experiments.dataset_specs import DATASETS
from tff_defenses.learning import client_work

MODEL_FN = split.make_model_fn(doubles.tiny_keras)
SGD = tff.learning.optimizers.build_sgdm(0.1)
SMALL_MODELS = [name for name in MODELS if not name.startswith("resnet")]
TARGETS, TARGET_LABELS = doubles.tiny_images(7, size=2)


def same(one, two):
  """Whether two structures hold the same numbers and settings, bit for bit."""
  one, two = tf.nest.flatten(one), tf.nest.flatten(two)
  return len(one) == len(two) and all(map(np.array_equal, one, two))


def attack_arguments(spec):
  """(settings, inputs of one use) by the kind of attack."""
  images, labels = doubles.tiny_images(3, size=6)
  if spec.kind == "data":
    settings = {"pattern": trigger.square(1), "target_label": 1, "fraction": 0.5}
    return settings, {"images": images.astype(np.uint8), "labels": labels}
  settings = {"images": TARGETS.copy(), "labels": TARGET_LABELS.copy()}
  theta = doubles.tiny_keras().get_weights()
  return settings, {
    "images": images,
    "labels": labels,
    "weights": theta,
    "honest": [np.full_like(w, 0.01) for w in theta],
    "benign_mean": [np.full_like(w, 0.02) for w in theta],
  }


def use_attack(spec, attack, given):
  """One use of an attack on its inputs, outside TFF."""
  if spec.kind == "data":
    return attack.poison(given["images"], given["labels"], seed=3, client_index=1)
  craft = attack.build_craft(MODEL_FN(), client_work.ClientWork(SGD))
  weights = tff.learning.models.ModelWeights(given["weights"], [])
  data = doubles.image_dataset(given["images"], given["labels"])

  @tf.function
  def go():
    return craft(weights, data, tf.constant(1), given["honest"], given["benign_mean"])

  return [x.numpy() for x in tf.nest.flatten(go())]


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_leave_their_inputs_alone_and_repeat(name):
  spec = ATTACKS[name]
  settings, given = attack_arguments(spec)
  before = copy.deepcopy((settings, given))
  first = use_attack(spec, spec.build(**settings), given)
  assert same((settings, given), before)
  again = use_attack(spec, spec.build(**settings), given)
  assert same(first, again)
  untouched = (
    given["honest"] if "honest" in given else (given["images"], given["labels"])
  )
  assert not same(first, untouched)


@pytest.mark.parametrize("name", ATTACKS)
def test_built_attacks_see_no_more_than_their_entry_says(name):
  spec = ATTACKS[name]
  settings, _ = attack_arguments(spec)
  assert getattr(spec.build(**settings), "sees", spec.sees) <= spec.sees


@pytest.mark.parametrize("name", MODELS)
def test_model_entries_agree_with_the_data_sets_and_the_input_list(name):
  spec = MODELS[name]
  assert spec.name == name and spec.paper in spec.anchor
  assert spec.normalisation in inputs.NORMALISATIONS
  channels = inputs.NORMALISATIONS[spec.normalisation].num_channels
  assert channels in (None, spec.image_shape[-1])
  assert spec.cuts["all"] == ALL_SHARED
  shapes = {DATASETS[data].image_shape for data in spec.datasets}
  assert shapes == {spec.image_shape}
  assert DATASETS[spec.datasets[0]].num_classes == spec.num_classes


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_small_models_are_what_their_entries_say(name):
  spec = MODELS[name]
  model = spec.build()
  assert model.input_shape[1:] == spec.image_shape
  assert model.output_shape[1:] == (spec.num_classes,)
  counted = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
  assert counted == spec.num_parameters
  names = split.trainable_names(model)
  for patterns in (spec.shared_layers, *spec.cuts.values()):
    shared = split.is_shared(names, patterns)
    assert any(shared) and all(shared) == (patterns == ALL_SHARED)
  split.split_forward(model, spec.shared_layers)  # the default cut can be made
