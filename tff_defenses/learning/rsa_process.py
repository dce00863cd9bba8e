"""RSA as published: every worker keeps a model of its own and sends it.

Reference: Li, Xu, Chen, Giannakis, Ling, AAAI 2019; steps and settings as in the
authors' code, Liepill/RSA-Byzantine, RSA-code/RSA_iid.py.
Symbols: n workers, x_0 the server's model, x_i worker i's, F_i its loss, lambda the
penalty, mu the weight decay, c the scale of the gradient, t the round from 1, alpha_t
its step.
Minimised: sum_i (c F_i(x_i) + lambda ||x_i - x_0||_1) + mu / 2 ||x_0||^2.
"""

import collections
import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import base, checks, rows, stacking
from tff_defenses.learning import client_work, server_work
from tff_defenses.learning.client_input import ClientInputs

_RESULT = ("votes", "counts", "state", "report")  # of a worker


@dataclasses.dataclass(frozen=True)
class RsaSteps:
  """The two steps of RSA; for the settings see `build_rsa`."""

  penalty: float = 0.07
  weight_decay: float = 0.01
  step_size: float = 0.001
  gradient_scale: float = 1.0

  def __post_init__(self):
    who, advice = "build_rsa", " The authors use {}."
    checks.check_positive(who, "penalty", "lambda", self.penalty, advice.format(0.07))
    alpha, mu = self.step_size, self.weight_decay
    checks.check_positive(who, "step_size", "alpha_1", alpha, advice.format(0.001))
    checks.check_fraction(who, "gradient_scale", "c", self.gradient_scale)
    if not checks.is_number(mu) or mu < 0:
      message = f"{who}: `weight_decay` (mu) must be >= 0, got {mu!r}."
      raise ValueError(message + advice.format(0.01))

  def rate(self, round_number) -> tf.Tensor:
    """alpha_t = step_size / sqrt(t); [] int32 -> [] float32.

    >>> RsaSteps(step_size=0.5).rate(4).numpy()
    0.25
    """
    return self.step_size / tf.sqrt(tf.cast(round_number, tf.float32))

  def worker_change(self, own, server, gradient, rate) -> tf.Tensor:
    """alpha_t (c grad F_i(x_i) + lambda sign(x_i - x_0)), to be taken from x_i."""
    change = self.penalty * tf.sign(own - server)
    # A variable that the loss does not see has no gradient; an embedding's is sparse.
    if gradient is not None:
      change += self.gradient_scale * tf.convert_to_tensor(gradient)
    return tf.cast(rate, change.dtype) * change

  def server_change(self, server, votes, rate) -> tf.Tensor:
    """alpha_t (lambda sum_i sign(x_0 - x_i) + mu x_0), to be taken from x_0."""
    change = self.penalty * votes + self.weight_decay * server
    return tf.cast(rate, change.dtype) * change


class RsaProcess(tff.templates.IterativeProcess):
  """`next(server_state, client_states, client_data)` of RSA."""

  def initial_client_state(self, server_state) -> collections.OrderedDict:
    """State of a worker that has not taken part yet: it starts from x_0."""
    x_0 = server_state.global_model_weights
    parts = {"model": list(x_0.trainable), "statistics": list(x_0.non_trainable)}
    return collections.OrderedDict(parts)

  def get_model_weights(self, server_state) -> tff.learning.models.ModelWeights:
    """x_0; its moving statistics are those of the initial model."""
    return server_state.global_model_weights

  def client_weights(self, server_state, client_state):
    """x_i as `ModelWeights`, with the worker's own moving statistics."""
    del server_state
    own, statistics = client_state["model"], client_state["statistics"]
    return tff.learning.models.ModelWeights(own, statistics)


