"""FL-PLAS: clients share their feature extractor and keep their classifier.

Reference: FL-PLAS Eq. (6)-(9), Algorithms 1 and 2.
"""

import collections
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tff_defenses.aggregators import base, checks, mean, partial, rows
from tff_defenses.learning import client_work, server_work
from tff_defenses.learning.client_input import ClientInputs


class FlPlasProcess(tff.templates.IterativeProcess):
  """`next(server_state, client_states, client_data)` of FL-PLAS.

  Attributes:
    is_shared: One bool per trainable variable.
  """

  def __init__(self, initialize_fn, next_fn, is_shared: Sequence[bool]):
    super().__init__(initialize_fn, next_fn)
    self.is_shared = tuple(is_shared)

  def initial_client_state(self, server_state) -> collections.OrderedDict:
    """State of a client that has not taken part yet: the common initial model's.

    Its private layers are those of the server, whose copy of them never moves.
    """
    weights = server_state.global_model_weights
    return collections.OrderedDict(
      private=[
        w for w, s in zip(weights.trainable, self.is_shared, strict=True) if not s
      ],
      statistics=list(weights.non_trainable),
    )

  def client_weights(self, server_state, client_state):
    """Eq. (9): the shared layers of the server, the rest of the client.

    Returns:
      `ModelWeights`; its statistics are the client's.
    """
    private = iter(client_state["private"])
    trainable = [
      w if s else next(private)
      for w, s in zip(
        server_state.global_model_weights.trainable, self.is_shared, strict=True
      )
    ]
    return tff.learning.models.ModelWeights(trainable, client_state["statistics"])


def build_fl_plas(
  model_fn: Callable[[], tff.learning.models.VariableModel],
  client_optimizer: tff.learning.optimizers.Optimizer,
  shared_layers: Sequence[str],
  aggregator=None,
  dataset_computation: tff.Computation | None = None,
  *,
  local_epochs: int = 1,
  rate_decay: float = 1.0,
  weighting: str = "uniform",
  share_moving_statistics: bool = False,
  initial_weights: tff.learning.models.ModelWeights | None = None,
  training_attack=None,
  attack_dataset_computation: tff.Computation | None = None,
) -> FlPlasProcess:
  """Builds federated training in which each client keeps its private layers.

  One round: a client overwrites its shared layers with the server's, trains its whole
  model (Algorithm 2) and sends the shared part; the server aggregates it (Eq. 8).
  Clients that are not drawn need no message: they overwrite when they next take part.

  Args:
    model_fn: Makes a `tff.learning.models.VariableModel`; one made by
      `models.split.make_model_fn`, or any whose variables are called "layer/...".
    client_optimizer: Any TFF optimizer; its state is new every round.
    shared_layers: Layer names or patterns, for example
      `models.MODELS["lenet"].shared_layers`; all layers: FedAvg.
    aggregator: Factory for the shared layers; None: the mean of the finite updates.
    dataset_computation: Maps what `next` receives for a client to its dataset; None:
      `next` receives the datasets.
    local_epochs: Passes over each client's dataset; see `ClientWork`.
    rate_decay: Factor on the learning rate from round to round. Paper: 0.998.
    weighting: Without an `aggregator`: "uniform" (authors' code) or "examples"
      (Algorithm 1).
    share_moving_statistics: Average BatchNorm statistics too, with the same weights.
    initial_weights: The common model that all start from; None: what `model_fn` makes.
    training_attack: What malicious clients send instead of their honest update; an
      attack of `attacks.training` that sees no `benign_updates`. It is given the
      client's whole model; the shared part of what it makes is sent. The client's own
      layers stay those of its honest training. Needs a `dataset_computation` whose
      argument tells who is malicious (`is_malicious`).
    attack_dataset_computation: Like `dataset_computation`, for the attack's own passes
      over the data; None: the same one.

  Returns:
    A process with next(server_state, client_states, client_data) -> (server_state,
    client_states, metrics). Client states come and go in the order of the clients; make
    the first with `initial_client_state`. Metrics as in `build_fed_avg`.

  Raises:
    ValueError: a setting is outside its range, a pattern names no layer, or the attack
      wants the others' updates. TypeError: a part has the wrong type.

  Deviations: moving statistics stay with the client, as in the authors' code; the
    paper does not speak of them. A client whose update is not finite keeps its old
    state.
  """
  work = client_work.ClientWork(client_optimizer, local_epochs, rate_decay)
  checks.check_choice("build_fl_plas", "weighting", weighting, mean.WEIGHTINGS)
  is_shared = split.is_shared(_names(model_fn), shared_layers)
  inner = mean.FiniteMeanFactory(weighting) if aggregator is None else aggregator
  factory = partial.PartialAggregationFactory(inner, is_shared)
  inputs = ClientInputs(model_fn, dataset_computation)
  weights = initial_weights or client_work.initial_weights(model_fn)
  weights_type = tff.learning.models.weights_type_from_model(model_fn)
  process = base.unify(factory, weights_type.trainable)
  init_fn = server_work.initial_state(process, weights, weights_type)
  train = build_train(model_fn, work, inputs, weights_type, is_shared)
  state_type = train.type_signature.parameter[2]
  poison = None
  if training_attack is not None:
    _check_attack(training_attack)
    inputs.require_flag("training_attack")
    own_data = ClientInputs(model_fn, attack_dataset_computation or dataset_computation)
    poison = _build_poison(
      training_attack,
      model_fn,
      work,
      own_data,
      train,
      is_shared,
      share_moving_statistics,
    )

  @tff.federated_computation(
    init_fn.type_signature.result,
    tff.FederatedType(state_type, tff.CLIENTS),
    tff.FederatedType(inputs.type, tff.CLIENTS),
  )
  def next_fn(state, client_states, client_data):
    sent = tff.federated_broadcast((state.client_work, state.global_model_weights))
    arguments = (sent[0], sent[1], client_states, client_data)
    results = tff.federated_map(train, arguments)
    if poison is not None:
      results = tff.federated_map(poison, (*arguments, results))
    info = inputs.info(client_data, results.report)
    aggregated = process.next(
      state.aggregator, state.global_model_weights.trainable, results.update, info
    )
    statistics = state.global_model_weights.non_trainable
    new_client_states = results.state
    if share_moving_statistics:
      statistics = server_work.combine_statistics(
        statistics, results.state.statistics, info, aggregated.measurements
      )
      new_client_states = _with_statistics(results.state, statistics)
    new_state, metrics = server_work.finish_round(
      state, aggregated, statistics, results.report
    )
    return new_state, new_client_states, metrics

  return FlPlasProcess(init_fn, next_fn, is_shared)


