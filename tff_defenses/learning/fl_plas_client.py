"""What a client of FL-PLAS computes: it trains its whole model, shared and private.

Reference: FL-PLAS Algorithm 2, ClientUpdate.
"""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import rows
from tff_defenses.learning import client_work


def build_train(
  model_fn, work, inputs, weights_type, is_shared, shares_statistics=False
):
  """Algorithm 2: (round, weights, client state, input) -> update, state, report."""
  private_type = [
    t for t, s in zip(weights_type.trainable, is_shared, strict=True) if not s
  ]
  state_type = tff.to_type(
    collections.OrderedDict(
      private=tff.to_type(private_type), statistics=weights_type.non_trainable
    )
  )

  @tff.tensorflow.computation(np.int32, weights_type, state_type, inputs.type)
  def train(round_number, weights, client_state, client):
    train_fn = client_work.build_train_fn(model_fn(), work)

    @tf.function
    def run(round_number, weights, client_state, dataset):
      started = tf.timestamp()
      model_weights = own_model(weights, client_state, is_shared, shares_statistics)
      start, statistics = model_weights.trainable, model_weights.non_trainable
      update, new_statistics, report = train_fn(model_weights, dataset, round_number)
      finite = rows.all_finite([*update, *new_statistics])
      private = [
        tf.where(finite, w - u, w)
        for w, u, s in zip(start, update, is_shared, strict=True)
        if not s
      ]
      kept = zip(new_statistics, statistics, strict=True)
      statistics = [tf.where(finite, new, old) for new, old in kept]
      report.update(started=started, finished=client_work.time_after(update))
      return update, private, statistics, report

    update, private, statistics, report = run(
      round_number, weights, client_state, inputs.dataset(client)
    )
    state = collections.OrderedDict(private=list(private), statistics=list(statistics))
    return collections.OrderedDict(update=list(update), state=state, report=report)

  return train


def build_poison(attack, model_fn, work, inputs, train, is_shared, shares_statistics):
  """The malicious clients' phase: `train`'s arguments, its result -> a result."""

  @tff.tensorflow.computation(
    *train.type_signature.parameter, train.type_signature.result
  )
  def replace(round_number, weights, client_state, client, honest):
    craft = attack.build_craft(model_fn(), work)

    @tf.function
    def choose(round_number, weights, client_state, client, dataset, honest):
      update, statistics = list(honest["update"]), list(honest["state"]["statistics"])

      def crafted():
        model_weights = own_model(weights, client_state, is_shared, shares_statistics)
        # Without others' updates to see, the mean's place is held by the honest update.
        made = craft(model_weights, dataset, round_number, update, update)
        return list(made[0]), list(made[1]) if shares_statistics else statistics

      sent = tf.cond(client["is_malicious"], crafted, lambda: (update, statistics))
      report = collections.OrderedDict(honest["report"])
      report["finished"] = client_work.time_after(sent[0])
      return (*sent, report)

    dataset = inputs.dataset(client)
    arguments = (round_number, weights, client_state, client, dataset, honest)
    update, statistics, report = choose(*arguments)
    private = list(honest["state"]["private"])
    state = collections.OrderedDict(private=private, statistics=list(statistics))
    return collections.OrderedDict(update=list(update), state=state, report=report)

  return replace


def own_model(weights, client_state, is_shared, shares_statistics=False):
  """Eq. (9): the shared layers of the server, the rest of the client.

  Args:
    weights: The server's `ModelWeights`.
    client_state: What the client keeps.
    is_shared: One bool per trainable variable.
    shares_statistics: Take the server's moving statistics, too.

  Returns:
    `ModelWeights`.
  """
  own = iter(client_state["private"])
  start = [
    w if s else next(own) for w, s in zip(weights.trainable, is_shared, strict=True)
  ]
  kept = weights.non_trainable if shares_statistics else client_state["statistics"]
  return tff.learning.models.ModelWeights(start, list(kept))
