"""Every defense of the list inside other factories and TFF's own algorithm."""

import functools

import numpy as np
import tensorflow_federated as tff

import tff_defenses as td
from tests import doubles
from tests.contract import (
  LOOKS_AT_LAST_LAYER,
  MODEL_FN,
  NUM_CLIENTS,
  SGD,
  SHARED,
  as_values,
  assert_within,
  build,
  documented_measurements,
  each_aggregator,
  each_that_promises,
  honest_updates,
  in_tff,
  promises,
  run,
  theta,
  unified,
  weights_type,
)
from tff_defenses.aggregators import base


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
