"""The alternating backdoor against plain loops, by hand, and inside a round."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks.training import alternating
from tests import doubles
from tests.attacks import training_doubles as td
from tff_defenses.aggregators import krum
from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE

TARGET = np.float32([200, 0, 0, 0]).reshape(1, 2, 2, 1)  # theta takes it for a 1
LABEL = np.int32([0])
ONE_OF_THREE = [False, False, True]
BOOSTED = {"form": "self", "rho": 0.0, "boost": 5.0, "mal_epochs": 1}
MEAN = [np.full_like(w, 0.05) for w in td.THETA]  # benign mean update


def attack(**settings):
  return alternating.krum_backdoor(TARGET, LABEL, **settings)


def coomed(**settings):
  return alternating.coomed_backdoor(TARGET, LABEL, **settings)


def craft(attack, **settings):
  """As the attack gets its data: as many passes as it trains."""
  data = td.batches().repeat(max(1, attack.mal_epochs))
  return td.craft(attack, data=data, **settings)


def target_loss(model, *_):
  return td.cross_entropy(model, TARGET, LABEL)


def malicious_step(model, boost):
  """On the target alone; `boost` is one number, or one for each variable."""
  before = model.get_weights()
  td.descend(model, lambda: target_loss(model))
  moved = zip(before, model.get_weights(), np.broadcast_to(boost, 4), strict=True)
  model.set_weights([old + np.float32(k) * (new - old) for old, new, k in moved])


def half_squared(values):
  return sum(tf.reduce_sum(v**2) for v in values) / 2


def norm_of_kernels(values):
  return tf.sqrt(sum(tf.reduce_sum(v**2) for v in values[::2]))


def plain_training(
  epochs,
  *,
  start=td.THETA,
  rho=0.0,
  anchor=None,
  boost=None,
  distance=half_squared,
):
  """The same loops in plain Keras, written anew; without a boost: honest ones."""

  def stealth(model, x, y):
    pairs = zip(model.trainable_variables, anchor or start, strict=True)
    return td.cross_entropy(model, x, y) + rho * distance([v - a for v, a in pairs])

  def malicious(model, number):
    del number
    malicious_step(model, boost)

  return td.plain_training(
    stealth,
    start=start,
    after_step=None if boost is None else malicious,
    data=td.batches().repeat(epochs),
  )


def confidence(update):
  """Of the model with this update in the attacker's label."""
  model = doubles.tiny_keras()
  model.set_weights(td.minus(td.THETA, update))
  return float(tf.nn.softmax(model(TARGET))[0, 0])


def test_self_form_equals_the_loop_by_hand():
  honest = plain_training(1)
  settings = {"form": "self", "boost": 3.0, "rho": 0.5, "mal_epochs": 2}
  found = craft(attack(benign_epochs=2, **settings), honest=honest)
  anchor = td.minus(td.THETA, honest)
  td.assert_close(found, plain_training(2, rho=0.5, anchor=anchor, boost=3.0))


def test_norm_of_the_kernels_equals_the_loop_by_hand():
  """Eq. (7) as printed, a norm that is not squared, here without the biases."""
  honest = plain_training(1)
  settings = {"form": "self", "rho": 0.5, "mal_epochs": 2, "benign_epochs": 2}
  settings |= {"distance": "norm", "kernels_only": True, "hold_off": 0.0}
  found = craft(attack(**settings), honest=honest)
  anchor = td.minus(td.THETA, honest)
  expected = plain_training(2, rho=0.5, anchor=anchor, distance=norm_of_kernels)
  td.assert_close(found, expected)
  assert not np.allclose(found[0], plain_training(2, rho=0.5, anchor=anchor)[0])


def test_kernels_only_boosts_no_bias_in_the_malicious_steps():
  found = craft(attack(kernels_only=True, **BOOSTED))
  td.assert_close(found, plain_training(1, boost=[5.0, 1.0, 5.0, 1.0]))
  assert not np.allclose(found[1], plain_training(1, boost=5.0)[1])


def test_own_anchor_trains_as_long_as_the_attack():
  """mal_epochs > E: the honest update is too short an anchor."""
  anchor = td.minus(td.THETA, plain_training(3))
  found = craft(attack(form="self", rho=0.5, boost=1.0, mal_epochs=3, benign_epochs=1))
  td.assert_close(found, plain_training(3, rho=0.5, anchor=anchor, boost=1.0))


def test_white_box_starts_and_stays_at_the_benign_mean():
  found = craft(attack(rho=0.5, mal_epochs=2), benign_mean=MEAN)
  start = td.minus(td.THETA, MEAN)
  td.assert_close(found, plain_training(2, start=start, rho=0.5, boost=1.0))


def test_without_effect_of_the_target_it_is_benign_training():
  """Logits (1520, 1034): CE(D_mal) is exactly 0."""
  reached = np.float32([0, 0, 0, 1e6]).reshape(1, 2, 2, 1)
  found = alternating.krum_backdoor(reached, LABEL, form="self", rho=0.0, mal_epochs=2)
  td.assert_close(craft(found), plain_training(2))


