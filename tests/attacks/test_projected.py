"""Projected training: the ball, when it is applied, and what it does otherwise."""

import numpy as np
import pytest
import tensorflow as tf

from attacks.training import projected
from tests.attacks import training_doubles as td

HONEST = td.plain_training(td.cross_entropy)


def attack(**settings):
  return projected.ProjectedAttack(**settings)


def test_projection_by_hand():
  """||(6, 8)|| = 10 onto radius 5: (3, 4); onto 20: unchanged."""
  delta = [tf.constant([6.0]), tf.constant([[8.0]])]
  assert [x.numpy().ravel().tolist() for x in projected.project(delta, 5)] == [
    [3.0],
    [4.0],
  ]
  far = projected.project(delta, 20)
  assert [x.numpy().ravel().tolist() for x in far] == [[6.0], [8.0]]


def test_projection_of_zero_and_onto_zero_is_zero():
  zero, some = [tf.zeros([3])], [tf.ones([3])]
  assert projected.project(zero, 1)[0].numpy().tolist() == [0, 0, 0]
  assert projected.project(zero, 0)[0].numpy().tolist() == [0, 0, 0]
  assert projected.project(some, 0)[0].numpy().tolist() == [0, 0, 0]


def test_projection_of_huge_values_is_finite():
  """1e30 squared is no float32."""
  found = projected.project([tf.fill([4], 1e30)], 2)[0].numpy()
  np.testing.assert_allclose(found, 1.0)


def test_a_ball_that_holds_the_update_is_honest_training():
  found = td.craft(attack(eps=100.0, project_every=1))
  td.assert_close(found, HONEST)
  assert td.norm(found) > 0.01  # it trained


@pytest.mark.parametrize("eps", [1e-4, 0.01, 0.03])
@pytest.mark.parametrize("project_every", [1, 2, 10])
def test_the_update_lies_in_the_ball_and_on_its_border(eps, project_every):
  length = td.norm(td.craft(attack(eps=eps, project_every=project_every)))
  # theta + delta rounds between projections, so the border is not met exactly.
  assert eps * (1 - 1e-3) <= length <= eps * (1 + 1e-6)


def test_with_a_late_projection_the_direction_is_that_of_honest_training():
  """Two batches, projection every ten: only the last one counts."""
  found = td.craft(attack(eps=0.01, project_every=10))
  factor = 0.01 / td.norm(HONEST)
  td.assert_close(found, [factor * u for u in HONEST], 1e-7)


def test_projection_after_every_batch_equals_the_loop_by_hand():
  def after_step(model, number):
    del number
    delta = td.minus(model.get_weights(), td.THETA)
    factor = min(1.0, 0.01 / td.norm(delta))
    model.set_weights([t + factor * x for t, x in zip(td.THETA, delta, strict=True)])

  expected = td.plain_training(td.cross_entropy, after_step=after_step)
  found = td.craft(attack(eps=0.01, project_every=1))
  td.assert_close(found, expected, 1e-7)
  late = td.craft(attack(eps=0.01, project_every=10))
  assert not np.allclose(found[0], late[0], rtol=1e-3, atol=0)


def test_radius_zero_sends_zero():
  assert td.norm(td.craft(attack(eps=0.0, project_every=1))) == 0.0


def test_the_radius_decays_from_round_to_round():
  """0.02 * 0.5^(3 - 1) = 0.005 in round 3."""
  settings = {"eps": 0.02, "eps_decay": 0.5}
  assert td.norm(td.craft(attack(**settings))) == pytest.approx(0.02)
  third = td.craft(attack(**settings), round_number=3)
  assert td.norm(third) == pytest.approx(0.005)


@pytest.mark.usefixtures("runtime")
def test_a_round_moves_the_global_model_by_the_attackers_share_of_the_radius():
  """One of two, benign updates zero, mean: eps / 2."""
  after = td.federated_round(attack(eps=0.01), malicious=[False, True])
  assert td.norm(td.minus(after, td.THETA)) == pytest.approx(0.005, rel=1e-3)


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"eps": -1.0}, "eps"),
    ({"eps": float("inf")}, "eps"),
    ({"eps": float("nan")}, "eps"),
    ({"eps_decay": 0.0}, "eps_decay"),
    ({"eps_decay": 1.1}, "eps_decay"),
    ({"project_every": 0}, "project_every"),
    ({"project_every": 2.5}, "project_every"),
    ({"project_every": 10.0}, "project_every"),
    ({"project_every": None}, "project_every"),
  ],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"ProjectedAttack: `{name}`"):
    attack(**settings)
