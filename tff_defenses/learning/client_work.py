"""What one client does in a round: train the received model on its own data.

TFF's stock client work replaces a non-finite update by zeros, and an unweighted rule
would count that as a vote; ours leaves it for the aggregator to reject. It also returns
the non-trainable variables (BatchNorm statistics), which TFF's leaves at the server.
"""

import collections
import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import checks

RATE = tff.learning.optimizers.LEARNING_RATE_KEY


@dataclasses.dataclass(frozen=True)
class ClientWork:
  """How clients train.

  Args:
    optimizer: A `tff.learning.optimizers.Optimizer`; its state is new every round.
    local_epochs: How often a client's dataset is gone through, >= 1. A dataset that
      shuffles by a fixed seed repeats its order: let such a dataset hold its epochs
      itself and leave this at 1.
    rate_decay: Round t (from 1) trains with learning rate * rate_decay**(t - 1).
      FL-PLAS: 0.998.
  Raises:
    ValueError: a number is outside its range, or the optimizer has no learning rate.
    TypeError: not a TFF optimizer.
  """

  optimizer: tff.learning.optimizers.Optimizer
  local_epochs: int = 1
  rate_decay: float = 1.0

  def __post_init__(self):
    if not isinstance(self.optimizer, tff.learning.optimizers.Optimizer):
      raise TypeError(
        "ClientWork: `client_optimizer` must be a tff.learning.optimizers.Optimizer, "
        f"got {type(self.optimizer).__name__}. Use for example "
        "tff.learning.optimizers.build_sgdm(0.01)."
      )
    checks.check_at_least("ClientWork", "local_epochs", "E", self.local_epochs, 1)
    if not 0 < self.rate_decay <= 1:
      raise ValueError(
        f"ClientWork: `rate_decay` must be in (0, 1], got {self.rate_decay!r}. "
        "1.0 keeps the learning rate."
      )
    if self.rate_decay != 1 and RATE not in _hparams(self.optimizer):
      raise ValueError(
        "ClientWork: `rate_decay` needs an optimizer with a learning rate, got "
        f"{type(self.optimizer).__name__}. Leave the decay at 1.0."
      )

  def start(self, trainable, round_number):
    """Optimizer state for a new round; `round_number` [] int32 counts from 1."""
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in trainable]
    state = self.optimizer.initialize(tuple(specs))
    if self.rate_decay == 1:
      return state
    passed = tf.cast(round_number - 1, tf.float32)
    hparams = _hparams(self.optimizer)
    hparams[RATE] = hparams[RATE] * tf.pow(np.float32(self.rate_decay), passed)
    return self.optimizer.set_hparams(state, hparams)

  def step(self, state, trainable, gradients):
    """One optimizer step on variables; returns the new state."""
    weights = tuple(variable.read_value() for variable in trainable)
    state, stepped = self.optimizer.next(state, weights, tuple(gradients))
    for variable, value in zip(trainable, stepped, strict=True):
      variable.assign(value)
    return state


def _hparams(optimizer):
  state = optimizer.initialize(tf.TensorSpec([], tf.float32))
  return collections.OrderedDict(optimizer.get_hparams(state))


def build_train_fn(model: tff.learning.models.VariableModel, work: ClientWork):
  """Builds the training of one client, a `tf.function`.

  Args:
    model: Made inside the graph that will run the function.
    work: How to train.

  Returns:
    train(weights, dataset, round_number) -> (update, statistics, report): update is
    initial minus trained (TFF's sign), a list in model order; statistics are the
    non-trainable variables after training; report holds `num_seen`, the images trained
    on, `loss_sum`, the loss summed over them, and `num_examples`, `num_seen` over
    `local_epochs`: the client's weight where examples weigh. Batches that the dataset
    drops do not count, epochs that it holds itself do.
  """
  trainable = list(model.trainable_variables)
  non_trainable = list(model.non_trainable_variables)

  @tf.function
  def train(weights, dataset, round_number):
    assign(model, weights)
    state = work.start(trainable, round_number)
    seen, loss_sum = tf.constant(0, tf.int64), tf.constant(0.0)
    # An iterator: autograph's loop over a dataset is slower by almost a half.
    for batch in iter(dataset.repeat(work.local_epochs)):
      with tf.GradientTape() as tape:
        output = model.forward_pass(batch, training=True)
      state = work.step(state, trainable, tape.gradient(output.loss, trainable))
      count = num_examples_in(output)
      seen += count
      loss_sum += tf.cast(output.loss, tf.float32) * tf.cast(count, tf.float32)
    update = [w - v for w, v in zip(weights.trainable, trainable, strict=True)]
    report = collections.OrderedDict(
      loss_sum=loss_sum,
      num_seen=tf.cast(seen, tf.float32),
      num_examples=tf.cast(seen, tf.float32) / work.local_epochs,
    )
    return update, [v.read_value() for v in non_trainable], report

  return train


def assign(model, weights: tff.learning.models.ModelWeights) -> None:
  """Sets a model's variables; lists and tuples of weights alike."""
  own = tff.learning.models.ModelWeights.from_model(model)
  pairs = zip(tf.nest.flatten(own), tf.nest.flatten(weights), strict=True)
  for variable, value in pairs:
    variable.assign(value)


def time_after(tensors) -> tf.Tensor:
  """Seconds since 1970, float64, read once the tensors are computed."""
  with tf.control_dependencies(list(tensors)):
    return tf.timestamp()


def num_examples_in(output: tff.learning.models.BatchOutput) -> tf.Tensor:
  """Images in a batch, int64."""
  if output.num_examples is None:
    return tf.shape(output.predictions, out_type=tf.int64)[0]
  return tf.cast(output.num_examples, tf.int64)


def dataset_type(model_fn: Callable) -> tff.SequenceType:
  """The type of a client's dataset of batches, as the model reads them."""
  with tf.Graph().as_default():
    return tff.SequenceType(tff.types.tensorflow_to_type(model_fn().input_spec))


def initial_weights(model_fn: Callable) -> tff.learning.models.ModelWeights:
  """A fresh model's weights as NumPy arrays, built outside TFF's runtime."""
  graph = tf.Graph()
  with graph.as_default():
    weights = tff.learning.models.ModelWeights.from_model(model_fn())
    variables = tf.nest.flatten(weights)
    values = [variable.read_value() for variable in variables]
    initialise = tf.compat.v1.variables_initializer(variables)
  with tf.compat.v1.Session(graph=graph) as session:
    session.run(initialise)
    arrays = session.run(values)
  return tf.nest.pack_sequence_as(weights, arrays)
