"""Training attacks on BatchNorm models: they go on from the server's statistics."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks.training import projected, scaling
from models import split
from tests import doubles
from tests.attacks import training_doubles as td
from tff_defenses.learning import client_work

START = [np.full([4], 100.0, np.float32), np.full([4], 9.0, np.float32)]


def batch_norm_keras():
  layers = tf.keras.layers
  initializer = tf.keras.initializers.GlorotUniform(seed=3)
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      layers.Flatten(),
      layers.BatchNormalization(momentum=0.5),
      layers.Dense(2, name="classifier", kernel_initializer=initializer),
    ]
  )


THETA = doubles.weights_of(batch_norm_keras()).trainable


def crafted(attack):
  """(update, moving statistics) of an attack that starts from `START`."""
  model = split.make_model_fn(batch_norm_keras)()
  run = attack.build_craft(model, client_work.ClientWork(td.SGD, 1))
  weights = tff.learning.models.ModelWeights(THETA, START)

  @tf.function
  def go():
    return run(weights, td.batches(), tf.constant(1), THETA, THETA)

  return [[x.numpy() for x in part] for part in go()]


def trained_by_keras():
  """(update, moving statistics) of an honest client, plain Keras."""
  model = batch_norm_keras()
  for variable, value in zip(model.non_trainable_variables, START, strict=True):
    variable.assign(value)
  for batch in td.batches():
    td.descend(model, lambda b=batch: td.LOSS(b["y"], model(b["x"], training=True)))
  weights = doubles.weights_of(model)
  return td.minus(THETA, weights.trainable), weights.non_trainable


@pytest.mark.parametrize(
  ("attack", "factor"),
  [(scaling.ScalingAttack(gamma=3.0), 3.0), (projected.ProjectedAttack(eps=1e6), 1.0)],
)
def test_statistics_go_on_from_the_servers(attack, factor):
  update, statistics = crafted(attack)
  honest, moved = trained_by_keras()
  td.assert_close(update, [factor * u for u in honest], 1e-4)
  expected = [s + factor * (m - s) for s, m in zip(START, moved, strict=True)]
  td.assert_close(statistics, expected, 1e-4)
