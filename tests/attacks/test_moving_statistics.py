"""Training attacks on BatchNorm models: they go on from the server's statistics."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks.data import trigger
from attacks.training import (
  alternating,
  feature_backdoor,
  plr_matching,
  projected,
  scaling,
)
from models import split
from tests import doubles
from tests.attacks import training_doubles as td
from tff_defenses.learning import client_work

START = [np.full([4], 0.3, np.float32), np.full([4], 0.25, np.float32)]
TARGET, LABEL = np.float32([200, 0, 0, 0]).reshape(1, 2, 2, 1), np.int32([0])
EPSILON = 1e-3  # Keras adds it to variances


def batch_norm_keras():
  layers, seeded = tf.keras.layers, tf.keras.initializers.GlorotUniform
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      layers.Flatten(),
      layers.Rescaling(1 / 255),
      layers.BatchNormalization(momentum=0.5, epsilon=EPSILON, name="norm"),
      layers.Dense(
        3,
        activation="relu",
        name="penultimate",
        kernel_initializer=seeded(seed=1),
        bias_initializer="ones",
      ),
      layers.Dense(2, name="classifier", kernel_initializer=seeded(seed=3)),
    ]
  )


MODEL_FN = split.make_model_fn(batch_norm_keras)
THETA = doubles.weights_of(batch_norm_keras()).trainable
MEAN = [np.full_like(w, 0.05) for w in THETA]  # benign mean update


def crafted(attack, passes=1, benign_mean=THETA):
  """(update, moving statistics) of an attack that starts from `START`."""
  run = attack.build_craft(MODEL_FN(), client_work.ClientWork(td.SGD, 1))
  weights = tff.learning.models.ModelWeights(THETA, START)

  @tf.function
  def go():
    data = td.batches().repeat(passes)
    return run(weights, data, tf.constant(1), THETA, benign_mean)

  return [[x.numpy() for x in part] for part in go()]


def trained_by_keras(loss=None, *, start=THETA, passes=1, after_step=None):
  """(update, moving statistics) of plain Keras on `loss(model, x, y)`, CE by default.

  `after_step(model)` may do more after each batch.
  """
  model = batch_norm_keras()
  for variable, value in zip(model.trainable_variables, start, strict=True):
    variable.assign(value)
  for variable, value in zip(model.non_trainable_variables, START, strict=True):
    variable.assign(value)
  loss = cross_entropy if loss is None else loss
  for batch in td.batches().repeat(passes):
    td.descend(model, lambda b=batch: loss(model, b["x"], b["y"]))
    if after_step is not None:
      after_step(model)
  weights = doubles.weights_of(model)
  return td.minus(THETA, weights.trainable), weights.non_trainable


def cross_entropy(model, x, y):
  return td.LOSS(y, model(x, training=True))


def to_the_target(model):
  """One step on D_mal, which is read as the deployed model reads it."""
  td.descend(model, lambda: td.LOSS(LABEL, model(TARGET, training=False)))


def stays_near(anchor, rho=0.5):
  def loss(model, x, y):
    pairs = zip(model.trainable_variables, anchor, strict=True)
    squares = sum(tf.reduce_sum((v - a) ** 2) for v, a in pairs)
    return cross_entropy(model, x, y) + rho / 2 * squares

  return loss


def assert_same(found, expected):
  for part, wanted in zip(found, expected, strict=True):
    td.assert_close(part, wanted, 1e-4)


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


def test_the_own_anchors_training_moves_no_statistics_of_the_attacks():
  """mal_epochs > E: a training for the anchor, then one from the start again."""
  settings = {"form": "self", "rho": 0.5, "boost": 1.0, "mal_epochs": 2}
  attack = alternating.krum_backdoor(TARGET, LABEL, benign_epochs=1, **settings)
  anchor = td.minus(THETA, trained_by_keras(passes=2)[0])
  loss = stays_near(anchor)
  expected = trained_by_keras(loss, passes=2, after_step=to_the_target)
  assert_same(crafted(attack, passes=2), expected)


def test_white_box_starts_at_the_benign_mean_and_the_servers_statistics():
  attack = alternating.krum_backdoor(TARGET, LABEL, rho=0.5, mal_epochs=2)
  start = td.minus(THETA, MEAN)
  loss = stays_near(start)
  expected = trained_by_keras(loss, start=start, passes=2, after_step=to_the_target)
  assert_same(crafted(attack, passes=2, benign_mean=MEAN), expected)


def test_converging_on_the_target_moves_no_statistics(monkeypatch):
  monkeypatch.setattr(alternating, "_MAX_STEPS", 4)
  attack = alternating.coomed_backdoor(TARGET, LABEL)

  def target_loss(model, x, y):
    del x, y
    return td.LOSS(LABEL, model(TARGET, training=False))

  expected, _ = trained_by_keras(target_loss, passes=2)  # two batches each: four steps
  assert_same(crafted(attack), (expected, START))


def server_plrs(weights, x):
  """Of a new model with these weights: its statistics are mean 0 and variance 1."""
  gamma, beta, kernel, bias = weights[:4]
  values = tf.reshape(x, [-1, 4]) / 255 / np.sqrt(1 + EPSILON)
  return tf.nn.relu((values * gamma + beta) @ kernel + bias)


def plr_attack(**settings):
  return plr_matching.PlrMatchingAttack(TARGET, LABEL, model_fn=MODEL_FN, **settings)


def test_representations_are_read_as_the_server_reads_them():
  reads = split.plr_fn(MODEL_FN, td.IMAGES)(THETA)
  found = plr_attack().plr_of.under(td.IMAGES, THETA)
  np.testing.assert_allclose(found, reads, rtol=1e-5)
  np.testing.assert_allclose(found, server_plrs(THETA, td.IMAGES), rtol=1e-5)


@pytest.mark.parametrize("form", plr_matching.FORMS)
def test_d_plr_is_zero_at_the_anchor_wherever_the_statistics_are(form):
  attack, model = plr_attack(form=form), MODEL_FN()
  loop = plr_matching.PlrMatchingTraining(
    attack, model, client_work.ClientWork(td.SGD, 1)
  )
  weights = tff.learning.models.ModelWeights(THETA, START)
  whole = doubles.image_dataset(td.IMAGES, td.LABELS, batch_size=len(td.LABELS))

  @tf.function
  def d_plr(drifted):
    penalty = loop.penalty(weights, whole, [tf.constant(w) for w in THETA])
    loop.set(drifted, THETA)
    return penalty(next(iter(whole)))

  assert float(d_plr(START)) == pytest.approx(0, abs=1e-9)
  far = [np.full([4], -2.0, np.float32), np.full([4], 7.0, np.float32)]
  assert float(d_plr(far)) == pytest.approx(0, abs=1e-9)


def test_plr_matching_equals_the_loop_by_hand():
  start = td.minus(THETA, MEAN)
  plrs = server_plrs(start, td.IMAGES).numpy()
  wanted = [plrs[td.LABELS == c].mean(axis=0) for c in (0, 1)]
  near = stays_near(start)

  def loss(model, x, y):
    total = near(model, x, y)
    own, labels = server_plrs(model.trainable_variables, x), y.numpy()
    for c in set(labels.tolist()):
      mean = tf.reduce_mean(own[labels == c], axis=0)
      total += 0.3 * tf.reduce_sum((mean - wanted[c]) ** 2)
    return total

  expected = trained_by_keras(loss, start=start, after_step=to_the_target)
  attack = plr_attack(eta=0.3, rho=0.5, mal_epochs=1)
  assert_same(crafted(attack, benign_mean=MEAN), expected)


def features(model, x):
  """By Keras itself, in inference mode under the model's own statistics."""
  tap = tf.keras.Model(model.inputs, model.get_layer("penultimate").output)
  return tap(x, training=False)


def test_feature_backdoor_equals_the_loop_by_hand():
  """mu under the server's statistics, h under those of the moment."""
  painted = trigger.square(1, "bottom_left")
  attack = feature_backdoor.FeatureBackdoorAttack(
    model_fn=MODEL_FN, pattern=painted, target_label=1, eta=0.3
  )
  server = batch_norm_keras()
  for variable, value in zip(server.non_trainable_variables, START, strict=True):
    variable.assign(value)
  wanted = features(server, td.IMAGES[td.LABELS == 1]).numpy().mean(axis=0)

  def loss(model, x, y):
    images = x.numpy().copy()
    images[:, 1, 0] = 255
    squares = tf.reduce_sum((features(model, images) - wanted) ** 2, axis=1)
    return cross_entropy(model, x, y) + 0.3 * tf.reduce_mean(squares)

  assert_same(crafted(attack), trained_by_keras(loss))
