"""Training in which each client has a model of its own: FL-PLAS, and no federation."""

import numpy as np

from tff_defenses.experiments import aggregation, training_attacks
from tff_defenses.experiments import federation as federation_lib
from tff_defenses.experiments.global_trainer import GlobalTrainer, num_bytes
from tff_defenses.learning import fl_plas, local
from tff_defenses.learning.evaluation import Evaluator


class PersonalTrainer(GlobalTrainer):
  """FL-PLAS: client states live here between the rounds."""

  def build_process(self, aggregator):
    attack = training_attacks.build_training_attack(self.config, self.federation)
    return fl_plas.build_fl_plas(
      self.model_fn,
      aggregation.build_optimizer(self.config),
      federation_lib.shared_layers(self.config),
      aggregator,
      self._read_shard(self.config.local_epochs),
      rate_decay=self.config.rate_decay,
      initial_weights=self.initial_weights,
      training_attack=attack,
      attack_dataset_computation=self._read_attack_shard(attack),
      measure_norms=True,
    )

  def start(self, runtime, **call):
    server = runtime.call(self.process.initialize, **call)
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
    """Metrics of the benign clients' models; after the last round the malicious too.

    `eval_clients` says whether of all benign clients or of those of the round.
    Malicious clients may be nine in ten, and each of their models takes as long to
    score as a benign one's.
    """
    malicious, rounds_done = self.federation.malicious, int(states[0].client_work) - 1
    scored = ~malicious
    if self.config.eval_clients == "sampled" and rounds_done:
      drawn = federation_lib.draw_clients(self.config, rounds_done)
      scored = scored & np.isin(np.arange(len(scored)), drawn)
    row = {}
    if scored.any():
      row = self.scorer.score_clients(self._models(states, scored))
    if rounds_done >= self.config.rounds and malicious.any():
      row.update(self.scorer.score_malicious(self._models(states, malicious)))
    return row

  def traffic(self):
    """Bytes of the shared layers; BatchNorm's statistics stay with the client."""
    trainable = zip(self.initial_weights.trainable, self.process.is_shared, strict=True)
    size = num_bytes([array for array, is_shared in trainable if is_shared])
    return {"bytes_up": size, "bytes_down": size}

  def _models(self, states, chosen):
    server, clients = states
    return [
      self.process.client_weights(server, clients[c]) for c in np.flatnonzero(chosen)
    ]

  def _build_evaluator(self):
    return Evaluator(self.keras_fn, federation_lib.shared_layers(self.config))


class LocalTrainer(PersonalTrainer):
  """Each client trains alone: its whole model is its own."""

  def build_process(self, aggregator):
    del aggregator  # there is none
    return local.build_local(
      self.model_fn,
      aggregation.build_optimizer(self.config),
      self._read_shard(self.config.local_epochs),
      rate_decay=self.config.rate_decay,
      initial_weights=self.initial_weights,
    )

  def _build_evaluator(self):
    return Evaluator(self.keras_fn)
