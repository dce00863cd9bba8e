"""Sign flip: each malicious client sends the opposite of its honest update.

Reference: Li et al. (RSA), AAAI 2019, Sec. 5: the sign-flipping attack.
Symbols: n updates, d parameters, delta = w - theta.
"""

import dataclasses

import tensorflow as tf

from attacks.updates import base
from tff_defenses.aggregators import checks


def flip(deltas: tf.Tensor, scale: float) -> tf.Tensor:
  """-scale * delta; [n, d] -> [n, d].

  >>> flip(tf.constant([[1.0, -2.0]]), 3.0).numpy().tolist()
  [[-3.0, 6.0]]
  """
  return -scale * deltas


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignFlipAttack:
  """Sends -scale times the client's own honest update.

  Threat model: each malicious client sees its own training only.

  Measurements: no_attack (1: no malicious client).
  Args:
    scale: Ours: 1. With -1 the client is honest.
  Raises:
    ValueError: a setting is outside its range.
  Deviations: none.
  """

  scale: float = 1.0

  sees = frozenset({"own_training"})

  def __post_init__(self):
    if not checks.is_number(self.scale):
      raise ValueError(
        f"SignFlipAttack: `scale` must be a finite number, got {self.scale!r}. "
        "1.0 flips the sign."
      )

  def craft(self, deltas, malicious, *, weights, seed):
    """See `base.UpdateAttack.craft`."""
    del weights, seed
    return base.alone(deltas, malicious, lambda own, _: flip(own, self.scale))
