"""Stateless dropout: the right distribution, and nothing but the input decides."""

import numpy as np
import pytest
import tensorflow as tf

from models import layers


def values(*shape, seed=0):
  return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def dropped(output):
  return np.asarray(output) == 0.0


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_rate_and_mean(rate):
  x = values(64, 1000)
  y = layers.StatelessDropout(rate, salt=7)(x, training=True).numpy()
  # 64,000 draws: four standard deviations of a share are at most 0.008.
  assert abs(dropped(y).mean() - rate) < 0.008
  assert abs(y.mean() / x.mean() - 1.0) < 0.02 / (1.0 - rate)
  np.testing.assert_allclose(y[y != 0], x[y != 0] / (1.0 - rate), rtol=1e-6)


def test_inference_is_identity():
  x, layer = values(4, 5), layers.StatelessDropout(0.5)
  for training in (False, None, tf.constant(False)):
    np.testing.assert_array_equal(layer(x, training=training), x)


def test_symbolic_training_flag_drops():
  x, layer = values(4, 50), layers.StatelessDropout(0.5)
  symbolic = layer(x, training=tf.constant(True))
  np.testing.assert_array_equal(symbolic, layer(x, training=True))


def test_equal_input_equal_mask_in_any_instance_and_mode():
  x = values(8, 100)
  first = layers.StatelessDropout(0.5, salt=3)(x, training=True)
  second_layer = layers.StatelessDropout(0.5, salt=3)
  traced = tf.function(lambda t: second_layer(t, training=True))
  np.testing.assert_array_equal(first, traced(x))
  np.testing.assert_array_equal(first, traced(x))


def test_one_changed_bit_gives_another_mask():
  x = values(8, 100)
  changed = x.copy()
  changed[3, 5] = np.nextafter(changed[3, 5], np.float32(2))
  layer = layers.StatelessDropout(0.5)
  first, second = (dropped(layer(t, training=True)) for t in (x, changed))
  assert 0.4 < (first != second).mean() < 0.6  # independent fair coins


def test_swapped_rows_give_another_mask():
  x = values(8, 100)
  layer = layers.StatelessDropout(0.5)
  first, second = (dropped(layer(t, training=True)) for t in (x, x[::-1].copy()))
  assert 0.4 < (first != second).mean() < 0.6


def test_salts_give_independent_masks():
  x = values(8, 100)
  first, second = (
    dropped(layers.StatelessDropout(0.5, salt=salt)(x, training=True))
    for salt in (1, 2)
  )
  assert 0.4 < (first != second).mean() < 0.6


def test_spatial_drops_whole_maps():
  x = values(16, 5, 6, 32)
  y = layers.StatelessDropout(0.25, spatial=True)(x, training=True)
  share = dropped(y).mean(axis=(1, 2))  # [batch, channel]
  assert set(np.unique(share)) == {0.0, 1.0}
  assert abs(share.mean() - 0.25) < 0.08  # 512 maps, four standard deviations


def test_gradient_flows_through_kept_values_only():
  x = tf.constant(values(4, 50))
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = layers.StatelessDropout(0.5)(x, training=True)
  gradient = tape.gradient(y, x).numpy()
  np.testing.assert_array_equal(gradient, np.where(dropped(y), 0.0, 2.0))


def test_no_variables_and_settings_survive_saving():
  layer = layers.StatelessDropout(0.25, spatial=True, salt=9)
  assert not layer.weights
  again = layers.StatelessDropout.from_config(layer.get_config())
  assert (again.rate, again.spatial, again.salt) == (0.25, True, 9)


def test_rate_zero_keeps_all():
  x = values(3, 4)
  np.testing.assert_array_equal(layers.StatelessDropout(0.0)(x, training=True), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_impossible_rate_raises_with_its_name(rate):
  with pytest.raises(ValueError, match="StatelessDropout: `rate`"):
    layers.StatelessDropout(rate)


def test_layer_seeds_are_distinct_and_stable():
  names = [f"block{i}_conv" for i in range(100)]
  seeds = {layers.layer_seed(seed, name) for seed in (0, 1) for name in names}
  assert len(seeds) == 200
  assert layers.layer_seed(0, "conv1") == 349183847
