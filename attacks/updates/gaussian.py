"""Gaussian: malicious clients send noise.

Reference: Blanchard et al. (Krum), NIPS 2017, Sec. 5: the Gaussian Byzantine workers.
Symbols: n updates, f malicious, d parameters, delta = w - theta.
"""

import dataclasses

import tensorflow as tf

from attacks.updates import base
from tff_defenses.aggregators import checks


def noise(num_rows, num_columns: int, std: float, seed) -> tf.Tensor:
  """Rows of N(0, std^2), each of its own; -> [num_rows, num_columns]."""
  shape = [num_rows, num_columns]
  return std * tf.random.stateless_normal(shape, tf.cast(seed, tf.int32))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianAttack:
  """Sends noise instead of the update, or on top of it.

  Threat model: each malicious client sees its own training only.

  Measurements: no_attack (1: no malicious client).
  Args:
    std: Standard deviation, >= 0. Ours: 1. Krum's paper: the square root of 200.
    add: Add the noise to the client's honest update.
  Raises:
    ValueError: a setting is outside its range.
  Deviations: under FLAME the first attacker's noise has the numbers of the server's,
    since both are drawn from the seed of run and round.
  """

  std: float = 1.0
  add: bool = False

  sees = frozenset({"own_training"})

  def __post_init__(self):
    if not checks.is_number(self.std) or self.std < 0:
      raise ValueError(
        f"GaussianAttack: `std` must be >= 0, got {self.std!r}. 0 sends zeros."
      )

  def craft(self, deltas, malicious, *, weights, seed):
    """See `base.UpdateAttack.craft`."""
    del weights

    def noisy(own, malicious):
      count = tf.math.count_nonzero(malicious, dtype=tf.int32)
      drawn = noise(tf.maximum(count, 1), own.shape[1], self.std, seed)
      # Never a sum on a benign row: its place holds zeros first.
      mine = tf.where(malicious[:, tf.newaxis], own, 0.0) if self.add else 0.0
      return mine + base.replace(tf.zeros_like(own), malicious, drawn)

    return base.alone(deltas, malicious, noisy)