def build_rsa(
  model_fn: Callable[[], tff.learning.models.VariableModel],
  *,
  penalty: float = 0.07,
  weight_decay: float = 0.01,
  step_size: float = 0.001,
  gradient_scale: float = 1.0,
  dataset_computation: tff.Computation | None = None,
  initial_weights: tff.learning.models.ModelWeights | None = None,
) -> RsaProcess:
  """Builds training in which the l1 penalty alone ties workers and server together.

  One round: each worker steps once for every batch of its dataset,
  x_i <- x_i - alpha_t (c grad F_i(x_i) + lambda sign(x_i - x_0)), and sends x_i; then
  x_0 <- x_0 - alpha_t (lambda sum_i sign(x_0 - x_i) + mu x_0). Only signs count: no
  model that a worker holds moves a parameter of x_0 by more than alpha_t lambda. Signs
  need only be summed, never stacked: the server's memory does not grow by n models.

  Args:
    model_fn: Makes a `tff.learning.models.VariableModel`.
    penalty: lambda > 0. Authors: 0.07 (their code for heterogeneous data: 0.5).
    weight_decay: mu >= 0, on the server's model alone. Authors: 0.01.
    step_size: > 0; alpha_t is it / sqrt(t). Authors: 0.001 (heterogeneous: 0.0005).
    gradient_scale: c in (0, 1]. 1: the paper's objective, a plain sum of the F_i.
      1 / n: the authors' code, whose settings were chosen with it (n = 20); the same
      as c = 1 with step_size / n, n penalty and n weight_decay.
    dataset_computation: Maps what `next` receives for a client to its dataset; None:
      `next` receives the datasets.
    initial_weights: The common model that all start from; None: what `model_fn` makes.

  Returns:
    A process with next(server_state, client_states, client_data) -> (server_state,
    client_states, metrics). Client states come and go in the order of the clients; make
    the first with `initial_client_state`. Metrics as in `build_fed_avg`; `aggregator`
    holds weight [n], 1 / k for each of k voters; step, alpha_t; num_rejected.

  Raises:
    ValueError: a setting is outside its range, or `initial_weights` does not fit.
    TypeError: `dataset_computation` does not make the model's batches.

  Deviations: the original takes one random batch a round; here each batch of the
    dataset is a step, all with the same alpha_t and x_0. As in the authors' code the
    server sees x_i after the worker's steps; in the paper both sides step from the
    round before. The sum runs over the workers that take part; in the paper all do.
    A worker whose model or statistics are not finite has no vote and keeps its old
    state; without any vote x_0 stays. Moving statistics (BatchNorm) stay with the
    worker; the paper does not speak of them. Signs are taken on the client's side of
    the sum; where clients may run other code, clip what arrives to [-1, 1].
  """
  steps = RsaSteps(penalty, weight_decay, step_size, gradient_scale)
  inputs = ClientInputs(model_fn, dataset_computation)
  weights = initial_weights or client_work.initial_weights(model_fn)
  weights_type = tff.learning.models.weights_type_from_model(model_fn)
  process = _build_server(steps, weights_type.trainable)
  init_fn = server_work.initial_state(process, weights, weights_type)
  work = _build_worker(model_fn, steps, inputs, weights_type)
  state_type = work.type_signature.parameter[2]

  @tff.federated_computation(
    init_fn.type_signature.result,
    tff.FederatedType(state_type, tff.CLIENTS),
    tff.FederatedType(inputs.type, tff.CLIENTS),
  )
  def next_fn(state, client_states, client_data):
    weights = state.global_model_weights
    server = tff.federated_zip((state.client_work, weights.trainable))
    sent = tff.federated_broadcast(server)
    results = tff.federated_map(work, (sent[0], sent[1], client_states, client_data))
    info = inputs.info(client_data, results.report)
    ballots = (results.votes, results.counts, info)
    aggregated = process.next(state.aggregator, server, *ballots)
    ended = (aggregated, weights.non_trainable, results.report)
    new_state, metrics = server_work.finish_round(state, *ended)
    return new_state, results.state, metrics

  return RsaProcess(init_fn, next_fn)


