"""Predictions of the global model, or of many clients' models, in the driver.

The server model needs no federated computation: plain Keras is faster.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from models import split

NO_CLASS = -1  # what a model predicts whose outputs are not finite
_CHUNK = 2_000  # images whose features are held at a time: LeNet's take 37 kB each


def classes(outputs: np.ndarray) -> np.ndarray:
  """The largest output's class, or `NO_CLASS`; [N, c] -> [N] int32.

  A broken model predicts nothing: plain argmax would have it say class 0, which is the
  target of most backdoors.

  >>> classes(np.array([[0.0, 2.0], [np.nan, np.nan]])).tolist()
  [1, -1]
  """
  finite = np.isfinite(outputs).all(axis=1)
  return np.where(finite, np.argmax(outputs, axis=1), NO_CLASS).astype(np.int32)


class Evaluator:
  """One Keras model that takes other weights for each evaluation.

  Args:
    keras_fn: Makes the model; images are [H, W, C] with pixels in 0..255, its outputs
      are logits.
    shared_layers: FL-PLAS's cut, for `predict_clients`.
    batch_size: Images a forward pass.
  """

  def __init__(
    self,
    keras_fn: Callable[[], tf.keras.Model],
    shared_layers: Sequence[str] | None = None,
    batch_size: int = 250,
  ):
    self._model = keras_fn()
    self._batch_size = batch_size
    self._forward = _traced_once(self._model)
    self._split = None
    names = split.trainable_names(self._model)
    whole = shared_layers is None or all(split.is_shared(names, shared_layers))
    # Statistics of its own in each client's extractor mean features of its own.
    if not whole and not self._model.non_trainable_variables:
      parts = split.split_forward(self._model, shared_layers)
      self._split = [_traced_once(part) for part in parts]

  def probabilities(self, weights, images: np.ndarray) -> np.ndarray:
    """Softmax of the logits; `ModelWeights` and [N, H, W, C] -> [N, c] float32."""
    self._assign(weights)
    return tf.nn.softmax(self._map(self._forward, images)).numpy()

  def predict(self, weights, images: np.ndarray) -> np.ndarray:
    """What `classes` says; `ModelWeights` and [N, H, W, C] -> [N] int32."""
    self._assign(weights)
    return classes(self._map(self._forward, images))

  def predict_clients(self, all_weights: Sequence, images: np.ndarray) -> np.ndarray:
    """Predicted classes of many clients' models that share a feature extractor.

    The shared features are computed once, unless moving statistics differ by client.

    Args:
      all_weights: `ModelWeights` of each client; their shared layers are equal.
      images: [N, H, W, C].

    Returns:
      [clients, N] int32.
    """
    if self._split is None:
      return np.stack([self.predict(weights, images) for weights in all_weights])
    features_of, classify = self._split
    chunks = []
    for first in range(0, len(images), _CHUNK):
      self._assign(all_weights[0])
      features = self._map(features_of, images[first : first + _CHUNK])
      chunk = []
      for weights in all_weights:
        self._assign(weights)
        chunk.append(classes(self._map(classify, features)))
      chunks.append(np.stack(chunk))
    return np.concatenate(chunks, axis=1)

  def classifier_kernel(self, weights, layer: str = "classifier") -> np.ndarray:
    """Templates of the classes, the output layer's kernel, [o, c]."""
    self._assign(weights)
    return self._model.get_layer(layer).kernel.numpy()

  def _map(self, function, inputs) -> np.ndarray:
    """Applies a function to batches of rows."""
    parts = [
      function(tf.cast(inputs[first : first + self._batch_size], tf.float32)).numpy()
      for first in range(0, len(inputs), self._batch_size)
    ]
    return np.concatenate(parts)

  def _assign(self, weights) -> None:
    variables = [*self._model.trainable_variables, *self._model.non_trainable_variables]
    values = [*weights.trainable, *weights.non_trainable]
    for variable, value in zip(variables, values, strict=True):
      variable.assign(value)


def _traced_once(model: tf.keras.Model):
  """A model's forward pass in inference mode, for batches of any size."""
  spec = tf.TensorSpec(model.input_shape, tf.float32)
  return tf.function(lambda x: model(x, training=False), input_signature=[spec])
