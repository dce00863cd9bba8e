"""What holds for every defense of the list, whatever its method."""

import collections
import dataclasses
import functools
import inspect
import re
import sys

import numpy as np
import pytest
import tensorflow_federated as tff

import tff_defenses as td
from models import split
from tests import doubles
from tff_defenses.aggregators import NEEDS, PROMISES, AggregatorSpec, base, stacking
from tff_defenses.aggregators.spec import MAJORITY
from tff_defenses.learning import client_work

NUM_CLIENTS = 6
MODEL_FN = split.make_model_fn(doubles.tiny_keras)
AUX_IMAGES, _ = doubles.tiny_images(99, size=5)
ROOT_DATA = doubles.tiny_images(98)
SGD = tff.learning.optimizers.build_sgdm(0.1)
GIVEN = {
  "num_byzantine": 1,
  "num_clients": NUM_CLIENTS,
  "auxiliary_data": AUX_IMAGES,
  "model_fn": MODEL_FN,
  "root_data": td.build_root_update_fn(
    MODEL_FN, *doubles.tiny_images(98), SGD, epochs=1
  ),
}
SHARED = [True, True, False, False]  # the tiny model's penultimate layer

# Inside partial aggregation the last layer is another one for them.
LOOKS_AT_LAST_LAYER = ("foolsgold", "lfighter")

# Who a client is decides in these, not only what it sends.
TELLS_CLIENTS_APART = {
  "bucketing": "random buckets are drawn by client index",
  "bulyan": "the last picks always tie, and the lowest index wins",
}

# What stands beside a need in `given`, see `AggregatorSpec`.
COMPANIONS = {"num_byzantine": "num_clients", "auxiliary_data": "model_fn"}

each_aggregator = pytest.mark.parametrize("name", td.AGGREGATORS)


def each_that_promises(promise):
  names = [name for name, spec in td.AGGREGATORS.items() if promise in spec.promises]
  return pytest.mark.parametrize("name", names)


def each_that_does_not(promise):
  names = [n for n, spec in td.AGGREGATORS.items() if promise not in spec.promises]
  return pytest.mark.parametrize("name", names)


in_tff = pytest.mark.usefixtures("runtime")


def build(name):
  """The entry's factory, given what it needs and nothing else."""
  spec = td.AGGREGATORS[name]
  names = {*spec.needs, *(COMPANIONS[n] for n in spec.needs if n in COMPANIONS)}
  return spec.build({key: value for key, value in GIVEN.items() if key in names})


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


def as_values(updates):
  """Rows [n, d] as structures of the model's trainable weights."""
  specs = stacking.tensor_specs(weights_type())
  return [
    [x.numpy() for x in stacking.unflatten(np.float32(row), specs)] for row in updates
  ]


def promises(name, promise):
  return promise in td.AGGREGATORS[name].promises


def run(name, updates, indices=None, partial=False):
  """One round; `updates` [n, d]. Returns (row [d], output)."""
  process = unified(name, partial)
  values = as_values(updates)
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
  names = {part.split()[0] for part in paragraph.split(";")}
  if hasattr(factory, "inner"):  # a wrapper passes on what `inner` measured
    names = names - {"those", "num_rejected_mixed"} | documented_measurements(
      factory.inner
    )
  return names


@each_aggregator
def test_entry_is_complete(name):
  spec = td.AGGREGATORS[name]
  assert spec.name == name and spec.needs <= NEEDS
  assert spec.promises <= PROMISES
  assert spec.paper and spec.anchor and str(spec.assumption) and spec.summary
  assert spec.assumption.holds(NUM_CLIENTS, 0)


@pytest.mark.parametrize("field", ["needs", "promises"])
def test_unknown_words_raise_with_their_name(field):
  words = {"needs": frozenset(), "promises": frozenset(), field: frozenset({"magic"})}
  texts = {"paper": "", "anchor": "", "summary": ""}
  with pytest.raises(ValueError, match=f"AggregatorSpec x: unknown {field} .*magic"):
    AggregatorSpec("x", build, assumption=MAJORITY, **words, **texts)


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
  assert " at 0x" not in repr(factory)  # the same in every run


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
  if "selected" in measured:
    assert measured["selected"].dtype == bool
    assert (weight[~measured["selected"]] == 0).all()


@in_tff
@each_that_promises("returns_equal_clients")
def test_equal_clients_give_that_client_back(name):
  updates = np.repeat(honest_updates(clients=1), NUM_CLIENTS, axis=0)
  row, _ = run(name, updates)
  np.testing.assert_allclose(row, updates[0], rtol=1e-5)


@in_tff
@each_that_does_not("returns_equal_clients")
def test_equal_clients_give_no_other_direction(name):
  """Rules that rescale, add noise or distrust equal clients; never the wrong way."""
  updates = np.repeat(honest_updates(clients=1), NUM_CLIENTS, axis=0)
  row, _ = run(name, updates)
  assert np.isfinite(row).all() and row @ updates[0] >= 0
  assert np.linalg.norm(row) <= np.linalg.norm(updates[0]) * 1.1 + 1e-3


@in_tff
@each_that_promises("returns_equal_clients")
def test_one_client_alone_is_returned(name):
  updates = honest_updates(clients=1)
  row, _ = run(name, updates)
  np.testing.assert_allclose(row, updates[0], rtol=1e-6)


