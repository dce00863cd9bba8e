"""What holds for every entry of the three lists, whatever the method."""

import collections
import dataclasses
import functools
import inspect
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_defenses as td
from attacks import ATTACKS
from models import ALL_SHARED, MODELS, inputs, split
from tests import doubles
from tff_defenses.aggregators import NEEDS, AggregatorSpec, base, stacking
from tff_defenses.experiments.dataset_specs import DATASETS
from tff_defenses.learning import client_work

NUM_CLIENTS = 6
MODEL_FN = split.make_model_fn(doubles.tiny_keras)
AUX_IMAGES, _ = doubles.tiny_images(99, size=5)
GIVEN = {
  "num_byzantine": 1,
  "num_clients": NUM_CLIENTS,
  "auxiliary_data": AUX_IMAGES,
  "model_fn": MODEL_FN,
}
SGD = tff.learning.optimizers.build_sgdm(0.1)
SERVER_SGD = tff.learning.optimizers.build_sgdm(1.0)
SHARED = [True, True, False, False]  # the tiny model's penultimate layer

each_aggregator = pytest.mark.parametrize("name", td.AGGREGATORS)
in_tff = pytest.mark.usefixtures("runtime")


def build(name):
  """The entry's factory, given what it needs and nothing else."""
  spec = td.AGGREGATORS[name]
  given = {need: GIVEN[need] for need in spec.needs if need in GIVEN}
  for need, companion in COMPANIONS.items():
    if need in spec.needs:
      given[companion] = GIVEN[companion]
  return spec.build(given)


COMPANIONS = {"num_byzantine": "num_clients", "auxiliary_data": "model_fn"}


@functools.cache
def theta():
  return client_work.initial_weights(MODEL_FN).trainable


@functools.cache
def weights_type():
  return tff.learning.models.weights_type_from_model(MODEL_FN).trainable


@functools.cache
def unified(name, partial=False):
  """The entry as a process of one and the same form; compiled once."""
  factory = build(name)
  if partial:
    factory = td.PartialAggregationFactory(factory, SHARED)
  return base.unify(factory, weights_type())


def run(name, updates, indices=None, partial=False):
  """One round; `updates` [n, d]. Returns (row [d], output)."""
  process = unified(name, partial)
  specs = stacking.tensor_specs(weights_type())
  values = [
    [x.numpy() for x in stacking.unflatten(np.float32(row), specs)] for row in updates
  ]
  indices = range(len(updates)) if indices is None else indices
  infos = [collections.OrderedDict(client_index=i, num_examples=1.0) for i in indices]
  output = process.next(process.initialize(), theta(), values, infos)
  return doubles.flat(output.result), output


def honest_updates(seed=0, clients=NUM_CLIENTS):
  size = stacking.num_parameters(weights_type())
  rng = np.random.default_rng(seed)
  return (0.3 + 0.1 * rng.normal(size=(clients, size))).astype(np.float32)


def assert_within(row, honest):
  """Each number lies between the smallest and the largest honest one."""
  assert np.isfinite(row).all()
  assert (row >= honest.min(axis=0) - 1e-5).all()
  assert (row <= honest.max(axis=0) + 1e-5).all()


def documented_measurements(factory):
  """Names in the paragraph "Measurements:" of a class docstring."""
  text = inspect.getdoc(type(factory))
  paragraph = re.search(r"^Measurements: (.*?)^\w+:", text, re.M | re.S).group(1)
  return {part.split()[0] for part in paragraph.split(";")}


@each_aggregator
def test_entry_is_complete(name):
  spec = td.AGGREGATORS[name]
  assert spec.name == name and spec.needs <= NEEDS
  assert spec.paper and spec.anchor and spec.assumption and spec.summary


def test_unknown_needs_raise_with_their_name():
  with pytest.raises(ValueError, match="AggregatorSpec x: unknown needs .*magic"):
    AggregatorSpec("x", build, frozenset({"magic"}), "", "", "", "")


@each_aggregator
def test_result_type_is_input_type(name):
  result = unified(name).next.type_signature.result.result
  assert result.member.is_identical_to(weights_type())
  assert result.placement is tff.SERVER


@each_aggregator
def test_repr_shows_every_setting(name):
  factory = build(name)
  assert dataclasses.is_dataclass(factory)
  for field in dataclasses.fields(factory):
    assert f"{field.name}={getattr(factory, field.name)!r}" in repr(factory)


@each_aggregator
def test_settings_cannot_be_changed_by_accident(name):
  factory = build(name)
  for field in dataclasses.fields(factory):
    with pytest.raises(dataclasses.FrozenInstanceError):
      setattr(factory, field.name, None)


