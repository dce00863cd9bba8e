"""Collusion: all malicious clients send the update of the first of them.

Reference: the code of FLARE's authors, where several attackers submit one and the same
malicious update; the paper speaks of colluders with "nearly the same PLRs" (Sec. 5.2).
Symbols: n updates, d parameters, delta = w - theta.
"""

import dataclasses

import tensorflow as tf

from attacks.updates import base


def first_row(deltas: tf.Tensor, malicious: tf.Tensor) -> tf.Tensor:
  """The malicious row of lowest index, row 0 if there is none; -> [d].

  >>> rows = tf.constant([[1.0], [2.0], [3.0]])
  >>> first_row(rows, tf.constant([False, True, True])).numpy().tolist()
  [2.0]
  """
  return deltas[tf.argmax(tf.cast(malicious, tf.int32))]


@dataclasses.dataclass(frozen=True)
class CopyFirst:
  """Every malicious client sends what the one of lowest index would send.

  Made to follow a training attack, whose result it copies.

  Threat model: the malicious clients see each other's training.

  Measurements: no_attack (1: no malicious client).
  Args:
    none.
  Deviations: moving statistics are not copied.
  """

  sees = frozenset({"own_training"})

  def craft(self, deltas, malicious, *, weights, seed):
    """See `base.UpdateAttack.craft`."""
    del weights, seed
    return base.alone(deltas, malicious, first_row)