def _names(model_fn) -> list[str]:
  """Names of the trainable variables, "layer/kind"."""
  with tf.Graph().as_default():
    keras_fn = getattr(model_fn, "keras_fn", None)
    if keras_fn is not None:
      return split.trainable_names(keras_fn())
    return [variable.name for variable in model_fn().trainable_variables]


def build_train(model_fn, work, inputs, weights_type, is_shared):
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
      model_weights = _own_model(weights, client_state, is_shared)
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


def _build_poison(attack, model_fn, work, inputs, train, is_shared, share_statistics):
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
        model_weights = _own_model(weights, client_state, is_shared)
        # Without others' updates to see, the mean's place is held by the honest update.
        made = craft(model_weights, dataset, round_number, update, update)
        return list(made[0]), list(made[1]) if share_statistics else statistics

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


def _own_model(weights, client_state, is_shared):
  """Where a client starts: the server's shared layers, its own others (Eq. 9)."""
  own = iter(client_state["private"])
  start = [
    w if s else next(own) for w, s in zip(weights.trainable, is_shared, strict=True)
  ]
  return tff.learning.models.ModelWeights(start, list(client_state["statistics"]))


def _check_attack(attack) -> None:
  if "benign_updates" in attack.sees:
    raise ValueError(
      "build_fl_plas: `training_attack` must not see `benign_updates`, got "
      f"{type(attack).__name__}. Choose an attack on own data and training alone."
    )


def _with_statistics(client_states, statistics):
  """Client states with the server's moving statistics."""

  @tff.tensorflow.computation(
    client_states.type_signature.member, statistics.type_signature.member
  )
  def overwrite(client_state, statistics):
    return collections.OrderedDict(
      private=client_state["private"], statistics=statistics
    )

  return tff.federated_map(
    overwrite, (client_states, tff.federated_broadcast(statistics))
  )
