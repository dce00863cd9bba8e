"""Rounds of updates to attack, and the way an attack is run on them."""

import functools

import numpy as np
import tensorflow as tf


def drawn(seed, num_clients=10, malicious=(1, 4, 8), num_columns=12, shift=0.3):
  """(deltas [n, d] around `shift`, malicious [n]) with malicious rows like the rest."""
  rng = np.random.default_rng(seed)
  deltas = rng.normal(shift, 1.0, (num_clients, num_columns)).astype(np.float32)
  return deltas, np.isin(np.arange(num_clients), malicious)


def craft(attack, deltas, malicious, *, weights=None, seed=(3, 1), graph=False):
  """Runs an attack; in a graph n is not known before, as in a round of TFF."""
  deltas, malicious = np.float32(deltas), np.array(malicious, bool)
  weights = np.zeros(deltas.shape[1]) if weights is None else weights
  go = _traced(attack, deltas.shape[1]) if graph else attack.craft
  given = {"weights": np.float32(weights), "seed": np.int32(seed)}
  changed, measured = go(tf.constant(deltas), tf.constant(malicious), **given)
  assert all(m.dtype == tf.float32 and m.shape == [] for m in measured.values())
  return changed.numpy(), {name: float(value) for name, value in measured.items()}


@functools.cache
def _traced(attack, num_columns):
  @tf.function(
    input_signature=[
      tf.TensorSpec([None, num_columns]),
      tf.TensorSpec([None], tf.bool),
      tf.TensorSpec([num_columns]),
      tf.TensorSpec([2], tf.int32),
    ]
  )
  def go(deltas, malicious, weights, seed):
    return attack.craft(deltas, malicious, weights=weights, seed=seed)

  return go


def same_bits(one, two):
  """Equal bit for bit, NaN and the sign of zero included."""
  return np.float32(one).tobytes() == np.float32(two).tobytes()
