"""Inner product manipulation: the average of the benign updates, reversed.

Reference: Xie et al., Fall of Empires, UAI 2019, Sec. 4: the attack with epsilon.
Symbols: mu mean of the known updates, n updates, f malicious, delta = w - theta.
"""

import dataclasses

import tensorflow as tf

from attacks.updates import base
from tff_defenses.aggregators import checks


def reversed_mean(known: tf.Tensor, epsilon: float) -> tf.Tensor:
  """-epsilon * mu; [b, d] -> [d].

  >>> reversed_mean(tf.constant([[1.0, 0.0], [3.0, -2.0]]), 0.5).numpy().tolist()
  [-1.0, 0.5]
  """
  return -epsilon * tf.reduce_mean(known, axis=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnerProductAttack(base.UpdateAttack):
  """All malicious clients send -epsilon mu.

  Under the mean of n updates the result is ((n - f) - f epsilon) / n times mu: small
  epsilon passes rules that look at distances, epsilon > (n - f) / f turns the mean.

  Threat model: knows the benign updates ("full") or the malicious clients' honest ones.

  Measurements: no_attack (1: nobody malicious, or nothing known).
  Args:
    epsilon: > 0. Paper: 0.5 against distances, larger against the mean.
    knowledge: "full" or "partial".
  Raises:
    ValueError: a setting is outside its range.
  Deviations: none.
  """

  epsilon: float = 0.5
  knowledge: str = "full"

  def __post_init__(self):
    super().__post_init__()
    checks.check_positive("InnerProductAttack", "epsilon", "eps", self.epsilon)

  def _crafted(self, view):
    return reversed_mean(view.known, self.epsilon), {}
