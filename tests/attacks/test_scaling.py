"""Model replacement: by hand, against plain Keras, and in a round."""

import numpy as np
import pytest
import tensorflow as tf

from attacks.training import scaling
from tests.attacks import training_doubles as td
from tff_defenses.learning import fed_avg

HONEST = td.plain_training(td.cross_entropy)


def test_gamma_one_is_honest_training():
  found = td.craft(scaling.ScalingAttack(gamma=1.0))
  td.assert_close(found, HONEST)
  assert td.norm(found) > 0.01  # it trained


def test_gamma_multiplies_the_update():
  td.assert_close(td.craft(scaling.ScalingAttack(gamma=7.5)), [7.5 * u for u in HONEST])


def test_gamma_defaults_to_clients_per_malicious_client():
  """10 clients, 4 of them malicious: 2.5."""
  attack = scaling.ScalingAttack(num_clients=10, num_malicious=4)
  assert attack.factor == 2.5
  td.assert_close(td.craft(attack), [2.5 * u for u in HONEST])


def test_it_trains_as_many_epochs_as_honest_clients():
  twice = td.batches().repeat(2)
  expected = td.plain_training(td.cross_entropy, data=twice)
  td.assert_close(td.craft(scaling.ScalingAttack(gamma=1.0), local_epochs=2), expected)


def test_alpha_weighs_cross_entropy_and_distance():
  """0.7 CE + 0.3 ||w - theta||, the norm unsquared and over all variables."""

  def loss(model, x, y):
    pairs = zip(model.trainable_variables, td.THETA, strict=True)
    gaps = [tf.reshape(v - t, [-1]) for v, t in pairs]
    distance = tf.norm(tf.concat(gaps, 0))
    # At w = theta the norm has no gradient; the attack takes 0.
    pull = distance if float(distance) > 0 else 0.0
    return 0.7 * td.cross_entropy(model, x, y) + 0.3 * pull

  found = td.craft(scaling.ScalingAttack(gamma=1.0, alpha=0.7))
  td.assert_close(found, td.plain_training(loss))


def test_alpha_zero_stays_at_the_global_weights():
  found = td.craft(scaling.ScalingAttack(gamma=3.0, alpha=0.0))
  assert td.norm(found) == 0.0


def test_distance_by_hand():
  """(3, 4) is 5 away from zero."""
  variables, theta = [tf.constant([3.0]), tf.constant([[4.0]])], [[0.0], [[0.0]]]
  assert float(scaling.distance(variables, theta)) == pytest.approx(5.0)


def test_moving_statistics_are_scaled_and_counters_are_not():
  """mean 1 -> 1.5 with gamma 4: 1 + 4 * 0.5 = 3."""
  attack = scaling.ScalingAttack(gamma=4.0)
  before, after = [tf.constant([1.0]), tf.constant(3)], [[1.5], 5]
  after = [tf.constant(a) for a in after]
  found = attack._scaled(before, after)
  assert found[0].numpy().tolist() == [3.0] and int(found[1]) == 5


@pytest.mark.usefixtures("runtime")
def test_attackers_replace_the_model_under_fed_avg():
  """Two of four, benign updates zero: theta becomes what they trained, gamma = 2."""
  attack = scaling.ScalingAttack(num_clients=4, num_malicious=2)
  malicious = [False, True, False, True]
  after = td.federated_round(attack, malicious=malicious)
  td.assert_close(after, td.minus(td.THETA, HONEST))


@pytest.mark.usefixtures("runtime")
def test_honest_training_and_gamma_one_agree_bit_for_bit():
  """The shard is the same, so is the training: the flag changes nothing."""
  attack = scaling.ScalingAttack(gamma=1.0)
  attacked = td.federated_round(attack, malicious=[False, True], attackers_only=False)
  alone = td.federated_round(None, malicious=[False, False], attackers_only=False)
  for a, b in zip(attacked, alone, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"gamma": 0.0}, "gamma"),
    ({"gamma": -1.0}, "gamma"),
    ({"gamma": "n"}, "gamma"),
    ({"gamma": 1.0, "alpha": 1.5}, "alpha"),
    ({"gamma": 1.0, "alpha": -0.1}, "alpha"),
    ({"num_malicious": 1}, "num_clients"),
    ({"num_clients": 3}, "num_malicious"),
    ({"num_clients": 3, "num_malicious": 0}, "num_malicious"),
    ({"num_clients": 3, "num_malicious": 4}, "num_malicious"),
  ],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"ScalingAttack: `{name}`"):
    scaling.ScalingAttack(**settings)


def test_it_needs_inputs_that_tell_who_is_malicious():
  with pytest.raises(TypeError, match="is_malicious"):
    fed_avg.build_fed_avg(
      td.MODEL_FN, td.SGD, training_attack=scaling.ScalingAttack(gamma=2.0)
    )
