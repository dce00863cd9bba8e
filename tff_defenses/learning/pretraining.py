"""FLARE's start: the server trains the first global model on its auxiliary data.

Reference: FLARE Sec. 5.2, first difference to the traditional system.
"""

import collections
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import checks
from tff_defenses.learning import client_work


def pretrain(*args, **settings) -> tff.learning.models.ModelWeights:
  """Runs `build_pretraining(*args, **settings)`.

  Returns:
    `ModelWeights` of arrays, for `initial_weights` of `build_fed_avg`.
  """
  return build_pretraining(*args, **settings)()


def build_pretraining(
  model_fn: Callable,
  images: np.ndarray,
  labels: np.ndarray,
  optimizer: tff.learning.optimizers.Optimizer,
  *,
  epochs: int,
  batch_size: int = 32,
  initial_weights: tff.learning.models.ModelWeights | None = None,
) -> tff.Computation:
  """Builds the training on the auxiliary data, in their given order: -> `ModelWeights`.

  Args:
    model_fn: Makes a `tff.learning.models.VariableModel` for {x, y} batches.
    images: D, [m, H, W, C], pixels in 0..255.
    labels: [m].
    optimizer: The clients'.
    epochs: Passes over D. The paper gives no number; the presets take E.
    batch_size: Images a step.
    initial_weights: Start; None: what `model_fn` makes.

  Raises:
    ValueError: `epochs` is no whole number >= 1, or images and labels differ in number.
  """
  checks.check_at_least("pretrain", "epochs", "passes over D", epochs, 1)
  if len(images) != len(labels) or not len(images):
    raise ValueError(
      "pretrain: `images` and `labels` (D) must be as many, and one at least, got "
      f"{len(images)} and {len(labels)}. Give every image its label."
    )
  data = collections.OrderedDict(
    x=np.asarray(images, np.float32), y=np.asarray(labels, np.int32)
  )
  work = client_work.ClientWork(optimizer, local_epochs=epochs)
  start = initial_weights or client_work.initial_weights(model_fn)

  @tff.tensorflow.computation
  def train_on_aux():
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(batch_size)
    model = model_fn()
    train = client_work.build_train_fn(model, work)
    update, statistics, _ = train(
      tf.nest.map_structure(tf.constant, start), dataset, tf.constant(1)
    )
    trainable = [w - u for w, u in zip(start.trainable, update, strict=True)]
    return tff.learning.models.ModelWeights(trainable, list(statistics))

  return train_on_aux
