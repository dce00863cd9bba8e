"""Models by layer: which layers FL-PLAS shares, and what FLARE reads in the middle.

References: FL-PLAS Sec. 5.2, Eq. (6)-(8): shared layers (feature extractor) and private
layers (classifier). FLARE Sec. 4.1: penultimate layer representations (PLR).
Symbols: m images, o width of the layer.

Layers are selected by name, never by the index of a tensor.
"""

import collections
import fnmatch
import inspect
import re
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from models import plr, pure_forward


def layer_of(variable_name: str) -> str:
  """Layer a Keras variable belongs to.

  >>> layer_of("conv1/kernel:0")
  'conv1'
  """
  return variable_name.split("/", 1)[0]


def trainable_names(keras_model: tf.keras.Model) -> list[str]:
  """Names of the trainable variables in model order, each starting with its layer.

  Prefer this to `variable.name`: within one graph a second model's variables are
  called "conv1_1/kernel:0", and those of a nested model carry the inner layer's name.
  """
  return _names_by_layer(keras_model, keras_model.trainable_variables)


def non_trainable_names(keras_model: tf.keras.Model) -> list[str]:
  """Like `trainable_names`, of BatchNorm's moving statistics."""
  return _names_by_layer(keras_model, keras_model.non_trainable_variables)


def is_shared(
  variable_names: Sequence[str], shared_layers: Sequence[str]
) -> list[bool]:
  """Which variables lie in shared layers (FL-PLAS Eq. 6).

  Patterns are those of `fnmatch` with one addition: a `*` after a digit does not
  continue the number, so "block1*" selects `block1_dw_conv` and not `block10_dw_conv`.
  "*" selects all layers: then nothing is private and FL-PLAS is FedAvg.

  Args:
    variable_names: as `trainable_names` gives them.
    shared_layers: layer names or patterns.

  Returns:
    One bool a variable.

  Raises:
    ValueError: a pattern selects nothing, or there is no pattern.

  >>> is_shared(["conv1/kernel:0", "classifier/bias:0"], ["conv*"])
  [True, False]
  """
  if isinstance(shared_layers, str):
    shared_layers = [shared_layers]
  layers = [layer_of(name) for name in variable_names]
  if not shared_layers or not layers:
    raise ValueError(
      "is_shared: `shared_layers` (FL-PLAS Eq. 6) must select at least one layer, got "
      f"{tuple(shared_layers)} on {len(layers)} variables. With nothing shared clients "
      "learn nothing from each other."
    )
  for pattern in shared_layers:
    if not any(_matches(layer, pattern) for layer in layers):
      raise ValueError(
        "is_shared: each pattern of `shared_layers` must match a layer with "
        f"variables, got {pattern!r}. "
        f"{pure_forward.nearest(pattern, list(dict.fromkeys(layers)))}"
      )
  return [any(_matches(layer, p) for p in shared_layers) for layer in layers]


def make_model_fn(
  keras_fn: Callable[[], tf.keras.Model],
  *,
  loss: tf.keras.losses.Loss | None = None,
) -> Callable:
  """Makes TFF's `model_fn` from a function that builds a Keras model.

  Args:
    keras_fn: no-argument function; a new model each call, such as
      `functools.partial(MODELS["lenet"].build, seed=1)`.
    loss: of (labels, logits). Default: sparse categorical cross-entropy from logits.

  Returns:
    No-argument function -> `tff.learning.models.VariableModel` for batches
    {x: float32 [None, H, W, C] in 0..255, y: int32 [None]}. Its attribute `keras_fn`
    is the argument, by which `plr_fn` finds the layers.

  Raises:
    TypeError: `keras_fn` cannot be called without arguments.
  """
  _check_no_arguments("make_model_fn", "keras_fn", keras_fn)
  if loss is None:
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

  def model_fn():
    import tensorflow_federated as tff  # 12 s to import: only who trains pays it

    model = keras_fn()
    images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)
    labels = tf.TensorSpec([None], tf.int32)
    with warnings.catch_warnings():
      # TFF warns that it leaves BatchNorm's statistics at the server; our client work
      # carries them.
      warnings.filterwarnings("ignore", message="Batch Normalization contains")
      return tff.learning.models.from_keras_model(
        model, loss=loss, input_spec=collections.OrderedDict(x=images, y=labels)
      )

  model_fn.keras_fn = keras_fn
  return model_fn


