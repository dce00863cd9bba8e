"""What the server does at the end of a round, for all learning processes here."""

import collections
import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import rows, stacking, tracking
from tff_defenses.aggregators.spec import WEIGHT_NAMES
from tff_defenses.learning import client_work

REPORT_TYPE = tff.to_type(
  collections.OrderedDict(
    loss_sum=np.float32,
    num_seen=np.float32,
    num_examples=np.float32,
    started=np.float64,
    finished=np.float64,
  )
)


def initial_state(process, weights, weights_type) -> tff.Computation:
  """Builds the `initialize` of a learning process.

  Args:
    process: The aggregation process.
    weights: `ModelWeights` of arrays that the first round starts from, or a computation
      that makes them.
    weights_type: Their TFF type.

  Returns:
    -> LearningAlgorithmState@SERVER; its `client_work` is the number of the next round,
    counted from 1.
  """

  @tff.tensorflow.computation
  def first_weights():
    if isinstance(weights, tff.Computation):
      return weights()
    return tf.nest.map_structure(tf.constant, weights)

  if not weights_type.is_assignable_from(first_weights.type_signature.result):
    raise ValueError(
      "initial_weights: must be the model's weights in model order, "
      f"{weights_type.compact_representation()}, got "
      f"{first_weights.type_signature.result.compact_representation()}."
    )

  @tff.federated_computation
  def init_fn():
    state = tff.learning.templates.LearningAlgorithmState(
      global_model_weights=tff.federated_eval(first_weights, tff.SERVER),
      distributor=tff.federated_value((), tff.SERVER),
      client_work=tff.federated_value(np.int32(1), tff.SERVER),
      aggregator=process.initialize(),
      finalizer=tff.federated_value((), tff.SERVER),
    )
    return tff.federated_zip(state)

  return init_fn


def finish_round(state, aggregated, statistics, reports, norms=None):
  """Applies the aggregate and packs state and metrics; inside a federated computation.

  Args:
    state: The state that the round started from, @SERVER.
    aggregated: Output of the aggregation process.
    statistics: New non-trainable variables, @SERVER.
    reports: {REPORT_TYPE}@CLIENTS.
    norms: Of `update_norms`; None where clients send no updates.

  Returns:
    (state@SERVER, metrics@SERVER). Metrics: `clients` and `aggregator`. Of the clients
    `train_loss`, mean over the images of clients with a finite loss, NaN if all clients
    diverged or none has images; `seconds_training` from the first client's start to the
    last one's end; `seconds_aggregation` from there to the new weights; with `norms`
    `update_norm`.
  """
  weights_type = state.type_signature.member.global_model_weights

  @tff.tensorflow.computation(
    weights_type, weights_type.trainable, weights_type.non_trainable
  )
  def apply(weights, update, statistics):
    trainable = tracking.apply_update(weights.trainable, update)
    finite = rows.all_finite(update)  # else the weights stay, and what belongs to them
    statistics = tf.nest.map_structure(
      lambda old, new: tf.where(finite, new, old), weights.non_trainable, statistics
    )
    new = tff.learning.models.ModelWeights(trainable, statistics)
    return new, client_work.time_after(trainable)

  @tff.tensorflow.computation(np.int32)
  def add_one(number):
    return number + 1

  old = state.global_model_weights
  applied = tff.federated_map(apply, (old, aggregated.result, statistics))
  new_state = tff.federated_zip(
    tff.learning.templates.LearningAlgorithmState(
      global_model_weights=applied[0],
      distributor=state.distributor,
      client_work=tff.federated_map(add_one, state.client_work),
      aggregator=aggregated.state,
      finalizer=state.finalizer,
    )
  )
  return new_state, _metrics(reports, applied[1], aggregated.measurements, norms)


def update_norms(updates, info, is_shared: Sequence[bool] | None = None):
  """L2 lengths of what clients send, [n] float32@SERVER, in the order of their indices.

  They tell how far crafted updates stand out. Infinite where squares pass float32.

  Args:
    updates: {U}@CLIENTS, as they reach the aggregator.
    info: {INFO_TYPE}@CLIENTS.
    is_shared: Which variables leave the client; None: all.
  """
  norm_type = tff.TensorType(np.float32, [1])

  @tff.tensorflow.computation(updates.type_signature.member)
  def norm(update):
    leaves = stacking.leaves(update)
    sent = leaves if is_shared is None else list(itertools.compress(leaves, is_shared))
    return tf.linalg.global_norm([tf.cast(x, tf.float32) for x in sent])[tf.newaxis]

  @tff.tensorflow.computation(stacking.stack_type(norm_type))
  def column(stack):
    return stack["updates"][:, 0]

  norms = tff.federated_map(norm, updates)
  return tff.federated_map(column, stacking.federated_stack(norms, info, norm_type))


