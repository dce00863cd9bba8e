"""Federated averaging with any of the defenses in the place of the average."""

import collections
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import base, checks, mean, rows
from tff_defenses.learning import (
  client_work,
  pretraining,
  server_work,
  update_poisoning,
)
from tff_defenses.learning.client_input import ClientInputs


def build_fed_avg(
  model_fn: Callable[[], tff.learning.models.VariableModel],
  client_optimizer: tff.learning.optimizers.Optimizer,
  aggregator=None,
  *,
  local_epochs: int = 1,
  rate_decay: float = 1.0,
  dataset_computation: tff.Computation | None = None,
  training_attack=None,
  attack_dataset_computation: tff.Computation | None = None,
  update_attack=None,
  attack_seed: int = 0,
  initial_weights: tff.learning.models.ModelWeights | None = None,
  auxiliary_data: tuple[np.ndarray, np.ndarray] | None = None,
  moving_statistics: str = "mean",
  measure_norms: bool = False,
  measure_attack: bool = False,
) -> tff.learning.templates.LearningProcess:
  """Builds a learning process around an aggregation factory.

  One round: every client trains the global model on its data and sends initial minus
  trained; malicious clients may replace that; the factory aggregates; the server
  subtracts the aggregate (learning rate 1). An aggregate that is not finite is skipped.

  Args:
    model_fn: Makes a `tff.learning.models.VariableModel`, anew at each call.
    client_optimizer: Any TFF optimizer; its state is new every round.
    aggregator: Any TFF aggregation factory or a model-aware one; None: the mean of the
      finite updates.
    local_epochs: Passes over each client's dataset; see `ClientWork`.
    rate_decay: Factor on the client learning rate from round to round.
    dataset_computation: Maps what `next` receives for a client to its dataset of
      batches, inside the client's computation; None: `next` receives the datasets.
    training_attack: What malicious clients do instead of training (see
      `attacks.training`); needs a `dataset_computation` whose argument tells who is
      malicious (`is_malicious`).
    attack_dataset_computation: Like `dataset_computation`, for the attack's own passes
      over the data; None: the same one, if one pass is enough for the attack.
    update_attack: What malicious clients send instead of what they trained, honestly or
      by the training attack (see `attacks.updates`); its computation's argument must
      tell who is malicious and each client's `client_index`.
    attack_seed: >= 0; the update attack draws from it and the round.
    initial_weights: What the first round starts from; None: what `model_fn` makes.
    auxiliary_data: FLARE's D, (images [m, H, W, C] in 0..255, labels [m]). If given,
      `initialize` trains those weights on D first (FLARE Sec. 5.2), `local_epochs`
      times, with the client optimizer.
    moving_statistics: What becomes of BatchNorm's: "mean", "first" or "initial"; see
      `server_work.combine_statistics`.
    measure_norms: Also report how long each client's update is. The server then learns
      it of each client, which a secure or a private sum would keep from it.
    measure_attack: Also report what the malicious clients send; needs a
      `training_attack`. For experiments: nobody could know it outside.

  Returns:
    A `LearningProcess`. `next` takes the state and a list of client inputs; its metrics
    hold `clients` (train_loss, seconds_training, seconds_aggregation, with
    `measure_norms` also update_norm, the L2 lengths [n]), `aggregator` (the factory's
    measurements) and, with an update attack, `attack` (its own); with
    `measure_attack`, `crafted`, the mean of the malicious clients' finite updates, NaN
    without any.

  Raises:
    ValueError: a setting is outside its range. TypeError: a part has the wrong type.
  """
  forms = server_work.MOVING_STATISTICS
  checks.check_choice("build_fed_avg", "moving_statistics", moving_statistics, forms)
  if measure_attack and training_attack is None:
    raise ValueError(
      "build_fed_avg: `training_attack` must be given where `measure_attack` is, got "
      "None. Give one, or leave `measure_attack` out."
    )
  work = client_work.ClientWork(client_optimizer, local_epochs, rate_decay)
  factory = mean.FiniteMeanFactory() if aggregator is None else aggregator
  inputs = ClientInputs(model_fn, dataset_computation)
  weights = initial_weights or client_work.initial_weights(model_fn)
  if auxiliary_data is not None:
    weights = pretraining.build_pretraining(
      model_fn,
      *auxiliary_data,
      client_optimizer,
      epochs=local_epochs,
      initial_weights=weights,
    )
  weights_type = tff.learning.models.weights_type_from_model(model_fn)
  process = base.unify(factory, weights_type.trainable)
  init_fn = server_work.initial_state(process, weights, weights_type)
  train = _build_train(model_fn, work, inputs, weights_type)
  poison = None
  if training_attack is not None:
    inputs.require_flag("training_attack")
    own_data = ClientInputs.of_attack(
      model_fn, training_attack, attack_dataset_computation, dataset_computation
    )
    result_type = train.type_signature.result
    poison = _build_poison(training_attack, model_fn, work, own_data, result_type)
  replace = None
  if update_attack is not None:
    result_type = train.type_signature.result
    replace = update_poisoning.build(update_attack, inputs, result_type, attack_seed)
  combine = functools.partial(server_work.combine_statistics, form=moving_statistics)
  measures = _Measures(measure_norms, measure_attack)
  next_fn = _build_next(
    init_fn, inputs, train, poison, replace, process, combine, measures
  )
  return tff.learning.templates.LearningProcess(
    init_fn, next_fn, *_weight_accessors(init_fn)
  )