def plr_fn(
  model_fn: Callable, images: np.ndarray, layer: str = "penultimate"
) -> plr.PlrFn:
  """Makes FLARE's PLR function: a model's weights -> its representations of D.

  Args:
    model_fn: function without arguments that returns a Keras model, or one made by
      `make_model_fn`. First called when the result is first used.
    images: [m, H, W, C], pixels 0..255: the auxiliary data D.
    layer: name of the layer whose output is the representation.

  Returns:
    A `models.plr.PlrFn`: `plr(weights)` -> [m, o] float32.

  Raises:
    TypeError: `model_fn` is neither of the two.
    ValueError: `images` has no image or another rank; at first use: the model has no
      such layer, takes images of another shape, or has frozen layers that are drawn
      anew in each build.
  """
  if isinstance(model_fn, tf.keras.Model):
    raise TypeError(
      "plr_fn: `model_fn` must be a function without arguments, got a Keras model. "
      "Pass `lambda: model`."
    )
  keras_fn = getattr(model_fn, "keras_fn", model_fn)
  _check_no_arguments("plr_fn", "model_fn", keras_fn)
  images = np.asarray(images, np.float32)
  if images.ndim != 4 or len(images) < 1:
    raise ValueError(
      "plr_fn: `images` (D, FLARE Sec. 4.1) must be [m, H, W, C] with m >= 1, got "
      f"shape {images.shape}. Add the channel axis to grey images."
    )
  return plr.PlrFn(keras_fn, images, layer)


def split_forward(
  keras_model: tf.keras.Model, shared_layers: Sequence[str]
) -> tuple[tf.keras.Model, tf.keras.Model]:
  """Cuts a model where the shared layers end (FL-PLAS Eq. 6).

  The shared features of an image are the same for all clients; computed once, each
  client's private layers finish them.

  Args:
    keras_model: functional or sequential model.
    shared_layers: patterns as in `is_shared`.

  Returns:
    (features, classify), Keras models on the same variables: features(images), then
    classify(features) gives the model's logits, in inference mode unless called with
    `training=True`. Variable-free layers between the two sides go to `features`.

  Raises:
    ValueError: nothing is private, or no single tensor separates the two sides.
  """
  names = trainable_names(keras_model)
  flags = is_shared(names, shared_layers)
  private = {
    layer_of(name) for name, shared in zip(names, flags, strict=True) if not shared
  }
  shared = {layer_of(name) for name in names} - private
  if not private:
    raise ValueError(
      "split_forward: `shared_layers` must leave a private layer, got "
      f"{tuple(shared_layers)}, which selects all. Use the whole model instead."
    )
  first = next(layer for layer in keras_model.layers if layer.name in private)
  for boundary in _boundaries(keras_model, first):
    try:
      classify = tf.keras.Model(boundary, keras_model.outputs)
    except ValueError:  # Keras: graph disconnected, another path goes around
      continue
    features = tf.keras.Model(keras_model.inputs, boundary)
    if not (_names(features) & private or _names(classify) & shared):
      return features, classify
  raise ValueError(
    "split_forward: `shared_layers` must end at one place in the chain of layers, got "
    f"{tuple(shared_layers)}; the first private layer is {first.name!r}. Share every "
    "layer before it and none after."
  )


def _names_by_layer(keras_model, variables):
  owner = {id(v): layer.name for layer in keras_model.layers for v in layer.variables}
  return [f"{owner[id(v)]}/{v.name.rsplit('/', 1)[-1]}" for v in variables]


def _boundaries(model, first):
  """The tensor before `first`, then earlier ones across layers without variables."""
  producers = {id(layer.get_output_at(0)): layer for layer in model.layers}
  tensor = first.get_input_at(0)
  while not isinstance(tensor, list):
    yield tensor
    layer = producers.get(id(tensor))
    if layer is None or layer.weights or layer.get_input_at(0) is tensor:
      return
    tensor = layer.get_input_at(0)


def _names(model) -> set[str]:
  return {layer.name for layer in model.layers}


def _matches(layer: str, pattern: str) -> bool:
  if re.search(r"\d\*$", pattern):
    stem = pattern[:-1]
    return any(fnmatch.fnmatchcase(layer, p) for p in (stem, f"{stem}[!0-9]*"))
  return fnmatch.fnmatchcase(layer, pattern)


def _check_no_arguments(who: str, name: str, function) -> None:
  try:
    inspect.signature(function).bind()
  except (TypeError, ValueError) as error:
    raise TypeError(
      f"{who}: `{name}` must be a function without arguments that returns a Keras "
      f"model, got {function!r}. Wrap the builder with functools.partial or a lambda."
    ) from error
