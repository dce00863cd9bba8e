"""Rules inside of rules, as `defense_settings` ask for them."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_defenses as td
from models import split

GIVEN = {"num_byzantine": 1, "num_clients": 10}
WRAPPERS = ("bucketing", "fl_plas", "nearest_neighbour_mixing")


def build(name, **settings):
  return td.AGGREGATORS[name].build(GIVEN, **settings)


def test_multi_krum_counts_the_buckets_that_it_sees():
  factory = build("bucketing", inner="multi_krum", bucket_size=2)
  assert factory.inner.num_selected == 5 - 1 - 2
  assert build("multi_krum").num_selected == 10 - 1 - 2


def test_krum_selects_no_more_updates_than_a_round_has():
  assert build("krum", num_selected=10).num_selected == 10
  with pytest.raises(ValueError, match="`num_selected` must be at most the 10 .* 11"):
    build("krum", num_selected=11)


def test_trimmed_mean_trims_one_at_least_unless_told_otherwise():
  given = {**GIVEN, "num_byzantine": 0}
  assert td.AGGREGATORS["trimmed_mean"].build(given).num_trimmed == 1
  assert td.AGGREGATORS["trimmed_mean"].build(given, num_trimmed=0).num_trimmed == 0


@pytest.mark.parametrize("name", WRAPPERS)
def test_settings_of_the_inner_rule(name):
  found = build(name, inner="krum", inner_settings={"variant": "authors"})
  inner = found if name == "fl_plas" else found.inner
  assert (inner.num_byzantine, inner.variant) == (1, "authors")


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("inner", ["local", "fl_plas"])
def test_what_is_no_rule_of_the_server_cannot_be_inside(name, inner):
  with pytest.raises(
    ValueError, match=f"{name}: `inner` must be a rule .* got '{inner}'"
  ):
    build(name, inner=inner)


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("inner", ["kurm", ["krum"]])
def test_unknown_inner_rule_raises_with_the_nearest(name, inner):
  with pytest.raises(ValueError, match=f"{name}: `inner` must be one of") as raised:
    build(name, inner=inner)
  message = str(raised.value)
  assert "'multi_krum'" in message and "'local'" not in message
  assert message.endswith(f"got {inner!r}. Did you mean 'krum'?")


def test_bad_bucket_size_raises_with_its_name():
  with pytest.raises(ValueError, match="BucketingFactory: `bucket_size`"):
    build("bucketing", bucket_size=0)


def batch_norm_model():
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      layers.BatchNormalization(),
      layers.Flatten(),
      layers.Dense(3, name="penultimate"),
      layers.Dense(2),
    ]
  )


def flare_from_registry(model_fn, images):
  given = {**GIVEN, "model_fn": model_fn, "auxiliary_data": images}
  return td.AGGREGATORS["flare"].build(given)


def flare_by_hand(model_fn, images):
  return td.FlareFactory(split.plr_fn(model_fn, images))


def one_process(factory, model_fn):
  optimizer = tff.learning.optimizers.build_sgdm(0.1)
  return td.build_fed_avg(model_fn, optimizer, factory)


def tffs_process(factory, model_fn):
  start = [v.numpy() for v in batch_norm_model().trainable_variables]
  weights_type = tff.to_type([tff.TensorType(np.float32, w.shape) for w in start])
  return td.track_global_weights(factory, start).create(weights_type)


def told(recwarn):
  """Beginnings of the warnings that name BatchNorm."""
  found = [str(warning.message) for warning in recwarn]
  return [message.split(",")[0] for message in found if "BatchNorm" in message]


@pytest.mark.parametrize("build_flare", [flare_from_registry, flare_by_hand])
@pytest.mark.parametrize("build_process", [one_process, tffs_process])
def test_flare_warns_once_of_moving_statistics(build_flare, build_process, recwarn):
  model_fn = split.make_model_fn(batch_norm_model)
  factory = build_flare(model_fn, np.zeros([5, 2, 2, 1], np.float32))
  assert not told(recwarn)
  build_process(factory, model_fn)
  assert told(recwarn) == ["FlareFactory: the model of `plr_fn` has BatchNorm"]