def add_metrics(metrics, further):
  """The round's metrics with further ones: name -> {value}@SERVER."""
  if not further:
    return metrics
  known = collections.OrderedDict(
    clients=metrics.clients, aggregator=metrics.aggregator
  )
  return tff.federated_zip(collections.OrderedDict(**known, **further))


def _metrics(reports, applied_at, measurements, norms):
  @tff.tensorflow.computation(REPORT_TYPE)
  def finite_loss(report):
    finite = tf.math.is_finite(report["loss_sum"])
    return (
      tf.where(finite, report["loss_sum"], 0.0),
      tf.where(finite, report["num_seen"], 0.0),
    )

  @tff.tensorflow.computation(
    np.float32, np.float32, np.float64, np.float64, np.float64
  )
  def summarise(loss, seen, started, finished, applied_at):
    return collections.OrderedDict(
      train_loss=loss / seen,  # 0 / 0: no loss, which is not one of 0
      seconds_training=finished - started,
      seconds_aggregation=applied_at - finished,
    )

  loss = tff.federated_sum(tff.federated_map(finite_loss, reports))
  started = tff.federated_min(tff.federated_map(_field("started"), reports))
  finished = tff.federated_max(tff.federated_map(_field("finished"), reports))
  times = tff.federated_zip((loss[0], loss[1], started, finished, applied_at))
  summary = tff.federated_map(summarise, times)
  names = tff.structure.name_list(summary.type_signature.member)
  clients = collections.OrderedDict((name, getattr(summary, name)) for name in names)
  if norms is not None:
    clients["update_norm"] = norms
  return tff.federated_zip(
    collections.OrderedDict(clients=tff.federated_zip(clients), aggregator=measurements)
  )


def _field(name):
  @tff.tensorflow.computation(REPORT_TYPE)
  def get(report):
    return report[name]

  return get


MOVING_STATISTICS = ("mean", "first", "initial")


def combine_statistics(old, new, info, measurements, form: str = "mean"):
  """New BatchNorm statistics of the global model.

  Reference: FL-PLAS keeps statistics local; for whole models the papers say nothing.
  "mean": the clients' mean. A rule that reports `weight` or `trust` weighs their
  statistics alike; under any other factory all finite ones count equally. "first":
  those of the client with the lowest index, for FL-PLAS's code, which takes the first
  received, in random order but malicious ones before others, under FedAvg, RSA and norm
  clipping. "initial": `old`, as there under FLTrust and FLAME. Without finite
  ones `old` stays in any case.

  Deviations: the weights are those that the rule reports, also where it works
  coordinate by coordinate (the share of the kept values that are a client's) or clips
  (the clipping factor).

  Args:
    old: Non-trainable variables of the global model, @SERVER.
    new: Those of the clients, @CLIENTS.
    info: {INFO_TYPE}@CLIENTS.
    measurements: Of the aggregator, @SERVER.
    form: One of `MOVING_STATISTICS`.
  """
  value_type = old.type_signature.member
  if form == "initial" or not tff.structure.flatten(value_type):
    return old
  specs = stacking.tensor_specs(value_type)
  stack = stacking.federated_stack(new, info, value_type)
  measured = measurements.type_signature.member

  @tff.tensorflow.computation(value_type, stacking.stack_type(value_type), measured)
  def combine(old, stack, measured):
    stacked = stack["updates"]
    finite = tf.cast(rows.finite_rows(stacked), tf.float32)
    if form == "first":
      weight = tf.one_hot(tf.argmax(finite), tf.size(finite)) * finite
    else:
      weight = finite * client_weights(measured, finite)
    clean = tf.where(finite[:, tf.newaxis] > 0, stacked, 0.0)
    total = tf.reduce_sum(weight)
    mean = tf.linalg.matvec(clean, weight, transpose_a=True) / total
    found = stacking.leaves(stacking.unflatten(mean, specs))
    pairs = zip(found, stacking.leaves(old), strict=True)
    return stacking.pack(specs, [tf.where(total > 0, m, o) for m, o in pairs])

  return tff.federated_map(combine, (old, stack, measurements))


def client_weights(measured, default):
  """What a rule gave each client, [n]: its `weight` or `trust`, or `default`."""
  names = list(measured) if isinstance(measured, dict) else []
  for name in WEIGHT_NAMES:
    if name in names:
      return measured[name]
  return default
