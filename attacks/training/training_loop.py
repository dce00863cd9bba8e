"""What all training attacks do: steps of the client's optimizer on a loss of their own.

Symbols: theta global weights, w the attacker's, CE cross-entropy.
"""

from collections.abc import Callable

import tensorflow as tf
import tensorflow_federated as tff


class TrainingLoop:
  """Trains one model's variables as an honest client does, but for the loss.

  Attributes:
    model: The model.
    work: The honest clients' `ClientWork`: its optimizer, its number of epochs.
    variables: The model's trainable variables, w.
  """

  def __init__(self, model: tff.learning.models.VariableModel, work):
    self.model = model
    self.work = work
    self.variables = list(model.trainable_variables)

  def set(self, non_trainable, trainable) -> None:
    """Sets all of the model's variables."""
    self.assign(trainable)
    own = self.model.non_trainable_variables
    for variable, value in zip(own, non_trainable, strict=True):
      variable.assign(value)

  def assign(self, trainable) -> None:
    """Sets the trainable variables."""
    for variable, value in zip(self.variables, trainable, strict=True):
      variable.assign(value)

  def start(self, round_number):
    """A new optimizer state."""
    return self.work.start(self.variables, round_number)

  def loss(self, batch):
    """CE(batch), in training mode."""
    return self.model.forward_pass(batch, training=True).loss

  def step(self, state, loss_fn: Callable):
    """One optimizer step on `loss_fn()`; returns the new state."""
    with tf.GradientTape() as tape:
      loss = loss_fn()
    gradients = tape.gradient(loss, self.variables)
    return self.work.step(state, self.variables, gradients)

  def train(self, weights, dataset, round_number, loss_fn: Callable) -> None:
    """From `weights`, as many passes as an honest client makes, on `loss_fn(batch)`."""
    self.set(weights.non_trainable, weights.trainable)
    state = self.start(round_number)
    for batch in iter(dataset.repeat(self.work.local_epochs)):
      state = self.step(state, lambda b=batch: loss_fn(b))

  def update(self, theta) -> list:
    """theta - w: initial minus trained, TFF's sign."""
    return [w - v for w, v in zip(theta, self.variables, strict=True)]

  def statistics(self) -> list:
    """The non-trainable variables."""
    return [v.read_value() for v in self.model.non_trainable_variables]


def check(who: str, ok: bool, name: str, rule: str, value) -> None:
  """Raises ValueError that names the setting unless `ok`."""
  if not ok:
    raise ValueError(f"{who}: `{name}` must be {rule}, got {value!r}.")
