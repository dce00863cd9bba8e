"""Rules inside of rules, as `defense_settings` ask for them."""

import numpy as np
import pytest
import tensorflow as tf

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


def test_flare_warns_of_moving_statistics():
  model_fn = split.make_model_fn(batch_norm_model)
  images = np.zeros([5, 2, 2, 1], np.float32)
  given = {**GIVEN, "model_fn": model_fn, "auxiliary_data": images}
  with pytest.warns(UserWarning, match="flare: the model has BatchNorm"):
    td.AGGREGATORS["flare"].build(given)