class _PulledWork:
  """Takes RSA's step where `ClientWork` has an optimizer take one."""

  local_epochs = 1

  def __init__(self, steps: RsaSteps, server):
    self._steps, self._server = steps, server

  def start(self, trainable, round_number):
    del trainable
    return self._steps.rate(round_number)

  def step(self, rate, trainable, gradients):
    for own, server, gradient in zip(trainable, self._server, gradients, strict=True):
      own.assign_sub(self._steps.worker_change(own, server, gradient, rate))
    return rate


def _build_worker(model_fn, steps, inputs, weights_type):
  """(round, x_0, client state, input) -> votes, counts, state, report."""
  own, statistics = weights_type.trainable, weights_type.non_trainable
  state_type = collections.OrderedDict(model=own, statistics=statistics)

  @tff.tensorflow.computation(np.int32, weights_type.trainable, state_type, inputs.type)
  def work(round_number, server, client_state, client):
    model = model_fn()

    @tf.function
    def run(round_number, server, client_state, dataset):
      started = tf.timestamp()
      train = client_work.build_train_fn(model, _PulledWork(steps, server))
      old = list(client_state["model"]), list(client_state["statistics"])
      weights = tff.learning.models.ModelWeights(*old)
      _, statistics, report = train(weights, dataset, round_number)
      own = [variable.read_value() for variable in model.trainable_variables]
      votes, *rest = _cast_vote(server, old, (own, list(statistics)))
      report.update(started=started, finished=client_work.time_after(votes))
      return votes, *rest, report

    result = run(round_number, list(server), client_state, inputs.dataset(client))
    return collections.OrderedDict(zip(_RESULT, result, strict=True))

  return work


def _cast_vote(server, old, new):
  """sign(x_0 - x_i), whether it counts [1], and the state that the worker keeps."""
  counts = rows.all_finite(new)
  pairs = zip(server, new[0], strict=True)
  votes = [tf.where(counts, tf.sign(x_0 - x_i), 0) for x_0, x_i in pairs]
  kept = tf.nest.map_structure(lambda n, o: tf.where(counts, n, o), new, old)
  state = collections.OrderedDict(model=kept[0], statistics=kept[1])
  return votes, tf.cast(counts, tf.float32)[tf.newaxis], state


def _build_server(steps, model_type) -> tff.templates.MeasuredProcess:
  """next(state, (round, x_0)@SERVER, votes, counts, info) -> what x_0 loses."""
  counts_type = tff.TensorType(np.float32, [1])
  server_type = tff.to_type((np.int32, model_type))

  @tff.tensorflow.computation(server_type, model_type, stacking.stack_type(counts_type))
  def step(server, votes, stack):
    rate, counts = steps.rate(server[0]), stack["updates"][:, 0]
    total = tf.reduce_sum(counts)
    weight = tf.math.divide_no_nan(counts, total)
    rejected = tf.math.count_nonzero(tf.equal(counts, 0), dtype=tf.int32)
    pairs = zip(server[1], votes, strict=True)
    changes = [steps.server_change(*pair, rate) for pair in pairs]
    change = [tf.where(total > 0, x, 0) for x in changes]
    measured = (("weight", weight), ("step", rate), ("num_rejected", rejected))
    return change, collections.OrderedDict(measured)

  init_fn = tff.federated_computation(lambda: tff.federated_value((), tff.SERVER))

  @tff.federated_computation(
    init_fn.type_signature.result,
    tff.FederatedType(server_type, tff.SERVER),
    tff.FederatedType(model_type, tff.CLIENTS),
    tff.FederatedType(counts_type, tff.CLIENTS),
    tff.FederatedType(base.INFO_TYPE, tff.CLIENTS),
  )
  def next_fn(state, server, votes, counts, info):
    stack = stacking.federated_stack(counts, info, counts_type)
    change = tff.federated_map(step, (server, tff.federated_sum(votes), stack))
    return tff.templates.MeasuredProcessOutput(state, change[0], change[1])

  return base.measured_process(init_fn, next_fn)
