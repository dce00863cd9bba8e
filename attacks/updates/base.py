"""What all update attacks share: which rows they are shown, and which rows change.

Symbols: n updates of a round, f of them malicious, d parameters, theta global weights,
  delta = w - theta, trained minus initial: the papers' sign. B: the rows an attack
  knows, b of them.

An attack may run in any graph, with n known in the round only.
"""

import abc
import collections
import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tff_defenses.aggregators import checks, rows

KNOWLEDGE = ("full", "partial")


@dataclasses.dataclass(frozen=True, eq=False)
class Round:
  """All that an attack is shown of one round.

  Attributes:
    known: B, [b, d] float32, finite, in the order of the clients; b >= 1.
    is_known: Which of the round's rows these are, [n] bool.
    malicious: [n] bool, one of them at least.
    num_rows: n as a robust rule counts it, without benign rows that are not finite.
    weights: theta, [d] float32.
    seed: [2] int32, another one each round.
  """

  known: tf.Tensor
  is_known: tf.Tensor
  malicious: tf.Tensor
  num_rows: tf.Tensor
  weights: tf.Tensor
  seed: tf.Tensor

  @property
  def num_malicious(self) -> tf.Tensor:
    """f, [] int32."""
    return tf.math.count_nonzero(self.malicious, dtype=tf.int32)


class UpdateAttack(abc.ABC):
  """Replaces the malicious clients' updates by ones made from B.

  With full knowledge B are the round's finite benign updates, with partial knowledge
  the finite updates that the malicious clients trained honestly. A subclass is a frozen
  dataclass with a field `knowledge`.

  Attributes:
    measures: Names of the attack's measurements, besides `no_attack`.
    needs_spread: Whether the attack lives on how B differ from each other. With partial
      knowledge it then needs two malicious clients: one has nobody to compare with.
  """

  knowledge: str
  measures: tuple[str, ...] = ()
  needs_spread: bool = False

  def __post_init__(self):
    who = type(self).__name__
    checks.check_choice(who, "knowledge", self.knowledge, KNOWLEDGE)

  @property
  def sees(self) -> frozenset[str]:
    """Threat model, words of `attacks.SIGHTS`."""
    full = self.knowledge == "full"
    return frozenset({"benign_updates" if full else "own_training"})

  @property
  def least_malicious(self) -> int:
    """f below which a round finds no attack; see `check_round`."""
    return 2 if self.needs_spread and self.knowledge == "partial" else 0

  def craft(self, deltas, malicious, *, weights, seed):
    """Replaces the malicious rows; all others are returned bit for bit.

    Args:
      deltas: [n, d] float32, trained minus initial, in the order of the clients.
      malicious: [n] bool.
      weights: theta, [d] float32.
      seed: [2] int32, another one each round.

    Returns:
      ([n, d], measurements, each [] float32). Without a malicious row, or if too little
      is known, the rows are as they were and `no_attack` is 1.
    """
    deltas, malicious = tf.convert_to_tensor(deltas), tf.convert_to_tensor(malicious)
    finite = rows.finite_rows(deltas)
    is_known = finite & (malicious if self.knowledge == "partial" else ~malicious)
    num_rows = tf.math.count_nonzero(finite | malicious, dtype=tf.int32)

    def attacked():
      known = tf.ensure_shape(
        tf.boolean_mask(deltas, is_known), [None, deltas.shape[1]]
      )
      theta = tf.convert_to_tensor(weights)
      view = Round(known, is_known, malicious, num_rows, theta, seed)
      crafted, measured = self._crafted(view)
      return replace(deltas, malicious, crafted), self._measurements(measured)

    def as_they_were():
      return deltas, self._measurements({"no_attack": 1.0})

    known = tf.math.count_nonzero(is_known, dtype=tf.int32)
    possible = tf.reduce_any(malicious) & (known >= max(1, self.least_malicious))
    return tf.cond(possible, attacked, as_they_were)

  @abc.abstractmethod
  def _crafted(self, view: Round) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """The malicious rows: ([d] for all of them or [f, d], measurements)."""

  def _measurements(self, given):
    names = (*self.measures, "no_attack")
    values = [tf.cast(given.get(name, 0.0), tf.float32) for name in names]
    return collections.OrderedDict(zip(names, values, strict=True))


def check_round(attack, num_clients: int, num_malicious: int) -> None:
  """Raises ValueError if a round holds too few benign or malicious clients to attack.

  A graph cannot raise; there, such a round is flagged `no_attack`.
  """
  least = getattr(attack, "least_malicious", 0)
  if 0 < num_malicious < least:
    raise ValueError(
      f"{type(attack).__name__}: `num_malicious` (f) must be at least {least} with "
      f"these settings, got {num_malicious}: fewer find no attack. Let more clients "
      "attack, or set `knowledge` to 'full'."
    )
  if "benign_updates" in attack.sees and num_malicious >= num_clients:
    raise ValueError(
      f"{type(attack).__name__}: `num_malicious` (f) must be below the {num_clients} "
      f"clients of a round, got {num_malicious}. Leave one benign client, or set "
      "`knowledge` to 'partial'."
    )


def replace(deltas: tf.Tensor, malicious: tf.Tensor, crafted: tf.Tensor) -> tf.Tensor:
  """Puts crafted rows, [d] or [f, d], in the place of the malicious ones; -> [n, d].

  [f, d] must hold a row even where nobody is malicious.

  >>> rows = tf.constant([[1.0], [2.0], [3.0]])
  >>> masked = tf.constant([True, False, True])
  >>> replace(rows, masked, tf.constant([[8.0], [9.0]])).numpy().tolist()
  [[8.0], [2.0], [9.0]]
  """
  if crafted.shape.rank == 2:
    place = tf.cumsum(tf.cast(malicious, tf.int32)) - 1
    crafted = tf.gather(crafted, tf.maximum(place, 0))
  return tf.where(malicious[:, tf.newaxis], crafted, deltas)


def alone(deltas, malicious, crafted):
  """What `craft` returns where every malicious client acts on its own row only.

  Args:
    deltas: [n, d] float32.
    malicious: [n] bool.
    crafted: Takes ([n, d], [n]); returns [d] or [n, d], of which the malicious rows
      are taken.
  """
  deltas, malicious = tf.convert_to_tensor(deltas), tf.convert_to_tensor(malicious)
  changed = tf.where(malicious[:, tf.newaxis], crafted(deltas, malicious), deltas)
  no_attack = tf.cast(~tf.reduce_any(malicious), tf.float32)
  return changed, collections.OrderedDict(no_attack=no_attack)
