"""FLARE's adaptive attack: Eq. (10) by hand, its gradient, and what eta does."""

import numpy as np
import pytest
import tensorflow as tf

from attacks import ATTACKS
from attacks.training import alternating, plr_matching
from models.representation import Representation
from tests import doubles
from tests.attacks import training_doubles as td

TARGET, TARGET_LABEL = doubles.tiny_images(7, size=1)
WRONG = 1 - TARGET_LABEL
MEAN = [np.full_like(w, 0.05) for w in td.THETA]  # benign mean update
PLRS = np.float32([[1, 0], [3, 0], [0, 5]])
ANCHOR = np.float32([[1, 1], [0, 3], [9, 9]])


def attack(**settings):
  return plr_matching.PlrMatchingAttack(TARGET, WRONG, model_fn=td.MODEL_FN, **settings)


def test_class_means_by_hand():
  """Class 0: ((1, 0) + (3, 0)) / 2; class 1: (0, 5); class 2: absent."""
  means, present = plr_matching.class_means(tf.constant(PLRS), [0, 0, 1], 3)
  assert means.numpy().tolist() == [[2, 0], [0, 5], [0, 0]]
  assert present.numpy().tolist() == [True, True, False]


def test_eq10_by_hand():
  """(2 - 1)^2 + (0 - 1)^2 + (5 - 3)^2 = 6; class 2 is absent and does not count."""
  found = plr_matching.distance_of_means(tf.constant(PLRS), [0, 0, 1], ANCHOR)
  assert float(found) == 6.0


def test_published_form_by_hand():
  """Gaps (0, -1), (2, -1), (0, 2): mean (2/3, 0), half its square 2/9."""
  found = plr_matching.distance_as_published(tf.constant(PLRS), [0, 0, 1], ANCHOR)
  assert float(found) == pytest.approx(2 / 9)


@pytest.mark.parametrize("form", plr_matching.FORMS)
def test_gradient_of_d_plr_is_that_of_finite_differences(form):
  """Through the traced model, with respect to every weight of the layer."""
  plr_of = Representation(td.MODEL_FN)
  distance = {
    "norm": plr_matching.distance_of_means,
    "authors": plr_matching.distance_as_published,
  }[form]
  anchor = np.float32([[0.5, 1.0, 0.2], [0.1, 0.4, 2.0]])

  def d_plr(weights):
    weights = [tf.cast(w, tf.float32) for w in weights]
    return distance(plr_of(td.IMAGES, weights, []), td.LABELS, anchor)

  variables = [tf.Variable(w) for w in td.THETA]
  with tf.GradientTape() as tape:
    value = d_plr(variables)
  gradients = tape.gradient(value, variables)
  assert gradients[2:] == [None, None]  # the classifier lies behind
  for which in (0, 1):
    for place in np.ndindex(td.THETA[which].shape):
      step = [np.float64(w).copy() for w in td.THETA]
      step[which][place] += 1e-2
      more = float(d_plr(step))
      step[which][place] -= 2e-2
      slope = (more - float(d_plr(step))) / 2e-2
      assert gradients[which].numpy()[place] == pytest.approx(slope, rel=0.02, abs=2e-3)


@pytest.mark.parametrize("anchor", ["benign_mean", "self"])
def test_eta_zero_is_the_alternating_attack_bit_for_bit(anchor):
  settings = {"anchor": anchor, "rho": 0.5, "boost": 2.0, "mal_epochs": 2}
  data = td.batches().repeat(2)
  plain = alternating.AlternatingAttack(TARGET, WRONG, **settings)
  one = td.craft(attack(eta=0.0, **settings), benign_mean=MEAN, data=data)
  two = td.craft(plain, benign_mean=MEAN, data=data)
  for a, b in zip(one, two, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", plr_matching.FORMS)
def test_it_equals_the_loop_by_hand(form):
  """CE + rho / 2 ||w - w_c||^2 + eta d_plr, then a step on the target."""
  start = td.minus(td.THETA, MEAN)
  anchor_model = doubles.tiny_keras()
  anchor_model.set_weights(start)
  plrs = td.penultimate(anchor_model, td.IMAGES).numpy()
  wanted = np.stack([plrs[td.LABELS == c].mean(axis=0) for c in (0, 1)])

  def stealth(model, x, y):
    own, labels = td.penultimate(model, x), y.numpy()
    total = td.cross_entropy(model, x, y)
    for w, s in zip(model.trainable_variables, start, strict=True):
      total += 0.25 * tf.reduce_sum((w - s) ** 2)
    if form == "authors":
      gap = tf.reduce_mean(own - wanted[labels], axis=0)
      return total + 0.3 * 0.5 * tf.reduce_sum(gap**2)
    for c in set(labels.tolist()):
      mean = tf.reduce_mean(own[labels == c], axis=0)
      total += 0.3 * tf.reduce_sum((mean - wanted[c]) ** 2)
    return total

  def malicious(model, number):
    del number
    td.descend(model, lambda: td.cross_entropy(model, TARGET, WRONG))

  expected = td.plain_training(stealth, start=start, after_step=malicious)
  found = td.craft(attack(eta=0.3, rho=0.5, form=form), benign_mean=MEAN)
  td.assert_close(found, expected)


def test_a_larger_eta_keeps_representations_nearer_the_anchors():
  start = td.minus(td.THETA, MEAN)
  plr_of = Representation(td.MODEL_FN)
  honest = plr_of(td.IMAGES, start, []).numpy()

  def gap(eta):
    data = td.batches().repeat(10)
    settings = {"rho": 0.0, "boost": 3.0, "mal_epochs": 10}
    update = td.craft(attack(eta=eta, **settings), benign_mean=MEAN, data=data)
    return np.linalg.norm(plr_of(td.IMAGES, td.minus(td.THETA, update), []) - honest)

  assert gap(1.0) < 0.7 * gap(0.0)


@pytest.mark.usefixtures("runtime")
def test_a_round_runs_and_the_attack_changes_it():
  malicious = [False, False, True]
  attacked = td.federated_round(
    attack(mal_epochs=1), malicious=malicious, attackers_only=False
  )
  alone = td.federated_round(None, malicious=malicious, attackers_only=False)
  honest = td.minus(td.THETA, alone)  # all three read the same images
  crafted = td.craft(attack(mal_epochs=1), benign_mean=honest)
  expected = [
    t - (2 * h + c) / 3 for t, h, c in zip(td.THETA, honest, crafted, strict=True)
  ]
  td.assert_close(attacked, expected, 1e-4)
  assert td.norm(td.minus(attacked, alone)) > 1e-3


def test_threat_model_says_what_is_seen():
  assert {"benign_updates", "aggregator"} <= attack().sees
  assert "benign_updates" not in attack(anchor="self").sees
  for settings in ({}, {"anchor": "self"}, {"form": "authors"}):
    assert ATTACKS["plr_matching"].seen_with(settings) == attack(**settings).sees


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"eta": -0.1}, "eta"),
    ({"eta": None}, "eta"),
    ({"form": "paper"}, "form"),
    ({"strategy": "converge"}, "strategy"),
    ({"boost": 0.0}, "boost"),
    ({"layer": "penultimat"}, "layer"),
  ],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"`{name}`"):
    attack(**settings)


def test_a_missing_model_raises():
  with pytest.raises(ValueError, match="PlrMatchingAttack: `model_fn`"):
    plr_matching.PlrMatchingAttack(TARGET, WRONG)
