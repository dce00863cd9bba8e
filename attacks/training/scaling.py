"""Model replacement: poisoned training, scaled up until it outweighs everybody else.

Reference: Bagdasaryan et al., How To Backdoor Federated Learning, AISTATS 2020, Eq. (3)
(replacement, scaling by gamma) and Eq. (4) (constrain and scale).
Symbols: n clients of a round, f malicious ones, theta global weights, w the attacker's,
  delta = w - theta, CE cross-entropy.
"""

import dataclasses

import tensorflow as tf

from attacks.training import training_loop
from tff_defenses.aggregators import checks

_WHO = "ScalingAttack"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingAttack:
  """Sends gamma * delta, trained on alpha CE + (1 - alpha) ||w - theta||.

  Meant for poisoned data: the attack itself changes only training. It trains as long
  as an honest client. Under FedAvg with server rate 1, f attackers who send the same
  and n - f updates of zero, gamma = n / f makes theta exactly w.

  Threat model: sees its own data and training, and knows n and f.

  Args:
    gamma: > 0; None: n / f.
    alpha: In [0, 1]. 1, the authors' setting: without the distance.
    num_clients: n, for gamma None.
    num_malicious: f, for gamma None, 1 <= f <= n.
  Raises:
    ValueError: a setting is outside its range.
  Deviations: f is fixed; where clients are drawn at random the harness gives the number
    that is expected in a round, at least 1. Non-trainable variables (moving statistics)
    are scaled too, as in the authors' code; a variance may come out negative.
  """

  gamma: float | None = None
  alpha: float = 1.0
  num_clients: int | None = None
  num_malicious: int | None = None

  sees = frozenset({"own_data", "own_training"})

  def __post_init__(self):
    gamma, alpha = self.gamma, self.alpha
    fits = gamma is None or (checks.is_number(gamma) and gamma > 0)
    training_loop.check(_WHO, fits, "gamma", "None or > 0", gamma)
    fits = checks.is_number(alpha) and 0 <= alpha <= 1
    training_loop.check(_WHO, fits, "alpha", "in [0, 1]", alpha)
    if gamma is None:
      n, f = self.num_clients, self.num_malicious
      fits = n is not None and n >= 1
      training_loop.check(_WHO, fits, "num_clients", ">= 1 (n) without `gamma`", n)
      rule = f"in 1..{n} (f) without `gamma`"
      training_loop.check(_WHO, f is not None and 1 <= f <= n, "num_malicious", rule, f)

  @property
  def factor(self) -> float:
    """gamma."""
    if self.gamma is None:
      return self.num_clients / self.num_malicious
    return self.gamma

  def build_craft(self, model, work):
    """Builds the malicious training; see `AlternatingAttack.build_craft`."""
    loop = training_loop.TrainingLoop(model, work)

    def craft(weights, dataset, round_number, honest, benign_mean):
      del honest, benign_mean
      theta = list(weights.trainable)

      def loss(batch):
        if self.alpha == 1:
          return loop.loss(batch)
        pull = (1 - self.alpha) * distance(loop.variables, theta)
        return self.alpha * loop.loss(batch) + pull

      loop.train(weights, dataset, round_number, loss)
      update = [self.factor * u for u in loop.update(theta)]
      return update, self._scaled(weights.non_trainable, loop.statistics())

    return craft

  def _scaled(self, before, after) -> list:
    """Moving statistics, their change scaled; counters and the like as they are."""
    return [
      old + self.factor * (new - old) if new.dtype.is_floating else new
      for old, new in zip(before, after, strict=True)
    ]


def distance(variables, theta):
  """||w - theta|| over all variables; its gradient is 0 where they are equal."""
  squares = [tf.reduce_sum((v - t) ** 2) for v, t in zip(variables, theta, strict=True)]
  return tf.sqrt(tf.add_n(squares) + 1e-12)