@in_tff
@each_aggregator
@pytest.mark.parametrize("keeps_index", [True, False])
def test_permuting_clients_changes_nothing(name, keeps_index):
  """Another order of arrival, and other indices for the same clients."""
  if name in TELLS_CLIENTS_APART and not keeps_index:
    pytest.skip(TELLS_CLIENTS_APART[name])
  updates = honest_updates()
  order = np.random.default_rng(5).permutation(NUM_CLIENTS).tolist()
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
  if promises(name, "returns_equal_clients"):
    assert_within(row, np.delete(updates, 2, axis=0))
  assert np.isfinite(row).all()
  assert output.measurements["num_rejected"] == 1
  alone, _ = run(name, np.delete(updates, 2, axis=0), [0, 1, 3, 4, 5])
  np.testing.assert_allclose(row, alone, rtol=1e-5)


@in_tff
@each_aggregator
def test_if_no_client_is_finite_the_weights_stay(name):
  row, output = run(name, np.full_like(honest_updates(), np.nan))
  assert (row == 0.0).all()
  assert output.measurements["num_rejected"] == NUM_CLIENTS


each_huge = pytest.mark.parametrize("huge", [1e30, -1e30])


def with_a_huge_client(huge, whole):
  updates = honest_updates()
  updates[4, slice(None) if whole else 0] = huge
  return updates


@in_tff
@each_that_promises("resists_huge_client")
@each_huge
@pytest.mark.parametrize("whole", [True, False])
def test_a_huge_client_moves_nothing_out_of_the_span(name, huge, whole):
  updates = with_a_huge_client(huge, whole)
  row, output = run(name, updates)
  assert_within(row, np.delete(updates, 4, axis=0))
  if whole:
    assert output.measurements["weight"][4] == 0


@in_tff
@each_that_does_not("resists_huge_client")
@each_huge
def test_a_huge_client_breaks_no_rule(name, huge):
  """Where it may drag the result, that is still a number, and so is what it weighs."""
  row, output = run(name, with_a_huge_client(huge, whole=True))
  assert np.isfinite(row).all()
  assert output.measurements["num_rejected"] == 0
  weight = output.measurements.get("weight", output.measurements.get("trust"))
  assert np.isfinite(weight).all()


@in_tff
@each_that_promises("is_odd")
def test_odd_rules_flip_with_their_updates(name):
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
  assert (row[~shared] == 0.0).all() and np.isfinite(row).all()
  if promises(name, "returns_equal_clients"):
    assert_within(row[shared], updates[:, shared])
  assert set(output.measurements) == documented_measurements(build(name))
  if name not in LOOKS_AT_LAST_LAYER:
    zeroed, _ = run(name, np.where(shared, updates, 0))
    np.testing.assert_allclose(row[shared], zeroed[shared], rtol=1e-5, atol=1e-6)


def client_data(seed):
  return doubles.image_dataset(*doubles.tiny_images(seed))


def tffs_fed_avg(aggregator):
  optimizers = (SGD, tff.learning.optimizers.build_sgdm(1.0))
  return tff.learning.algorithms.build_unweighted_fed_avg(
    MODEL_FN, *optimizers, model_aggregator=aggregator
  )


@functools.cache
def plugged_in(name):
  """TFF's process around the entry: model-aware ones keep a copy of the weights."""
  factory = build(name)
  if isinstance(factory, base.ModelAwareFactory):
    factory = td.track_global_weights(factory, theta())
  return tffs_fed_avg(factory)


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
def test_inside_tffs_clipping_and_zeroing(name):
  """Neither touches these updates, so the result is the rule's own."""
  factory = build(name)
  if isinstance(factory, base.ModelAwareFactory):
    factory = td.track_global_weights(factory, theta())
  zeroing = tff.aggregators.zeroing_factory(1e6, factory)
  process = tff.aggregators.clipping_factory(1e6, zeroing).create(weights_type())
  updates = honest_updates()
  output = process.next(process.initialize(), as_values(updates))
  row, _ = run(name, updates)
  np.testing.assert_allclose(doubles.flat(output.result), row, rtol=1e-5, atol=1e-6)


@in_tff
@each_that_promises("returns_equal_clients")
def test_in_tffs_own_fed_avg_equal_clients_train_as_under_the_mean(name):
  found, _ = run_rounds(plugged_in(name), [client_data(0)] * 4)
  np.testing.assert_allclose(found, two_rounds_of_the_mean(), rtol=1e-5, atol=1e-6)
  assert np.any(found != doubles.flat(theta()))


@in_tff
@each_aggregator
def test_in_tffs_own_fed_avg_with_different_clients(name):
  clients = [client_data(seed) for seed in range(NUM_CLIENTS)]
  found, output = run_rounds(plugged_in(name), clients)
  assert np.isfinite(found).all() and np.any(found != doubles.flat(theta()))
  measured = output.metrics["aggregator"]
  assert set(measured) == documented_measurements(build(name))
  if isinstance(build(name), base.ModelAwareFactory):
    tracked = doubles.flat(output.state.aggregator[1])
    np.testing.assert_array_equal(tracked, found)
