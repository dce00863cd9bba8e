"""A model's weights in an .npz file: one array a variable, called as the variable is.

The names are "layer/kind", for example "conv1/kernel"; `names_of` lists a model's.
"""

import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tff_defenses.experiments import whole_files
from tff_defenses.experiments.errors import DataError

_UNREADABLE = (  # TypeError: NumPy's array, not an archive, under the name of one
  *(OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error),
)


def names_of(keras_model: tf.keras.Model) -> list[str]:
  """Names of the arrays: trainable variables in model order, then moving statistics."""
  names = [*split.trainable_names(keras_model), *split.non_trainable_names(keras_model)]
  return [_plain(name) for name in names]


def save(
  path: str | os.PathLike,
  weights: tff.learning.models.ModelWeights,
  keras_fn: Callable[[], tf.keras.Model],
  **more: np.ndarray,
) -> None:
  """Writes weights so that `pretrained_file` can read them.

  The file appears complete or not at all.

  Args:
    path: Ends with ".npz"; its folder is made if absent.
    weights: Of the model, for example `state.global_model_weights` of a learning
      process or `tff.learning.models.ModelWeights.from_model(keras_model)`.
    keras_fn: Makes the model, for example `MODELS["lenet"].build`.
    **more: Further arrays, under names that no variable has.

  Raises:
    ValueError: `path` does not end with ".npz", or the weights are another model's.
  """
  path = pathlib.Path(path)
  if path.suffix != ".npz":
    raise ValueError(f"save: `path` must end with .npz, got {path}. Rename the file.")
  arrays = [np.asarray(x) for x in (*weights.trainable, *weights.non_trainable)]
  model = keras_fn()
  named = dict(zip(names_of(model), arrays, strict=False))
  faults = _faults(named, _shapes(model))
  if faults or len(named) != len(arrays):
    raise ValueError(
      f"save: `weights` must be those of the model {model.name!r}, got others: "
      f"{'; '.join(faults) or 'another number of arrays'}. Pass the function that made "
      "the model."
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  with whole_files.replacing(path) as file:
    np.savez(file, **named, **more)


def load(
  path: str | os.PathLike, keras_fn: Callable[[], tf.keras.Model]
) -> tff.learning.models.ModelWeights:
  """Reads what `save` wrote, or any .npz file with the model's arrays.

  Args:
    path: The file. Array names may end with ":0" as Keras's do; others are ignored.
    keras_fn: Makes the model.

  Raises:
    DataError: the file cannot be read, lacks a variable of the model, holds one of
      another shape or one that is not finite. Names all of them.
  """
  model = keras_fn()
  try:
    with np.load(path) as file:
      found = {_plain(name): file[name] for name in file.files}
  except _UNREADABLE as error:
    raise DataError(
      f"load: {path} must be an .npz file of a model's weights: {error}. "
      "`weight_files.save` writes one."
    ) from error
  faults = _faults(found, _shapes(model))
  if faults:
    raise DataError(
      f"load: {path} must hold the weights of {model.name!r}, and does not: "
      f"{'; '.join(faults)}. `weight_files.names_of(model)` lists the names."
    )
  arrays = [np.asarray(found[name], np.float32) for name in names_of(model)]
  trained = len(model.trainable_variables)
  return tff.learning.models.ModelWeights(arrays[:trained], arrays[trained:])


def _plain(name):
  return name.removesuffix(":0")


def _shapes(model):
  variables = [*model.trainable_variables, *model.non_trainable_variables]
  return {
    name: tuple(v.shape) for name, v in zip(names_of(model), variables, strict=True)
  }


def _faults(found, shapes):
  """What is missing or does not fit, a phrase each."""
  missing = [name for name in shapes if name not in found]
  faults = [f"{', '.join(missing)} missing"] if missing else []
  for name, shape in shapes.items():
    if name not in found:
      continue
    array = found[name]
    if array.shape != shape:
      faults.append(f"{name} must have shape {shape}, got {array.shape}")
    elif array.dtype.kind not in "fiu" or not np.isfinite(array).all():
      faults.append(f"{name} must hold finite numbers")
  return faults