def test_no_malicious_step_where_the_target_is_certain():
  """After one huge step CE(D_mal) is exactly 0; momentum alone must not go on."""
  settings = {"form": "self", "rho": 0.0, "mal_epochs": 1, "boost": 1000.0}
  settings |= {"order": "malicious_first"}
  momentum = tff.learning.optimizers.build_sgdm(0.1, 0.9)
  one = craft(attack(stealth_steps=2, **settings), optimizer=momentum)  # two batches
  two = craft(attack(stealth_steps=1, **settings), optimizer=momentum)
  for a, b in zip(one, two, strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_large_rho_pulls_the_update_to_the_anchors():
  near = craft(attack(rho=5.0, mal_epochs=2), benign_mean=MEAN)
  far = craft(attack(rho=0.0, mal_epochs=2), benign_mean=MEAN)
  assert td.norm(td.minus(near, MEAN)) < 0.7 * td.norm(td.minus(far, MEAN))


def test_it_reaches_its_target():
  assert confidence(td.ZEROS) < 0.5
  assert confidence(craft(attack(form="self", boost=10.0, mal_epochs=10))) > 0.5


def test_zero_malicious_epochs_send_the_honest_update():
  honest = [np.full_like(w, 0.5) for w in td.THETA]
  for none in (attack(mal_epochs=0), coomed(mal_epochs=0, boost=9.0)):
    td.assert_close(craft(none, honest=honest), honest)


@pytest.mark.parametrize("order", alternating.ORDERS)
def test_one_malicious_step_comes_after_or_before_two_stealth_steps(order):
  model, is_first = doubles.tiny_keras(), order == "malicious_first"
  if is_first:
    malicious_step(model, 5.0)

  def after_step(model, number):
    if number == 2 and not is_first:
      malicious_step(model, 5.0)

  start = model.get_weights()
  expected = td.plain_training(td.cross_entropy, start=start, after_step=after_step)
  found = craft(attack(stealth_steps=2, order=order, **BOOSTED))
  td.assert_close(found, expected)


def test_hold_off_skips_steps_once_the_target_is_confident():
  settings = {"form": "self", "rho": 0.0, "boost": 5.0, "mal_epochs": 2}
  always, never = (craft(attack(hold_off=share, **settings)) for share in (1.0, 0.0))
  td.assert_close(never, plain_training(2))
  assert not np.allclose(always[0], never[0])


def test_hold_off_is_a_confidence_beyond_which_a_step_is_skipped():
  """Before the only malicious step, after the only stealth step."""
  batch = td.batches().take(1)
  skipped = td.plain_training(td.cross_entropy, data=batch)
  share = confidence(skipped)
  taken = td.plain_training(
    td.cross_entropy, data=batch, after_step=lambda model, _: malicious_step(model, 5.0)
  )
  for hold_off, expected in ((share - 0.01, skipped), (share + 0.01, taken)):
    found = td.craft(attack(hold_off=hold_off, **BOOSTED), data=batch)
    td.assert_close(found, expected)
  assert not np.allclose(taken[0], skipped[0])


def test_kernels_only_leaves_biases_unboosted():
  both, kernels = (craft(coomed(boost=4.0, kernels_only=k)) for k in (False, True))
  td.assert_close(kernels[::2], both[::2])
  td.assert_close([4 * u for u in kernels[1::2]], both[1::2])


def test_converge_trains_on_the_target_alone_and_boosts_once():
  one, ten = craft(coomed()), craft(coomed(boost=10.0))
  td.assert_close(ten, [10 * u for u in one], 1e-4)
  assert confidence(one) > 0.99


@pytest.mark.parametrize(("check_every", "steps"), [(1, 3), (2, 3), (4, 5), (100, 101)])
def test_converge_looks_at_the_loss_every_so_often(monkeypatch, check_every, steps):
  """The loss is small enough after the third step."""

  def update_after(number):
    data = td.batches().repeat().take(number)
    return td.plain_training(target_loss, data=data)

  losses = [-np.log(confidence(update_after(number))) for number in (2, 3)]
  monkeypatch.setattr(alternating, "_CONVERGED", np.mean(losses))
  found = craft(coomed(check_every=check_every, mal_epochs=1))
  td.assert_close(found, update_after(steps))


def test_converge_takes_mal_epochs_steps_at_least(monkeypatch):
  """The loss is small enough from the start."""
  monkeypatch.setattr(alternating, "_CONVERGED", np.inf)
  data = td.batches().repeat().take(7)
  expected = td.plain_training(target_loss, data=data)
  td.assert_close(craft(coomed(check_every=1, mal_epochs=7)), expected)


@pytest.mark.usefixtures("runtime")
def test_white_box_in_a_round_of_attackers_starts_at_the_global_weights():
  """No benign client was drawn: their mean is zero, not NaN."""
  made = attack(rho=0.5, mal_epochs=1)
  attacked = td.federated_round(made, malicious=[True, True], attackers_only=False)
  expected = plain_training(1, start=td.THETA, rho=0.5, boost=1.0)
  assert td.norm(expected) > 0
  td.assert_close(td.minus(td.THETA, attacked), expected, 1e-4)


@pytest.mark.usefixtures("runtime")
def test_honest_clients_are_untouched_bit_for_bit():
  """Krum over two equal honest updates and one far one returns the honest one."""
  settings = {"malicious": ONE_OF_THREE, "attackers_only": False}
  settings |= {"factory": krum.KrumFactory(0)}
  boosted = attack(form="self", boost=50.0, mal_epochs=1)
  attacked, metrics = td.round_with_metrics(boosted, **settings)
  for a, b in zip(attacked, td.federated_round(None, **settings), strict=True):
    np.testing.assert_array_equal(a, b)
  assert metrics["aggregator"]["selected"].tolist() == [True, False, False]
  assert metrics["aggregator"]["score"][2] > 0


@pytest.mark.usefixtures("runtime")
def test_nobody_malicious_equals_no_attack():
  settings = {"malicious": [False] * 3, "attackers_only": False}
  attacked = td.federated_round(attack(mal_epochs=1), **settings)
  for a, b in zip(attacked, td.federated_round(None, **settings), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("runtime")
def test_white_box_sees_the_rounds_benign_mean():
  """The malicious client's update, read off the mean of three."""
  attacked = td.federated_round(
    attack(rho=0.5, mal_epochs=1), malicious=ONE_OF_THREE, attackers_only=False
  )
  honest = plain_training(1)
  start = td.minus(td.THETA, honest)
  crafted = plain_training(1, start=start, rho=0.5, boost=1.0)
  mean = [(2 * h + c) / 3 for h, c in zip(honest, crafted, strict=True)]
  td.assert_close(attacked, td.minus(td.THETA, mean), 1e-4)


@pytest.mark.usefixtures("runtime")
def test_passes_are_those_of_the_attacks_own_dataset():
  """Two, where the honest client makes one; its own anchor is trained as long."""

  @tff.tensorflow.computation(CLIENT_INPUT_TYPE)
  def read_twice(client):
    del client
    return td.batches().repeat(2)

  settings = {"form": "self", "rho": 0.5, "boost": 1.0}
  twice = attack(mal_epochs=2, **settings)
  found = td.federated_round(
    twice, malicious=[True], attack_dataset_computation=read_twice
  )
  td.assert_close(found, td.minus(td.THETA, craft(twice)), 1e-4)


@pytest.mark.parametrize("form", ["white_box", "self", "authors"])
def test_passes_that_nobody_provides_are_refused(form):
  """The clients' dataset holds one: 2, 10 and 50 would all be that one."""
  several = attack(form=form)
  assert several.num_passes == several.mal_epochs > 1
  message = (
    f"`attack_dataset_computation` must be given .* None and {several.mal_epochs}"
  )
  with pytest.raises(ValueError, match=message):
    td.federated_round(several, malicious=[True])


@pytest.mark.usefixtures("runtime")
def test_boosted_converge_replaces_the_model_under_fed_avg():
  """One attacker of three, boost 3, honest updates zero: theta becomes w exactly."""
  after = td.federated_round(coomed(boost=3.0), malicious=ONE_OF_THREE)
  td.assert_close(after, td.minus(td.THETA, craft(coomed())), 1e-4)


def test_a_forms_settings_give_way_to_another_strategy():
  """The user cannot leave out an anchor that the form has set."""
  built = attack(form="self", strategy="converge")
  assert (built.anchor, built.rho, built.boost) == ("benign_mean", 0.1, 2.0)
  with pytest.raises(ValueError, match="`anchor` must be left out .* got 'self'"):
    attack(form="self", strategy="converge", anchor="self")


def test_threat_model_says_what_is_seen():
  assert "benign_updates" in attack().sees
  assert "benign_updates" not in attack(form="self").sees
  assert "benign_updates" not in coomed().sees


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"boost": 0.0}, "boost"),
    ({"boost": "5"}, "boost"),
    ({"mal_epochs": 1.5}, "mal_epochs"),
    ({"rho": -1.0}, "rho"),
    ({"stealth_steps": 0}, "stealth_steps"),
    ({"mal_epochs": -1}, "mal_epochs"),
    ({"anchor": "others"}, "anchor"),
    ({"strategy": "both"}, "strategy"),
    ({"distance": "l1"}, "distance"),
    ({"order": "random"}, "order"),
    ({"hold_off": 1.5}, "hold_off"),
    ({"hold_off": 0.8, "strategy": "converge"}, "hold_off"),
    ({"anchor": "self", "strategy": "converge"}, "anchor"),
    ({"rho": 0.2, "strategy": "converge"}, "rho"),
    ({"check_every": 100}, "check_every"),
    ({"form": "black_box"}, "form"),
  ],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"`{name}`"):
    attack(**settings)


def test_no_target_raises():
  with pytest.raises(ValueError, match="D_mal"):
    alternating.krum_backdoor(np.zeros([0, 1, 2, 1]), np.zeros([0]))
