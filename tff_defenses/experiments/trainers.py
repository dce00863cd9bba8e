"""The two kinds of training behind one interface: a global model, or personal ones."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_federated as tff

from models import split
from tff_defenses import aggregators
from tff_defenses.experiments import federation as federation_lib
from tff_defenses.experiments import scoring, shards, training_attacks, update_attacks
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.federation import Federation
from tff_defenses.learning import (
  client_work,
  fed_avg,
  fl_plas,
  optimizers,
  pretraining,
  root_training,
)
from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE
from tff_defenses.learning.evaluation import Evaluator

_starts: dict = {}  # initial weights of the comparison that is being run


def build(config: ExperimentConfig, fed: Federation) -> "GlobalTrainer":
  """Builds what the defense needs: client states or one global model."""
  needs = aggregators.AGGREGATORS[config.defense].needs
  kind = PersonalTrainer if "client_state" in needs else GlobalTrainer
  return kind(config, fed)


class GlobalTrainer:
  """Federated averaging with the experiment's defense and attack."""

  def __init__(self, config: ExperimentConfig, fed: Federation):
    self.config = config
    self.federation = fed
    self.keras_fn = federation_lib.keras_fn(config)
    self.model_fn = split.make_model_fn(self.keras_fn)
    self.initial_weights = self._initial_weights()
    self.process = self.build_process(self._build_aggregator())
    self.scorer = scoring.Scorer(self._build_evaluator(), fed)

  def build_process(self, aggregator):
    """The learning process around an aggregator; the defense's, or a probe."""
    attack = training_attacks.build_training_attack(self.config, self.federation)
    return fed_avg.build_fed_avg(
      self.model_fn,
      self._build_optimizer(),
      aggregator,
      rate_decay=self.config.rate_decay,
      dataset_computation=self._read_shard(self.config.local_epochs),
      training_attack=attack,
      attack_dataset_computation=self._read_attack_shard(attack),
      update_attack=update_attacks.build_update_attack(self.config, aggregator),
      attack_seed=self.config.seed,
      initial_weights=self.initial_weights,
    )

  def start(self, runtime) -> tuple[Any, list]:
    """Server state and client states before the first round."""
    return runtime.call(self.process.initialize), []

  def step(self, runtime, states, round_number: int, drawn: Sequence[int], **call):
    """One round: ((server state, client states), metrics)."""
    inputs = self.client_inputs(round_number, drawn)
    output = runtime.call(self.process.next, states[0], inputs, **call)
    return (output.state, states[1]), output.metrics

  def score(self, states) -> dict[str, float]:
    """Metrics of the states."""
    return self.scorer.score_global(states[0].global_model_weights)

  def client_inputs(self, round_number: int, drawn: Sequence[int]) -> list:
    """What each drawn client receives."""
    seed = self.config.seed
    inputs = [self.federation.client_input(c, round_number, seed) for c in drawn]
    if not self.config.attacks_in(round_number):
      for given in inputs:
        given["is_malicious"] = False
    return inputs

  def _build_evaluator(self):
    return Evaluator(self.keras_fn)

  def _build_optimizer(self) -> tff.learning.optimizers.Optimizer:
    config = self.config
    return optimizers.build_client_optimizer(
      config.optimizer, config.learning_rate, config.momentum, config.weight_decay
    )

  def _initial_weights(self):
    """The common start; the runs of a comparison compute it once."""
    key = self._start_key()
    if key not in _starts:
      _starts.clear()
      _starts[key] = self._make_initial_weights()
    return _starts[key]

  def _start_key(self) -> str:
    """Everything but what the start does not depend on."""
    settings = self.config.to_dict()
    for name in ("defense", "defense_settings", "output_dir"):
      del settings[name]
    return json.dumps(settings, sort_keys=True)

  def _make_initial_weights(self):
    weights = client_work.initial_weights(self.model_fn)
    if not self.config.pretrain_on_aux:
      return weights
    return pretraining.pretrain(
      self.model_fn,
      self.federation.held_out.aux_images,
      self.federation.held_out.aux_labels,
      self._build_optimizer(),
      epochs=self.config.local_epochs,
      batch_size=self.config.batch_size,
      initial_weights=weights,
    )

  def _build_aggregator(self):
    given = {
      "model_fn": self.model_fn,
      "auxiliary_data": self.federation.held_out.aux_images,
      "num_byzantine": self.config.told_byzantine,
      "num_clients": self.config.num_drawn,
    }
    defense, settings = self.config.defense, self.config.defense_settings
    given["root_data"] = self._build_root_update_fn()
    builder = aggregators.AGGREGATORS[defense].build
    return federation_lib.call_builder(
      "defense_settings", defense, builder, given, **settings
    )

  def _build_root_update_fn(self):
    """FLTrust's training of the server, on images that no client has."""
    config, held = self.config, self.federation.held_out
    # They lie class by class; a pass in that order would end with the last class.
    order = np.random.default_rng([config.seed, 4]).permutation(len(held.root_labels))
    return root_training.build_root_update_fn(
      self.model_fn,
      held.root_images[order],
      held.root_labels[order],
      self._build_optimizer(),
      epochs=config.root_epochs or config.local_epochs,
      batch_size=config.batch_size,
    )

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


class PersonalTrainer(GlobalTrainer):
  """FL-PLAS: client states live here between the rounds."""

  def build_process(self, aggregator):
    attack = training_attacks.build_training_attack(self.config, self.federation)
    return fl_plas.build_fl_plas(
      self.model_fn,
      self._build_optimizer(),
      federation_lib.shared_layers(self.config),
      aggregator,
      self._read_shard(self.config.local_epochs),
      rate_decay=self.config.rate_decay,
      initial_weights=self.initial_weights,
      training_attack=attack,
      attack_dataset_computation=self._read_attack_shard(attack),
    )

  def start(self, runtime):
    server = runtime.call(self.process.initialize)
    first = self.process.initial_client_state(server)
    return server, [first] * self.config.num_clients

  def step(self, runtime, states, round_number, drawn, **call):
    server, clients = states
    inputs = self.client_inputs(round_number, drawn)
    before = [clients[client] for client in drawn]
    server, after, metrics = runtime.call(
      self.process.next, server, before, inputs, **call
    )
    clients = list(clients)
    for client, state in zip(drawn, after, strict=True):
      clients[client] = state
    return (server, clients), metrics

  def score(self, states):
    server, clients = states
    benign = [
      self.process.client_weights(server, clients[client])
      for client in range(self.config.num_clients)
      if not self.federation.malicious[client]
    ]
    return self.scorer.score_clients(benign)

  def _build_evaluator(self):
    return Evaluator(self.keras_fn, federation_lib.shared_layers(self.config))
