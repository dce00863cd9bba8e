"""The backdoor in the features: its loss, its trigger, and FL-PLAS's other clients."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from attacks.data import trigger
from attacks.training import feature_backdoor
from tests import doubles
from tests.attacks import training_doubles as td
from tff_defenses.learning import fl_plas

PATTERN = trigger.square(1, "bottom_left")
HONEST = td.plain_training(td.cross_entropy)


def attack(**settings):
  settings = {"pattern": PATTERN, "target_label": 1, **settings}
  return feature_backdoor.FeatureBackdoorAttack(model_fn=td.MODEL_FN, **settings)


def painted(images):
  images = np.array(images)
  images[:, 1, 0, :] = 255
  return images


def features(weights, images):
  model = doubles.tiny_keras()
  model.set_weights(weights)
  return td.penultimate(model, images).numpy()


def test_gap_by_hand():
  """((3 - 1)^2 + (1 - 1)^2 + 0) / 2 = 2."""
  found = feature_backdoor.gap(tf.constant([[3.0, 1.0], [1.0, 1.0]]), tf.ones([2]))
  assert float(found) == 2.0


def test_the_trigger_is_painted_in_the_graph():
  paint = attack()._painter((2, 2, 1))
  np.testing.assert_array_equal(paint(tf.constant(td.IMAGES)), painted(td.IMAGES))


def test_the_value_is_the_triggers():
  paint = attack(value=7)._painter((2, 2, 1))
  assert np.all(paint(tf.constant(td.IMAGES)).numpy()[:, 1, 0] == 7)


def test_a_whole_eta_is_as_good_as_a_float():
  td.assert_close(td.craft(attack(eta=1)), td.craft(attack(eta=1.0)))


def test_eta_zero_is_honest_training():
  found = td.craft(attack(eta=0.0))
  td.assert_close(found, HONEST)
  assert td.norm(found) > 0.01  # it trained


def test_it_equals_the_loop_by_hand():
  """CE + 0.3 * mean ||h(trigger(x)) - mu||^2, mu under theta, in plain Keras."""
  wanted = features(td.THETA, td.IMAGES[td.LABELS == 1]).mean(axis=0)

  def loss(model, x, y):
    found = td.penultimate(model, painted(x.numpy()))
    squares = tf.norm(found - wanted, axis=1) ** 2
    return td.cross_entropy(model, x, y) + 0.3 * tf.reduce_mean(squares)

  expected = td.plain_training(loss)
  td.assert_close(td.craft(attack(eta=0.3)), expected)
  assert td.norm(td.minus(expected, HONEST)) > 1e-3


def test_boost_multiplies_the_update():
  one, four = td.craft(attack()), td.craft(attack(boost=4.0))
  td.assert_close(four, [4 * u for u in one])


def test_without_images_of_the_target_class_it_trains_honestly():
  chosen = td.LABELS == 0
  data = td.batches(td.IMAGES[chosen], td.LABELS[chosen])
  expected = td.plain_training(td.cross_entropy, data=data)
  td.assert_close(td.craft(attack(), data=data), expected)


def test_triggered_images_get_the_features_of_the_target_class():
  """What the attack is for, on this model."""
  wanted = features(td.THETA, td.IMAGES[td.LABELS == 1]).mean(axis=0)

  def gap(update):
    found = features(td.minus(td.THETA, update), painted(td.IMAGES))
    return np.mean(np.sum((found - wanted) ** 2, axis=1))

  data = td.batches().repeat(10)
  honest = td.plain_training(td.cross_entropy, data=data)
  assert gap(td.craft(attack(eta=1.0), data=data)) < 0.3 * gap(honest)


def test_its_test_set_is_the_triggers_and_its_own_data_stay_clean():
  data_attack = attack().data_attack
  images = td.IMAGES.astype(np.uint8)
  found, labels = data_attack.test_set(images, td.LABELS)
  np.testing.assert_array_equal(found, painted(images))
  np.testing.assert_array_equal(labels, td.LABELS)
  own = data_attack.poison(images, td.LABELS, seed=0)
  np.testing.assert_array_equal(own[0], images)


@pytest.mark.usefixtures("runtime")
def test_only_shared_layers_of_the_crafted_update_reach_the_others():
  """FL-PLAS, one attacker of two: mean of the shared part; all classifiers honest."""

  def run(training_attack, malicious):
    process = fl_plas.build_fl_plas(
      td.MODEL_FN,
      td.SGD,
      ["penultimate"],
      None,
      td.read_for(attackers_only=False),
      training_attack=training_attack,
    )
    state = process.initialize()
    states = [process.initial_client_state(state)] * 2
    clients = [td.client(0, False), td.client(1, malicious)]
    state, states, _ = process.next(state, states, clients)
    return state.global_model_weights.trainable, states

  weights, states = run(attack(), True)
  alone, alone_states = run(None, True)
  crafted = td.craft(attack())
  sent = zip(td.THETA, HONEST, crafted, strict=True)
  expected = [t - (h + c) / 2 for t, h, c in sent]
  td.assert_close(weights[:2], expected[:2])
  td.assert_close(weights[2:], td.THETA[2:], 0)
  for a, b in zip(tf.nest.flatten(states), tf.nest.flatten(alone_states), strict=True):
    np.testing.assert_array_equal(a, b)
  assert td.norm(td.minus(weights, alone)) > 1e-4
  nobody, _ = run(attack(), False)
  for a, b in zip(nobody, alone, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("runtime")
def test_a_round_of_fed_avg_takes_the_crafted_update():
  after = td.federated_round(attack(), malicious=[False, True])
  crafted = td.craft(attack())
  td.assert_close(after, [t - c / 2 for t, c in zip(td.THETA, crafted, strict=True)])


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"eta": -1.0}, "eta"),
    ({"boost": 0.0}, "boost"),
    ({"pattern": "cross"}, "pattern"),
    ({"target_label": -1}, "target_label"),
    ({"value": "white"}, "value"),
    ({"layer": "hidden"}, "layer"),
  ],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"`{name}`"):
    attack(**settings)


def test_a_model_that_is_no_function_raises():
  with pytest.raises(ValueError, match="FeatureBackdoorAttack: `model_fn`"):
    feature_backdoor.FeatureBackdoorAttack(model_fn=functools)
