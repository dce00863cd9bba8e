"""A trainer that trains nothing, for tests of what happens around the rounds."""

import types

import numpy as np


class CountsRounds:
  """A trainer whose state, and accuracy, is the number of its rounds.

  It notes them, and breaks off when one of them is scored.
  """

  process = None
  initial_weights = types.SimpleNamespace(trainable=(), non_trainable=())

  def __init__(self, config, fails_at=None):
    self.config, self.fails_at = config, fails_at
    self.federation = types.SimpleNamespace(malicious=np.zeros(3, bool))
    self.stepped, self.calls = [], []

  def start(self, runtime, **call):
    self.calls.append(call)
    return np.int32(0), []

  def step(self, runtime, states, round_number, drawn, **call):
    self.stepped.append(round_number)
    self.calls.append(call)
    names = ("train_loss", "seconds_training", "seconds_aggregation")
    metrics = {"clients": dict.fromkeys(names, 0.0), "aggregator": ()}
    return (states[0] + 1, states[1]), metrics

  def score(self, states):
    if states[0] == self.fails_at:
      raise KeyboardInterrupt
    return {"accuracy": float(states[0])}

  def traffic(self):
    return {"bytes_up": 0, "bytes_down": 0}
