"""A little is enough: a shift that is lost in the benign updates' spread.

Reference: Baruch et al., A Little Is Enough, NeurIPS 2019, Algorithm 3.
Symbols: mu, sd mean and (population) standard deviation of the known updates, n
  updates, f malicious, q benign supporters that a majority lacks, delta = w - theta.
"""

import dataclasses

import tensorflow as tf

from attacks.updates import base
from tff_defenses.aggregators import checks


def largest_shift(num_clients, num_malicious) -> tf.Tensor:
  """z = Phi^-1((n - f - q) / (n - f)), q = floor(n / 2) + 1 - f; -> [] float32.

  Where the malicious clients are a majority already, q is 1.

  >>> round(float(largest_shift(10, 3)), 4)
  0.18
  """
  benign = tf.cast(num_clients - num_malicious, tf.float64)
  lacking = tf.maximum(num_clients // 2 + 1 - num_malicious, 1)
  share = (benign - tf.cast(lacking, tf.float64)) / benign
  return tf.cast(tf.math.ndtri(share), tf.float32)


def shifted_mean(known: tf.Tensor, z) -> tf.Tensor:
  """mu - z sd; [b, d] -> [d].

  >>> shifted_mean(tf.constant([[1.0, 5.0], [3.0, 5.0]]), 2.0).numpy().tolist()
  [0.0, 5.0]
  """
  return tf.reduce_mean(known, axis=0) - z * tf.math.reduce_std(known, axis=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LittleIsEnoughAttack(base.UpdateAttack):
  """All malicious clients send mu - z sd.

  Threat model: knows the benign updates ("full") or the malicious clients' honest ones,
  and n and f.

  Measurements: z; z_was_negative (1: so few are malicious that the formula gives a z
    below 0; 0 was taken, the mean itself); no_attack (1: nobody malicious, or too
    little known).
  Args:
    z: Number of standard deviations, >= 0; None: from n and f.
    knowledge: "full" or "partial" (paper).
  Raises:
    ValueError: a setting is outside its range.
  Deviations: where f > n / 2 the formula gives no finite z; q is then 1.
  """

  z: float | None = None
  knowledge: str = "full"
  measures = ("z", "z_was_negative")
  needs_spread = True

  def __post_init__(self):
    super().__post_init__()
    if self.z is not None and not (checks.is_number(self.z) and self.z >= 0):
      raise ValueError(
        f"LittleIsEnoughAttack: `z` must be None or >= 0, got {self.z!r}. None takes "
        "it from the numbers of clients."
      )

  def _crafted(self, view):
    if self.z is None:
      found = largest_shift(view.num_rows, view.num_malicious)
    else:
      found = tf.constant(self.z, tf.float32)
    z = tf.maximum(found, 0.0)
    return shifted_mean(view.known, z), {"z": z, "z_was_negative": found < 0}
