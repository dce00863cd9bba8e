"""What holds for every attack and every model of the lists."""

import copy

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks import ATTACKS, NEEDS
from attacks.data import distributed_trigger, trigger
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


# Settings that fit `tiny_images`; the attacks' own are made for real data.
SETTINGS = {
  "trigger": {"pattern": trigger.square(1), "target_label": 1, "fraction": 0.5},
  "label_flip": {"source_class": 1, "target_class": 0},
  "distributed_trigger": {
    "layout": distributed_trigger.Layout((trigger.square(1),), 0.5),
    "target_label": 1,
  },
  "feature_backdoor": {"pattern": trigger.square(1), "target_label": 1},
}
# These look for certain images of CIFAR-10: see their own tests.
NEEDS_ITS_IMAGES = ("semantic", "edge_case")
SIZES = {"num_clients": 6, "num_malicious": 2}
OFFERED = {  # what the harness supplies, by the kind of attack
  "data": {},
  "training": {
    **SIZES,
    "images": TARGETS,
    "labels": TARGET_LABELS,
    "benign_epochs": 1,
    "model_fn": MODEL_FN,
  },
  "update": {
    **SIZES,
    "rule": None,
    "shapes": tuple(tuple(w.shape) for w in doubles.tiny_keras().get_weights()),
  },
}
MALICIOUS = np.array([False, True, False, False, True, False])

each_attack = pytest.mark.parametrize(
  "name", [name for name in ATTACKS if name not in NEEDS_ITS_IMAGES]
)


def attack_arguments(spec):
  """(settings, inputs of one use) by the kind of attack."""
  images, labels = doubles.tiny_images(3, size=6)
  offered = {name: copy.deepcopy(OFFERED[spec.kind][name]) for name in spec.needs}
  settings = {**offered, **SETTINGS.get(spec.name, {})}
  if spec.kind == "data":
    return settings, {"images": images.astype(np.uint8), "labels": labels}
  theta = doubles.tiny_keras().get_weights()
  if spec.kind == "update":
    flat = doubles.flat(theta)
    deltas = 0.3 + 0.1 * np.random.default_rng(0).normal(size=(6, flat.size))
    return settings, {"deltas": deltas.astype(np.float32), "weights": flat}
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
  if spec.kind == "update":
    seed = tf.constant([3, 1])
    known = given["deltas"], MALICIOUS
    deltas, _ = attack.craft(*known, weights=given["weights"], seed=seed)
    return deltas.numpy()
  craft = attack.build_craft(MODEL_FN(), client_work.ClientWork(SGD))
  weights = tff.learning.models.ModelWeights(given["weights"], [])
  data = doubles.image_dataset(given["images"], given["labels"])

  @tf.function
  def go():
    return craft(weights, data, tf.constant(1), given["honest"], given["benign_mean"])

  return [x.numpy() for x in tf.nest.flatten(go())]


def honest_result(spec, given):
  """What the same inputs give without an attack."""
  if spec.kind == "data":
    return given["images"], given["labels"]
  return given["honest"] if spec.kind == "training" else given["deltas"]


def test_what_is_offered_here_is_what_entries_may_need():
  assert {kind: set(offered) for kind, offered in OFFERED.items()} == NEEDS


@each_attack
def test_attacks_leave_their_inputs_alone_and_repeat(name):
  spec = ATTACKS[name]
  settings, given = attack_arguments(spec)
  before = {k: copy.deepcopy(v) for k, v in settings.items() if k != "model_fn"}
  kept = copy.deepcopy(given)
  first = use_attack(spec, spec.build(**settings), given)
  assert same({k: v for k, v in settings.items() if k != "model_fn"}, before)
  assert same(given, kept)
  again = use_attack(spec, spec.build(**settings), given)
  assert same(first, again)
  assert not same(first, honest_result(spec, given))


@pytest.mark.parametrize("name", [n for n, s in ATTACKS.items() if s.kind == "update"])
def test_update_attacks_touch_malicious_rows_only(name):
  spec = ATTACKS[name]
  settings, given = attack_arguments(spec)
  found = use_attack(spec, spec.build(**settings), given)
  np.testing.assert_array_equal(found[~MALICIOUS], given["deltas"][~MALICIOUS])
  assert np.isfinite(found).all()
  assert (found[MALICIOUS] != given["deltas"][MALICIOUS]).any(axis=1).all()


@pytest.mark.parametrize("name", [n for n, s in ATTACKS.items() if s.kind == "update"])
def test_update_attacks_without_malicious_clients_do_nothing(name):
  spec = ATTACKS[name]
  settings, given = attack_arguments(spec)
  nobody = np.zeros(6, bool)
  seed = tf.constant([3, 1])
  attack = spec.build(**settings)
  found, _ = attack.craft(given["deltas"], nobody, weights=given["weights"], seed=seed)
  np.testing.assert_array_equal(found, given["deltas"])


each_data_attack = pytest.mark.parametrize(
  "name", ["trigger", "label_flip", "distributed_trigger"]
)


@each_data_attack
@pytest.mark.parametrize("shape", [(5,), (6, 1)])
def test_labels_that_do_not_fit_the_images_raise(name, shape):
  settings, given = attack_arguments(ATTACKS[name])
  attack, labels = ATTACKS[name].build(**settings), np.zeros(shape, int)
  with pytest.raises(ValueError, match="poison: `labels` must be"):
    attack.poison(given["images"], labels, 0)
  with pytest.raises(ValueError, match="test_set: `labels` must be"):
    attack.test_set(given["images"], labels)


@each_data_attack
@pytest.mark.parametrize("seeds", [(-1, 0), (0, -1)])
def test_negative_seed_or_index_raises(name, seeds):
  settings, given = attack_arguments(ATTACKS[name])
  with pytest.raises(ValueError, match="non-negative"):
    ATTACKS[name].build(**settings).poison(given["images"], given["labels"], *seeds)


@each_attack
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
