"""What the mixing wrappers take as their inner rule, and how they carry it."""

import copy
import dataclasses
import functools
import pickle

import pytest
import tensorflow_federated as tff

from tests import doubles
from tests.doubles import plr_fn
from tff_defenses.aggregators import (
  bucketing,
  flare,
  krum,
  mean,
  nearest_neighbour_mixing,
  partial,
)

WRAPPERS = (
  bucketing.BucketingFactory,
  functools.partial(
    nearest_neighbour_mixing.NearestNeighbourMixingFactory, num_byzantine=1
  ),
)
each_wrapper = pytest.mark.parametrize("wrap", WRAPPERS)


@each_wrapper
@pytest.mark.parametrize(
  "inner",
  [
    tff.aggregators.MeanFactory(),
    tff.aggregators.SecureSumFactory(1.0),
    tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(1.0, 5.0, 1.0),
    partial.PartialAggregationFactory(krum.KrumFactory(1), [True, False]),
    krum.KrumFactory,
    "krum",
    None,
  ],
  ids=lambda inner: type(inner).__name__,
)
def test_what_cannot_take_rows_raises_and_says_why(wrap, inner):
  with pytest.raises(TypeError, match="`inner` must be .* in the clear .*FiniteMean"):
    wrap(inner)


@each_wrapper
def test_a_mean_by_examples_raises(wrap):
  with pytest.raises(ValueError, match="`inner` must weigh all rows alike"):
    wrap(mean.FiniteMeanFactory("examples"))


@each_wrapper
def test_a_mean_that_sums_in_its_own_way_raises(wrap):
  """Rows are averaged without it: a private sum would be lost without a word."""
  inner = mean.FiniteMeanFactory(sum_factory=doubles.AddOneFactory())
  with pytest.raises(ValueError, match="`inner` must not have a `sum_factory`"):
    wrap(inner)


@each_wrapper
@pytest.mark.parametrize(
  "whole", [lambda x: x, lambda x: partial.PartialAggregationFactory(x, [True, False])]
)
def test_flare_warns_of_batch_norm_inside_too(wrap, whole):
  def reads_statistics(weights):
    return plr_fn(weights)

  reads_statistics.has_moving_statistics = True
  for inner in (
    flare.FlareFactory(reads_statistics),
    wrap(flare.FlareFactory(reads_statistics)),
  ):
    with pytest.warns(UserWarning, match="has BatchNorm"):
      whole(inner).create(doubles.UPDATE_TYPE)


@each_wrapper
@pytest.mark.parametrize(
  "inner", [krum.KrumFactory(1), mean.FiniteMeanFactory(), flare.FlareFactory(plr_fn)]
)
def test_result_type_is_input_type_also_inside_partial_aggregation(wrap, inner):
  factory = wrap(inner)
  for whole in (factory, partial.PartialAggregationFactory(factory, [True, False])):
    process = whole.create(doubles.UPDATE_TYPE)
    result = process.next.type_signature.result.result.member
    assert result.is_identical_to(doubles.UPDATE_TYPE)


@each_wrapper
def test_wrappers_are_values(wrap):
  factory = wrap(krum.KrumFactory(1))
  assert factory == wrap(krum.KrumFactory(1)) != wrap(krum.KrumFactory(2))
  assert copy.copy(factory) == pickle.loads(pickle.dumps(factory)) == factory
  changed = dataclasses.replace(factory, inner=krum.KrumFactory(2))
  assert changed == wrap(krum.KrumFactory(2))
