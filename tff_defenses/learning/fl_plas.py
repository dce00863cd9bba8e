"""FL-PLAS: clients share their feature extractor and keep their classifier.

Reference: FL-PLAS Eq. (6)-(9), Algorithms 1 and 2.
"""

import collections
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tff_defenses.aggregators import base, checks, mean, partial
from tff_defenses.learning import client_work, fl_plas_client, server_work
from tff_defenses.learning.client_input import ClientInputs


class FlPlasProcess(tff.templates.IterativeProcess):
  """`next(server_state, client_states, client_data)` of FL-PLAS.

  Attributes:
    is_shared: One bool per trainable variable.
    shares_statistics: Whether BatchNorm's moving statistics are the server's.
  """

  def __init__(
    self, initialize_fn, next_fn, is_shared: Sequence[bool], shares_statistics=False
  ):
    super().__init__(initialize_fn, next_fn)
    self.is_shared = tuple(is_shared)
    self.shares_statistics = shares_statistics

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
      `ModelWeights`; its statistics are the client's, unless they are shared.
    """
    weights = server_state.global_model_weights
    return fl_plas_client.own_model(
      weights, client_state, self.is_shared, self.shares_statistics
    )


def build_fl_plas(
  model_fn: Callable[[], tff.learning.models.VariableModel],
  client_optimizer: tff.learning.optimizers.Optimizer,
  shared_layers: Sequence[str],
  aggregator=None,
  dataset_computation: tff.Computation | None = None,
  *,
  local_epochs: int = 1,
  rate_decay: float = 1.0,
  weighting: str | None = None,
  share_moving_statistics: bool = False,
  initial_weights: tff.learning.models.ModelWeights | None = None,
  training_attack=None,
  attack_dataset_computation: tff.Computation | None = None,
  measure_norms: bool = False,
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
    weighting: Of the mean, without an `aggregator`: "uniform" (authors' code, default)
      or "examples" (Algorithm 1).
    share_moving_statistics: Average BatchNorm statistics too, with the same weights.
    initial_weights: The common model that all start from; None: what `model_fn` makes.
    training_attack: What malicious clients send instead of their honest update; an
      attack of `attacks.training` that sees no `benign_updates`. It is given the
      client's whole model; the shared part of what it makes is sent. The client's own
      layers stay those of its honest training. Needs a `dataset_computation` whose
      argument tells who is malicious (`is_malicious`).
    attack_dataset_computation: Like `dataset_computation`, for the attack's own passes
      over the data; None: the same one, if one pass is enough for the attack.
    measure_norms: Also report how long each client's update of the shared layers is.

  Returns:
    A process with next(server_state, client_states, client_data) -> (server_state,
    client_states, metrics). Client states come and go in the order of the clients; make
    the first with `initial_client_state`. Metrics as in `build_fed_avg`.

  Raises:
    ValueError: a setting is outside its range, a pattern names no layer, or the attack
      wants the others' updates. TypeError: a part has the wrong type.

  Deviations: moving statistics stay with the client, as in the authors' code; the
    paper does not speak of them. A client whose update is not finite keeps its old
    state. A round that nobody takes part in is to be skipped: TFF 0.87 raises a
    ValueError, since it cannot return the states of no clients.
  """
  work = client_work.ClientWork(client_optimizer, local_epochs, rate_decay)
  is_shared = split.is_shared(_names(model_fn), shared_layers)
  inner = _mean(weighting) if aggregator is None else aggregator
  if aggregator is not None and weighting is not None:
    raise ValueError(
      f"build_fl_plas: `weighting` must be None beside an `aggregator`, got "
      f"{weighting!r}. Let the aggregator weigh: `td.FiniteMeanFactory({weighting!r})`."
    )
  factory = partial.PartialAggregationFactory(inner, is_shared)
  inputs = ClientInputs(model_fn, dataset_computation)
  weights = initial_weights or client_work.initial_weights(model_fn)
  weights_type = tff.learning.models.weights_type_from_model(model_fn)
  process = base.unify(factory, weights_type.trainable)
  init_fn = server_work.initial_state(process, weights, weights_type)
  train = fl_plas_client.build_train(
    model_fn, work, inputs, weights_type, is_shared, share_moving_statistics
  )
  poison = None
  if training_attack is not None:
    _check_attack(training_attack)
    inputs.require_flag("training_attack")
    own_data = ClientInputs.of_attack(
      model_fn, training_attack, attack_dataset_computation, dataset_computation
    )
    poison = fl_plas_client.build_poison(
      training_attack,
      model_fn,
      work,
      own_data,
      train,
      is_shared,
      share_moving_statistics,
    )
  measure = None
  if measure_norms:
    measure = functools.partial(server_work.update_norms, is_shared=is_shared)
  next_fn = _build_next(
    init_fn, inputs, train, poison, process, share_moving_statistics, measure
  )
  return FlPlasProcess(init_fn, next_fn, is_shared, share_moving_statistics)


def _build_next(init_fn, inputs, train, poison, process, share_statistics, measure):
  """One round: train, poison, aggregate the shared layers (Eq. 8), finish."""

  @tff.federated_computation(
    init_fn.type_signature.result,
    tff.FederatedType(train.type_signature.parameter[2], tff.CLIENTS),
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
    if share_statistics:
      statistics = server_work.combine_statistics(
        statistics, results.state.statistics, info, aggregated.measurements
      )
      new_client_states = _with_statistics(results.state, statistics)
    norms = None if measure is None else measure(results.update, info)
    new_state, metrics = server_work.finish_round(
      state, aggregated, statistics, results.report, norms
    )
    return new_state, new_client_states, metrics

  return next_fn


def _mean(weighting):
  weighting = weighting or "uniform"
  checks.check_choice("build_fl_plas", "weighting", weighting, mean.WEIGHTINGS)
  return mean.FiniteMeanFactory(weighting)


def _names(model_fn) -> list[str]:
  """Names of the trainable variables, "layer/kind"."""
  with tf.Graph().as_default():
    keras_fn = getattr(model_fn, "keras_fn", None)
    if keras_fn is not None:
      return split.trainable_names(keras_fn())
    return [variable.name for variable in model_fn().trainable_variables]


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
