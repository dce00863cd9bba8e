"""Every defense of the list, built and run in one and the same way."""

import collections
import functools
import inspect
import re

import numpy as np
import pytest
import tensorflow_federated as tff

import tff_defenses as td
from models import split
from tests import doubles
from tff_defenses.aggregators import base, stacking
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
  "root_data": td.build_root_update_fn(MODEL_FN, *ROOT_DATA, SGD, epochs=1),
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

# Where clients send nothing there is no factory to look at.
FACTORIES = [name for name, spec in td.AGGREGATORS.items() if spec.aggregates]
NO_FACTORIES = [name for name in td.AGGREGATORS if name not in FACTORIES]

each_entry = pytest.mark.parametrize("name", td.AGGREGATORS)
each_aggregator = pytest.mark.parametrize("name", FACTORIES)


def each_that_promises(promise):
  names = [name for name in FACTORIES if promises(name, promise)]
  return pytest.mark.parametrize("name", names)


def each_that_does_not(promise):
  names = [name for name in FACTORIES if not promises(name, promise)]
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