@each_aggregator
def test_docstrings_hold_what_a_reader_needs(name):
  factory = build(name)
  text = inspect.getdoc(type(factory))
  for part in ("Type:", "Measurements:", "Args:", "Raises:", "Deviations:"):
    assert re.search(f"^{part}", text, re.M), part
  for field in dataclasses.fields(factory):
    assert re.search(rf"^  {field.name}: ", text, re.M), field.name
  assert "Reference:" in sys.modules[type(factory).__module__].__doc__


@in_tff
@each_aggregator
def test_measurements_are_the_documented_ones(name):
  _, output = run(name, honest_updates())
  assert set(output.measurements) == documented_measurements(build(name))


@in_tff
@each_aggregator
def test_weights_of_clients_sum_to_one(name):
  _, output = run(name, honest_updates())
  measured = output.measurements
  weight = measured["weight"] if "weight" in measured else measured["trust"]
  assert weight.shape == (NUM_CLIENTS,) and weight.min() >= 0
  assert weight.sum() == pytest.approx(1, abs=1e-5)


@in_tff
@each_aggregator
def test_equal_clients_give_that_client_back(name):
  updates = np.repeat(honest_updates(clients=1), NUM_CLIENTS, axis=0)
  row, _ = run(name, updates)
  np.testing.assert_allclose(row, updates[0], rtol=1e-5)


@in_tff
@each_aggregator
def test_one_client_alone_is_returned(name):
  updates = honest_updates(clients=1)
  row, _ = run(name, updates)
  np.testing.assert_allclose(row, updates[0], rtol=1e-6)


@in_tff
@each_aggregator
@pytest.mark.parametrize("keeps_index", [True, False])
def test_permuting_clients_changes_nothing(name, keeps_index):
  """Another order of arrival, and other indices for the same clients."""
  updates = honest_updates()
  order = np.random.default_rng(5).permutation(NUM_CLIENTS)
  row, output = run(name, updates)
  again, permuted = run(name, updates[order], order if keeps_index else None)
  np.testing.assert_allclose(again, row, rtol=1e-5, atol=1e-6)
  for key, value in output.measurements.items():
    if np.ndim(value) == 1:
      moved = value if keeps_index else value[order]
      np.testing.assert_allclose(permuted.measurements[key], moved, rtol=1e-4)


@in_tff
@each_aggregator
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_is_not_finite_moves_nothing_out_of_the_span(name, bad, whole):
  updates = honest_updates()
  updates[2, slice(None) if whole else 7] = bad
  row, output = run(name, updates)
  assert_within(row, np.delete(updates, 2, axis=0))
  assert output.measurements["num_rejected"] == 1
  alone, _ = run(name, np.delete(updates, 2, axis=0), [0, 1, 3, 4, 5])
  np.testing.assert_allclose(row, alone, rtol=1e-5)


@in_tff
@each_aggregator
def test_if_no_client_is_finite_the_weights_stay(name):
  row, output = run(name, np.full_like(honest_updates(), np.nan))
  assert (row == 0.0).all()
  assert output.measurements["num_rejected"] == NUM_CLIENTS


@in_tff
@pytest.mark.parametrize("name", ["krum", "multi_krum"])
@pytest.mark.parametrize("huge", [1e30, -1e30])
@pytest.mark.parametrize("whole", [True, False])
def test_a_huge_client_is_not_selected(name, huge, whole):
  updates = honest_updates()
  updates[4, slice(None) if whole else 0] = huge
  row, output = run(name, updates)
  assert_within(row, np.delete(updates, 4, axis=0))
  assert not output.measurements["selected"][4]


@in_tff
@pytest.mark.parametrize("name", set(td.AGGREGATORS) - {"flare"})
def test_odd_rules_flip_with_their_updates(name):
  """All but FLARE's, which looks at the weights (methods.md, section 0)."""
  updates = honest_updates()
  row, _ = run(name, updates)
  flipped, _ = run(name, -updates)
  np.testing.assert_allclose(flipped, -row, rtol=1e-5)


@in_tff
@each_aggregator
def test_inside_partial_aggregation(name):
  process = unified(name, partial=True)
  result = process.next.type_signature.result.result
  assert result.member.is_identical_to(weights_type())
  updates = honest_updates()
  sizes = [int(np.prod(leaf.shape)) for leaf in weights_type()]
  shared = np.repeat(SHARED, sizes)
  row, output = run(name, updates, partial=True)
  assert (row[~shared] == 0.0).all()
  assert_within(row[shared], updates[:, shared])
  assert set(output.measurements) == documented_measurements(build(name))
  zeroed, _ = run(name, np.where(shared, updates, 0))
  np.testing.assert_allclose(row, zeroed, rtol=1e-5, atol=1e-6)


def client_data(seed):
  return doubles.image_dataset(*doubles.tiny_images(seed))


