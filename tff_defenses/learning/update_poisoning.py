"""Malicious clients replace their updates, knowing those of the others.

All updates go to the server once, beside each the client's index and whether it is
malicious; the attack's rows are made there and sent back, and each malicious client
takes its own. An aggregation factory then sees clients' values like any others: nothing
tells it who is malicious, and benign clients' values have not moved.
"""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import checks, stacking
from tff_defenses.learning import client_work
from tff_defenses.learning.client_input import ClientInputs

_FLAG_TYPE = tff.TensorType(np.float32, [1])
_SEEDS = 2**31  # TensorFlow's stateless seeds are int32


def build(attack, inputs: ClientInputs, result_type: tff.Type, seed: int):
  """Builds the phase between training and aggregation.

  Args:
    attack: Has `craft(deltas, malicious, *, weights, seed)`, which returns the deltas
      [n, d] with other malicious rows, and measurements.
    inputs: What clients receive; tells their index and who is malicious.
    result_type: Of one client's training: `update`, `statistics`, `report`.
    seed: The attack draws from it and the round.

  Returns:
    replace(state, clients, results) -> (results@CLIENTS, measurements@SERVER), inside a
    federated computation.

  Raises:
    TypeError: the inputs lack the index or the flag. ValueError: `seed` is not >= 0.
  """
  checks.check_at_least("build_fed_avg", "attack_seed", "seed", seed, 0)
  inputs.require_flag("update_attack")
  _require_index(inputs)
  update_type = result_type.update
  with_flag = _build_with_flag(inputs.type, update_type)
  craft = _build_craft(attack, update_type, seed % _SEEDS)
  crafted_type = craft.type_signature.result[0]
  substitute = _build_substitute(inputs.type, result_type, crafted_type)

  def replace(state, clients, results):
    sent = tff.federated_map(with_flag, (clients, results.update))
    stack = stacking.federated_stack(sent[1], sent[0], update_type)
    flags = stacking.federated_stack(sent[2], sent[0], _FLAG_TYPE)
    weights = state.global_model_weights.trainable
    crafted = tff.federated_map(craft, (state.client_work, weights, stack, flags))
    rows = tff.federated_broadcast(crafted[0])
    return tff.federated_map(substitute, (clients, results, rows)), crafted[1]

  return replace


def _build_with_flag(client_type, update_type):
  """(input, update) -> index, update, flag: the flag goes in a stack of its own."""

  @tff.tensorflow.computation(client_type, update_type)
  def with_flag(client, update):
    flag = tf.cast(client["is_malicious"], tf.float32)
    index = tf.cast(client["client_index"], tf.int32)
    return collections.OrderedDict(client_index=index), update, flag[tf.newaxis]

  return with_flag


def _build_craft(attack, update_type, seed):
  """(round, theta, stacks) -> the malicious clients' updates, and measurements."""
  stacked = stacking.stack_type(update_type)
  flagged = stacking.stack_type(_FLAG_TYPE)
  num_columns = stacking.num_parameters(update_type)

  @tff.tensorflow.computation(np.int32, update_type, stacked, flagged)
  def craft(round_number, weights, stack, flags):
    malicious = flags["updates"][:, 0] > 0.5
    deltas, measured = attack.craft(
      -stack["updates"],  # the papers' sign
      malicious,
      weights=stacking.flatten(weights),
      seed=tf.stack([tf.constant(seed, tf.int32), round_number]),
    )
    rows = tf.ensure_shape(tf.boolean_mask(deltas, malicious), [None, num_columns])
    index = tf.boolean_mask(stack["client_index"], malicious)
    return collections.OrderedDict(updates=-rows, client_index=index), measured

  return craft


def _build_substitute(client_type, result_type, crafted_type):
  """(input, result, crafted rows) -> result; a malicious client takes its own row."""
  specs = stacking.tensor_specs(result_type.update)

  @tff.tensorflow.computation(client_type, result_type, crafted_type)
  def substitute(client, result, crafted):
    index = tf.cast(client["client_index"], tf.int32)
    is_mine = tf.equal(crafted["client_index"], index)
    honest = list(result["update"])

    def own_row():
      place = tf.argmax(tf.cast(is_mine, tf.int32))
      return list(stacking.unflatten(crafted["updates"][place], specs))

    takes = client["is_malicious"] & tf.reduce_any(is_mine)
    update = tf.cond(takes, own_row, lambda: honest)
    report = collections.OrderedDict(result["report"])
    # Making the rows is the clients' work, not the rule's.
    report["finished"] = client_work.time_after(update)
    return collections.OrderedDict(
      update=update, statistics=list(result["statistics"]), report=report
    )

  return substitute


def _require_index(inputs):
  if not inputs.has("client_index"):
    raise TypeError(
      "update_attack: the argument of `dataset_computation` must have a field "
      f"`client_index`, got {inputs.type.compact_representation()}. "
      "CLIENT_INPUT_TYPE has one."
    )