class _Measures(NamedTuple):
  """What is reported besides."""

  norms: bool
  crafted: bool


def _build_next(init_fn, inputs, train, poison, replace, process, combine, measures):
  """One round: train, poison, replace, aggregate, finish."""

  @tff.federated_computation(
    init_fn.type_signature.result, tff.FederatedType(inputs.type, tff.CLIENTS)
  )
  def next_fn(state, clients):
    sent = tff.federated_broadcast((state.client_work, state.global_model_weights))
    results = tff.federated_map(train, (sent[0], sent[1], clients))
    if poison is not None:
      results = poison(sent, clients, results)
    if replace is not None:
      results, attacked = replace(state, clients, results)
    info = inputs.info(clients, results.report)
    weights = state.global_model_weights
    aggregated = process.next(state.aggregator, weights.trainable, results.update, info)
    statistics = combine(
      weights.non_trainable, results.statistics, info, aggregated.measurements
    )
    norms = server_work.update_norms(results.update, info) if measures.norms else None
    new_state, metrics = server_work.finish_round(
      state, aggregated, statistics, results.report, norms
    )
    further = collections.OrderedDict()
    if replace is not None:
      further["attack"] = attacked
    if measures.crafted:
      further["crafted"] = _mean_update(clients, results, malicious=True)
    metrics = server_work.add_metrics(metrics, further)
    return tff.learning.templates.LearningProcessOutput(new_state, metrics)

  return next_fn


def _build_train(model_fn, work, inputs, weights_type):
  """The honest client: (round, weights, input) -> update, statistics, report."""

  @tff.tensorflow.computation(np.int32, weights_type, inputs.type)
  def train(round_number, weights, client):
    train_fn = client_work.build_train_fn(model_fn(), work)

    @tf.function
    def timed(round_number, weights, dataset):
      started = tf.timestamp()
      update, statistics, report = train_fn(weights, dataset, round_number)
      report.update(started=started, finished=client_work.time_after(update))
      return update, statistics, report

    return _result(*timed(round_number, weights, inputs.dataset(client)))

  return train


def _build_poison(attack, model_fn, work, inputs, result_type):
  """The malicious clients' phase: replaces their results, leaves all others alone."""
  weights_type = tff.learning.models.weights_type_from_model(model_fn)
  sees_benign = "benign_updates" in attack.sees

  @tff.tensorflow.computation(
    np.int32, weights_type, inputs.type, result_type, weights_type.trainable
  )
  def replace(round_number, weights, client, honest, benign_mean):
    craft = attack.build_craft(model_fn(), work)

    @tf.function
    def choose(round_number, weights, client, dataset, honest, benign_mean):
      def crafted():
        return craft(
          weights, dataset, round_number, list(honest["update"]), list(benign_mean)
        )

      def kept():
        return list(honest["update"]), list(honest["statistics"])

      update, statistics = tf.cond(client["is_malicious"], crafted, kept)
      report = collections.OrderedDict(honest["report"])
      report["finished"] = client_work.time_after(update)
      return update, statistics, report

    dataset = inputs.dataset(client)
    chosen = choose(round_number, weights, client, dataset, honest, benign_mean)
    return _result(*chosen)

  def poison(sent, clients, results):
    if sees_benign:
      mean_update = _mean_update(clients, results, malicious=False)
      benign = tff.federated_broadcast(mean_update)
    else:
      benign = results.update  # not looked at
    return tff.federated_map(replace, (sent[0], sent[1], clients, results, benign))

  return poison


def _mean_update(clients, results, *, malicious: bool):
  """Mean of some clients' finite updates of the round, @SERVER.

  Without any: zero of benign clients, where attackers then start; NaN of malicious.
  """
  update_type = results.type_signature.member.update

  @tff.tensorflow.computation(clients.type_signature.member, update_type)
  def mask(client, update):
    is_asked = tf.equal(client["is_malicious"], malicious)
    counts = rows.all_finite(update) & is_asked
    clean = tf.nest.map_structure(lambda x: tf.where(counts, x, 0), update)
    return clean, tf.cast(counts, tf.float32)

  @tff.tensorflow.computation(update_type, np.float32)
  def divide(total, count):
    divide_by = tf.math.divide if malicious else tf.math.divide_no_nan
    return tf.nest.map_structure(lambda x: divide_by(x, tf.cast(count, x.dtype)), total)

  sums = tff.federated_sum(tff.federated_map(mask, (clients, results.update)))
  return tff.federated_map(divide, (sums[0], sums[1]))


def _result(update, statistics, report):
  return collections.OrderedDict(
    update=list(update), statistics=list(statistics), report=report
  )


def _weight_accessors(init_fn):
  state_type = init_fn.type_signature.result.member

  @tff.tensorflow.computation(state_type)
  def get_weights(state):
    return state.global_model_weights

  @tff.tensorflow.computation(state_type, state_type.global_model_weights)
  def set_weights(state, weights):
    return tff.learning.templates.LearningAlgorithmState(
      global_model_weights=weights,
      distributor=state.distributor,
      client_work=state.client_work,
      aggregator=state.aggregator,
      finalizer=state.finalizer,
    )

  return get_weights, set_weights