def tffs_fed_avg(aggregator):
  return tff.learning.algorithms.build_unweighted_fed_avg(
    MODEL_FN,
    client_optimizer_fn=SGD,
    server_optimizer_fn=SERVER_SGD,
    model_aggregator=aggregator,
  )


def plug_in(name):
  """The factory as TFF takes it: model-aware ones keep a copy of the weights."""
  factory = build(name)
  if isinstance(factory, base.ModelAwareFactory):
    return td.track_global_weights(factory, theta())
  return factory


@functools.cache
def two_rounds_of_the_mean():
  """Global weights after two rounds of TFF's own unweighted mean, equal clients."""
  process = tffs_fed_avg(tff.aggregators.UnweightedMeanFactory())
  return run_rounds(process, [client_data(0)] * 4)[0]


def run_rounds(process, clients):
  state = process.initialize()
  for _ in range(2):
    output = process.next(state, clients)
    state = output.state
  return doubles.flat(state.global_model_weights.trainable), output


@in_tff
@each_aggregator
def test_in_tffs_own_fed_avg_equal_clients_train_as_under_the_mean(name):
  found, _ = run_rounds(tffs_fed_avg(plug_in(name)), [client_data(0)] * 4)
  np.testing.assert_allclose(found, two_rounds_of_the_mean(), rtol=1e-5, atol=1e-6)
  assert np.any(found != doubles.flat(theta()))


@in_tff
@each_aggregator
def test_in_tffs_own_fed_avg_with_different_clients(name):
  clients = [client_data(seed) for seed in range(NUM_CLIENTS)]
  found, output = run_rounds(tffs_fed_avg(plug_in(name)), clients)
  assert np.isfinite(found).all() and np.any(found != doubles.flat(theta()))
  measured = output.metrics["aggregator"]
  assert set(measured) == documented_measurements(build(name))
  if isinstance(build(name), base.ModelAwareFactory):
    tracked = doubles.flat(output.state.aggregator[1])
    np.testing.assert_array_equal(tracked, found)


TARGETS, TARGET_LABELS = doubles.tiny_images(7, size=2)


def same(one, two):
  """Whether two structures hold the same numbers, bit for bit."""
  one, two = tf.nest.flatten(one), tf.nest.flatten(two)
  return len(one) == len(two) and all(map(np.array_equal, one, two))


def attack_arguments(spec):
  """(settings, inputs of one use) by the kind of attack."""
  images, labels = doubles.tiny_images(3, size=6)
  if spec.kind == "data":
    settings = {"pattern": "square", "target_label": 1, "fraction": 0.5}
    settings["pattern"] = SMALL_PATTERN()
    return settings, {"images": images.astype(np.uint8), "labels": labels}
  settings = {"images": TARGETS.copy(), "labels": TARGET_LABELS.copy()}
  honest = [np.full(w.shape, 0.01, np.float32) for w in theta()]
  benign = [np.full(w.shape, 0.02, np.float32) for w in theta()]
  return settings, {
    "weights": [np.array(w) for w in theta()],
    "images": images,
    "labels": labels,
    "honest": honest,
    "benign_mean": benign,
  }


def SMALL_PATTERN():
  from attacks.data import trigger

  return trigger.square(1)


def use_attack(spec, attack, given):
  """One use of an attack on its inputs, outside TFF."""
  if spec.kind == "data":
    return attack.poison(given["images"], given["labels"], seed=3, client_index=1)
  craft = attack.build_craft(MODEL_FN(), client_work.ClientWork(SGD))
  weights = tff.learning.models.ModelWeights(given["weights"], [])
  data = doubles.image_dataset(given["images"], given["labels"])

  @tf.function
  def go():
    return craft(
      weights, data, tf.constant(1), given["honest"], given["benign_mean"]
    )

  return [x.numpy() for x in tf.nest.flatten(go())]


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_leave_their_inputs_alone_and_repeat(name):
  spec = ATTACKS[name]
  settings, given = attack_arguments(spec)
  before = tf.nest.map_structure(np.array, (settings_arrays(settings), given))
  attack = spec.build(**settings)
  first = use_attack(spec, attack, given)
  assert same((settings_arrays(settings), given), before)
  again = use_attack(spec, spec.build(**settings), given)
  assert same(first, again)
  untouched = given["honest"] if "honest" in given else (given["images"], given["labels"])
  assert not same(first, untouched)


def settings_arrays(settings):
  return {k: v for k, v in settings.items() if isinstance(v, np.ndarray)}


@pytest.mark.parametrize("name", ATTACKS)
def test_built_attacks_see_no_more_than_their_entry_says(name):
  spec = ATTACKS[name]
  settings, _ = attack_arguments(spec)
  assert getattr(spec.build(**settings), "sees", spec.sees) <= spec.sees


SMALL_MODELS = [name for name in MODELS if not name.startswith("resnet")]


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
