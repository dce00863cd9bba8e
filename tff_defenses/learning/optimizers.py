"""Client optimizers that TFF lacks."""

import tensorflow as tf
import tensorflow_federated as tff


class CoupledWeightDecay(tff.learning.optimizers.Optimizer):
  """Adds `weight_decay` * w to the gradient, then steps with another optimizer.

  That is PyTorch's SGD with weight decay, which FL-PLAS uses on all variables. TFF's
  adamw decouples the decay from the gradient, and its sgdm has none.

  Args:
    optimizer: Takes the step.
    weight_decay: >= 0. FL-PLAS Table 3: 1e-4.
  Raises:
    ValueError: `weight_decay` is negative.
  """

  def __init__(self, optimizer: tff.learning.optimizers.Optimizer, weight_decay: float):
    if not weight_decay >= 0:
      raise ValueError(
        f"CoupledWeightDecay: `weight_decay` must be >= 0, got {weight_decay!r}."
      )
    self._optimizer = optimizer
    self._weight_decay = weight_decay

  def initialize(self, specs):
    return self._optimizer.initialize(specs)

  def next(self, state, weights, gradients):
    # A variable without a gradient stays as it is, as in PyTorch and TFF.
    decayed = tf.nest.map_structure(
      lambda g, w: None if g is None else g + self._weight_decay * w, gradients, weights
    )
    return self._optimizer.next(state, weights, decayed)

  def get_hparams(self, state):
    return self._optimizer.get_hparams(state)

  def set_hparams(self, state, hparams):
    return self._optimizer.set_hparams(state, hparams)


def build_client_optimizer(
  name: str, learning_rate: float, momentum: float = 0.0, weight_decay: float = 0.0
) -> tff.learning.optimizers.Optimizer:
  """Makes the clients' optimizer from plain settings.

  Args:
    name: "adam" (FLARE) or "sgd" (FL-PLAS).
    learning_rate: > 0.
    momentum: Of SGD, in [0, 1].
    weight_decay: Coupled, >= 0.

  Raises:
    ValueError: an unknown name.
  """
  if name == "adam":
    optimizer = tff.learning.optimizers.build_adam(learning_rate)
  elif name == "sgd":
    optimizer = tff.learning.optimizers.build_sgdm(learning_rate, momentum or None)
  else:
    raise ValueError(
      f"build_client_optimizer: `name` must be 'adam' or 'sgd', got {name!r}."
    )
  return CoupledWeightDecay(optimizer, weight_decay) if weight_decay else optimizer
