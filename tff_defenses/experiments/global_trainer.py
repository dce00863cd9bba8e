"""Training of one global model, with the experiment's defense and attack."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_federated as tff

from models import split
from tff_defenses.experiments import (
  aggregation,
  scoring,
  shards,
  training_attacks,
  update_attacks,
)
from tff_defenses.experiments import federation as federation_lib
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.federation import Federation
from tff_defenses.learning import fed_avg
from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE
from tff_defenses.learning.evaluation import Evaluator


class GlobalTrainer:
  """Federated averaging with the experiment's defense and attack.

  Args:
    config: Of the experiment.
    fed: Its clients.
    initial_weights: `ModelWeights` before round 1, see `starts`.
  """

  def __init__(self, config: ExperimentConfig, fed: Federation, initial_weights):
    self.config = config
    self.federation = fed
    self.keras_fn = federation_lib.keras_fn(config)
    self.model_fn = split.make_model_fn(self.keras_fn)
    self.initial_weights = initial_weights
    aggregator = aggregation.build_aggregator(config, self.model_fn, fed.held_out)
    self.process = self.build_process(aggregator)
    self.scorer = scoring.Scorer(self._build_evaluator(), fed)

  def build_process(self, aggregator):
    """The learning process around an aggregator; the defense's, or a probe."""
    attack = training_attacks.build_training_attack(self.config, self.federation)
    return fed_avg.build_fed_avg(
      self.model_fn,
      aggregation.build_optimizer(self.config),
      aggregator,
      rate_decay=self.config.rate_decay,
      dataset_computation=self._read_shard(self.config.local_epochs),
      training_attack=attack,
      attack_dataset_computation=self._read_attack_shard(attack),
      update_attack=update_attacks.build_update_attack(self.config, aggregator),
      attack_seed=self.config.seed,
      initial_weights=self.initial_weights,
      moving_statistics=aggregation.moving_statistics(self.config),
      measure_norms=True,
      measure_attack=attack is not None and self.config.num_malicious > 0,
    )

  def start(self, runtime, **call) -> tuple[Any, list]:
    """Server state and client states before the first round; `call`: as of `step`."""
    return runtime.call(self.process.initialize, **call), []

  def step(self, runtime, states, round_number: int, drawn: Sequence[int], **call):
    """One round: ((server state, client states), metrics); see `Runtime.call`."""
    inputs = self.client_inputs(round_number, drawn)
    output = runtime.call(self.process.next, states[0], inputs, **call)
    return (output.state, states[1]), output.metrics

  def score(self, states) -> dict[str, float]:
    """Metrics of the states."""
    return self.scorer.score_global(states[0].global_model_weights)

  def score_crafted(self, states, crafted: Sequence[np.ndarray]) -> float:
    """How many clean test images theta + delta_mal reads right, a share.

    Args:
      states: Before the round.
      crafted: -delta_mal, the mean of what the malicious clients sent.

    Returns:
      NaN where `crafted` is not finite: nobody attacked, or none sent a number.

    Deviations: BatchNorm's statistics are those of the round's start.
    """
    if not all(np.isfinite(update).all() for update in crafted):
      return math.nan
    theta = states[0].global_model_weights
    moved = [w - u for w, u in zip(theta.trainable, crafted, strict=True)]
    weights = tff.learning.models.ModelWeights(moved, theta.non_trainable)
    return self.scorer.accuracy(weights)

  def traffic(self) -> dict[str, int]:
    """Bytes that a client sends and receives in a round, as float32: the whole model.

    BatchNorm's statistics are part of it. What a defense's server trains or knows by
    itself is not counted.
    """
    size = num_bytes(
      [*self.initial_weights.trainable, *self.initial_weights.non_trainable]
    )
    return {"bytes_up": size, "bytes_down": size}

  def client_inputs(self, round_number: int, drawn: Sequence[int]) -> list:
    """What each drawn client receives."""
    seed, attacks = self.config.seed, self.config.attacks_in(round_number)
    return [
      self.federation.client_input(client, round_number, seed, attacks=attacks)
      for client in drawn
    ]

  def _build_evaluator(self):
    return Evaluator(self.keras_fn)

  def _read_attack_shard(self, attack) -> tff.Computation:
    """As many passes as the attack makes; one that does not say so: as a benign one."""
    epochs = getattr(attack, "mal_epochs", self.config.local_epochs)
    return self._read_shard(max(1, epochs))

  def _read_shard(self, epochs: int) -> tff.Computation:
    """Client input -> batches of its shard, `epochs` times, each in a new order."""
    read = functools.partial(
      shards.read,
      image_shape=self.federation.shards.image_shape,
      batch_size=self.config.batch_size,
      epochs=epochs,
      drop_remainder=self.config.drop_remainder,
      augment=self.config.augment,
    )

    @tff.tensorflow.computation(CLIENT_INPUT_TYPE)
    def read_shard(client):
      return read(client["shard"], seed=client["seed"])

    return read_shard


def num_bytes(arrays: Sequence[np.ndarray]) -> int:
  """Size of arrays that travel as float32."""
  return 4 * sum(int(np.size(array)) for array in arrays)
