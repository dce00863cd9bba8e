"""The probe: representations of each client's model, and no step of the global one."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tff_defenses.experiments import probe

IMAGES = np.float32([[[[1.0], [2.0]]], [[[3.0], [5.0]]]])  # two of 1 x 2 x 1
# Layer `penultimate` [2, 2] without a bias, then `classifier`.
WEIGHTS = [np.eye(2, dtype=np.float32), np.ones([2, 2], np.float32)]


def model_fn():
  def keras_fn():
    return tf.keras.Sequential(
      [
        tf.keras.Input([1, 2, 1]),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(2, use_bias=False, name="penultimate"),
        tf.keras.layers.Dense(2, use_bias=False, name="classifier"),
      ]
    )

  return split.make_model_fn(keras_fn)


def test_representations_are_those_of_the_clients_models(runtime):
  made = model_fn()
  weights_type = tff.learning.models.weights_type_from_model(made).trainable
  factory = probe.PlrProbeFactory(split.plr_fn(made, IMAGES))
  process = factory.create_unified(weights_type)
  doubled = [-WEIGHTS[0], np.zeros([2, 2], np.float32)]  # initial minus trained
  still = [np.zeros_like(w) for w in WEIGHTS]
  info = [
    collections.OrderedDict(client_index=np.int32(i), num_examples=np.float32(1))
    for i in (0, 1)
  ]
  state = runtime.call(process.initialize)
  output = runtime.call(process.next, state, WEIGHTS, [still, doubled], info)
  seen = np.float32([[1, 2], [3, 5]])
  np.testing.assert_allclose(output.measurements["plrs"], [seen, 2 * seen])
  assert all((part == 0).all() for part in output.result)


def test_probing_a_run_gives_a_representation_for_each_client(flare_run, runtime):
  images = flare_run.trainer.federation.test_images[:4]
  plrs = probe.client_plrs(flare_run.trainer, runtime, flare_run.states, images)
  assert plrs.shape == (3, 4, 128) and np.isfinite(plrs).all()
  assert len({row.tobytes() for row in plrs}) == 3
