"""Projected gradient descent: poisoned training that never leaves a ball around theta.

Reference: Wang et al., Attack of the Tails, NeurIPS 2020 (PGD attack).
Symbols: theta global weights, w the attacker's, delta = w - theta, eps radius, t round.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from attacks.training import training_loop
from tff_defenses.aggregators import checks

_WHO = "ProjectedAttack"


def project(delta, radius):
  """delta * min(1, radius / ||delta||); the norm is over all tensors.

  >>> [x.numpy().tolist() for x in project([tf.constant([6.0]), tf.constant([8.0])], 5)]
  [[3.0], [4.0]]
  """
  # In float64: the square of a diverged float32 would overflow.
  squares = [tf.reduce_sum(tf.cast(x, tf.float64) ** 2) for x in delta]
  norm = tf.sqrt(tf.add_n(squares))
  radius = tf.cast(radius, tf.float64)
  scale = tf.where(norm > radius, tf.math.divide_no_nan(radius, norm), 1.0)
  return [tf.cast(tf.cast(x, tf.float64) * scale, x.dtype) for x in delta]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectedAttack:
  """Ordinary training; every few batches, and at the end, back into the ball.

  Meant for poisoned data: the attack itself changes only training. It trains as long
  as an honest client. Made against rules that bound or compare norms.

  Threat model: sees its own data and training.

  Args:
    eps: Radius, >= 0. Authors: 2 on CIFAR-10. 0: the update is zero.
    eps_decay: The radius in round t is eps * eps_decay**(t - 1), in (0, 1]. 1: the same
      in all rounds.
    project_every: Batches between projections, >= 1. Authors: 10.
  Raises:
    ValueError: a setting is outside its range.
  Deviations: the optimizer keeps its momentum across a projection. Moving statistics
    are those of the training, unprojected.
  """

  eps: float = 2.0
  eps_decay: float = 1.0
  project_every: int = 10

  sees = frozenset({"own_data", "own_training"})

  def __post_init__(self):
    for name, rule, fits in (
      ("eps", ">= 0 and finite", lambda x: 0 <= x < np.inf),
      ("eps_decay", "in (0, 1]", lambda x: 0 < x <= 1),
      ("project_every", "a whole number >= 1", lambda x: checks.is_whole(x) and x >= 1),
    ):
      value = getattr(self, name)
      ok = checks.is_number(value) and fits(value)
      training_loop.check(_WHO, ok, name, rule, value)

  def build_craft(self, model, work):
    """Builds the malicious training; see `AlternatingAttack.build_craft`."""
    loop = training_loop.TrainingLoop(model, work)

    def craft(weights, dataset, round_number, honest, benign_mean):
      del honest, benign_mean
      theta = list(weights.trainable)
      radius = self._radius(round_number)
      loop.set(weights.non_trainable, theta)
      state, steps = loop.start(round_number), tf.constant(0)
      for batch in iter(dataset.repeat(work.local_epochs)):
        state = loop.step(state, lambda b=batch: loop.loss(b))
        steps += 1
        if tf.equal(steps % self.project_every, 0):
          inside = project(loop.update(theta), radius)
          loop.assign([t - u for t, u in zip(theta, inside, strict=True)])
      # What is sent is projected itself: theta - w would round once more.
      return project(loop.update(theta), radius), loop.statistics()

    return craft

  def _radius(self, round_number):
    passed = tf.cast(round_number - 1, tf.float32)
    return self.eps * tf.pow(tf.constant(self.eps_decay, tf.float32), passed)
