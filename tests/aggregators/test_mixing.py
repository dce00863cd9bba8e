"""What the mixing wrappers take as their inner rule, and how they carry it."""

import collections
import copy
import dataclasses
import functools
import pickle

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import doubles
from tests.doubles import plr_fn
from tff_defenses.aggregators import (
  base,
  bucketing,
  flame,
  flare,
  krum,
  mean,
  nearest_neighbour_mixing,
  partial,
  trimmed_mean,
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
@pytest.mark.parametrize("rule", [krum.KrumFactory, flame.FlameFactory])
def test_wrappers_are_values(wrap, rule):
  factory = wrap(rule(1))
  assert factory == wrap(rule(1)) != wrap(rule(2))
  assert copy.copy(factory) == pickle.loads(pickle.dumps(factory)) == factory
  assert factory.inner == rule(1)
  for inner in (krum.KrumFactory(2), flame.FlameFactory(2)):
    changed = dataclasses.replace(factory, inner=inner)
    assert changed == wrap(inner) and changed.inner == inner


@each_wrapper
def test_a_wrapper_is_of_the_kind_of_its_inner_rule(wrap):
  written = getattr(wrap, "func", wrap)
  plain, model_aware = wrap(krum.KrumFactory(1)), wrap(flame.FlameFactory())
  assert isinstance(plain, written) and isinstance(model_aware, written)
  assert isinstance(plain, base.PlainFactory)
  assert not isinstance(plain, base.ModelAwareFactory)
  assert isinstance(model_aware, base.ModelAwareFactory)
  assert not isinstance(model_aware, tff.aggregators.AggregationFactory)
  assert type(model_aware).__name__ == written.__name__
  assert type(model_aware).__doc__ == written.__doc__


class _BareMean(base.StackedModelAwareFactory):
  """A model-aware rule that neither removes rows nor measures anything."""

  def _server_step(self, weights, updates, specs):
    del weights, specs
    return tf.reduce_mean(updates, axis=0), collections.OrderedDict()


@pytest.mark.usefixtures("runtime")
@each_wrapper
def test_a_rule_that_rejects_nothing_may_be_wrapped(wrap):
  process = wrap(_BareMean()).create(doubles.UPDATE_TYPE)
  updates = [doubles.update(x) for x in (1, 3, 5, 7)]
  output = process.next(process.initialize(), doubles.update(0), updates)
  assert np.isfinite(doubles.flat(output.result)).all()
  assert output.measurements["num_rejected_mixed"] == 0


@pytest.mark.usefixtures("runtime")
@each_wrapper
def test_without_a_finite_client_no_guarantee_holds(wrap):
  factory = wrap(trimmed_mean.TrimmedMeanFactory(0))
  if isinstance(factory, nearest_neighbour_mixing.NearestNeighbourMixingFactory):
    factory = dataclasses.replace(factory, num_byzantine=0)
  output = doubles.run_plain(factory, [doubles.update(np.nan)] * 3)
  assert not output.measurements["guarantee_holds"]
