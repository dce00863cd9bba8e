"""The baseline without federation: each client trains alone and keeps its whole model.

Reference: FL-PLAS Algorithm 2, ClientUpdate, when no layer is shared.
"""

import collections
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import base, rows
from tff_defenses.learning import client_work, fl_plas, fl_plas_client, server_work
from tff_defenses.learning.client_input import ClientInputs


def build_local(
  model_fn: Callable[[], tff.learning.models.VariableModel],
  client_optimizer: tff.learning.optimizers.Optimizer,
  dataset_computation: tff.Computation | None = None,
  *,
  local_epochs: int = 1,
  rate_decay: float = 1.0,
  initial_weights: tff.learning.models.ModelWeights | None = None,
) -> fl_plas.FlPlasProcess:
  """Builds training in which clients exchange nothing.

  It is called like FL-PLAS's process, with all layers private: the server's model stays
  the common start, and a client's state is its whole model.

  Args:
    model_fn: Makes a `tff.learning.models.VariableModel`, anew at each call.
    client_optimizer: Any TFF optimizer; its state is new every round.
    dataset_computation: Maps what `next` receives for a client to its dataset; None:
      `next` receives the datasets.
    local_epochs: Passes over each client's dataset; see `ClientWork`.
    rate_decay: Factor on the learning rate from round to round.
    initial_weights: The common model that all start from; None: what `model_fn` makes.

  Returns:
    A process with next(server_state, client_states, client_data) -> (server_state,
    client_states, metrics), as `build_fl_plas` makes; `aggregator` in the metrics holds
    `num_rejected`, the clients whose training was not finite.

  Raises:
    ValueError: a setting is outside its range. TypeError: a part has the wrong type.

  Deviations: neither paper has this baseline. A client trains in the rounds in which it
  is drawn, so that it takes as many steps as under a defense. One whose training is not
  finite keeps its old state.
  """
  work = client_work.ClientWork(client_optimizer, local_epochs, rate_decay)
  inputs = ClientInputs(model_fn, dataset_computation)
  weights = initial_weights or client_work.initial_weights(model_fn)
  weights_type = tff.learning.models.weights_type_from_model(model_fn)
  is_shared = [False] * len(weights_type.trainable)
  process = _build_no_aggregation(weights_type.trainable)
  init_fn = server_work.initial_state(process, weights, weights_type)
  train = fl_plas_client.build_train(model_fn, work, inputs, weights_type, is_shared)

  @tff.federated_computation(
    init_fn.type_signature.result,
    tff.FederatedType(train.type_signature.parameter[2], tff.CLIENTS),
    tff.FederatedType(inputs.type, tff.CLIENTS),
  )
  def next_fn(state, client_states, client_data):
    sent = tff.federated_broadcast((state.client_work, state.global_model_weights))
    results = tff.federated_map(train, (sent[0], sent[1], client_states, client_data))
    unmoved = process.next(state.aggregator, results.update)
    statistics = state.global_model_weights.non_trainable
    new_state, metrics = server_work.finish_round(
      state, unmoved, statistics, results.report
    )
    return new_state, results.state, metrics

  return fl_plas.FlPlasProcess(init_fn, next_fn, is_shared)


def _build_no_aggregation(update_type) -> tff.templates.MeasuredProcess:
  """next(state, updates@CLIENTS) -> zeros; only counts updates that are not finite."""

  @tff.federated_computation
  def init_fn():
    return tff.federated_value((), tff.SERVER)

  @tff.tensorflow.computation
  def zeros():
    return [tf.zeros(leaf.shape, leaf.dtype) for leaf in update_type]

  @tff.tensorflow.computation(update_type)
  def is_rejected(update):
    return tf.where(rows.all_finite(update), np.int32(0), np.int32(1))

  @tff.federated_computation(
    init_fn.type_signature.result, tff.FederatedType(update_type, tff.CLIENTS)
  )
  def next_fn(state, updates):
    rejected = tff.federated_sum(tff.federated_map(is_rejected, updates))
    measurements = collections.OrderedDict(num_rejected=rejected)
    return tff.templates.MeasuredProcessOutput(
      state, tff.federated_eval(zeros, tff.SERVER), tff.federated_zip(measurements)
    )

  return base.measured_process(init_fn, next_fn)
