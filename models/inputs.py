"""The first layers of every model: raw pixels in, scaled pixels out.

Pixels are 0..255 everywhere outside the models. Scaling is a layer without variables
(its numbers are constants of the graph), so that nothing of it is ever trained,
averaged, attacked or counted as a parameter.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from models import MODELS


@dataclasses.dataclass(frozen=True)
class Normalisation:
  """`(pixel / 255 - mean) / stddev`, one number or one a channel."""

  mean: float | tuple[float, ...]
  stddev: float | tuple[float, ...]
  source: str

  @property
  def num_channels(self) -> int | None:
    """Channels it is made for; None: any."""
    return len(self.mean) if isinstance(self.mean, tuple) else None


_CIFAR_MEAN = (0.4914, 0.4822, 0.4465)

NORMALISATIONS = {
  "unit": Normalisation(0.0, 1.0, "FLARE code: Fashion-MNIST and Kather, /255"),
  "mnist": Normalisation(0.1307, 0.3081, "FL-PLAS code: MNIST"),
  "cifar": Normalisation(
    _CIFAR_MEAN, (0.2023, 0.1994, 0.2010), "FL-PLAS code: CIFAR-10 and CIFAR-100"
  ),
  "cifar_mean": Normalisation(
    _CIFAR_MEAN, (1.0, 1.0, 1.0), "ours: FLARE's mean image, averaged by channel"
  ),
}


def scaled_input(
  name: str,
  *,
  image_shape: tuple[int, int, int] | None,
  num_classes: int | None,
  normalisation: str | None,
  min_size: int = 1,
  mean_image: np.ndarray | None = None,
):
  """Begins a model: checks its settings, makes its input and scaling layers.

  Args:
    name: key in `MODELS`; gives every default.
    image_shape: (height, width, channels).
    num_classes: number of logits the caller will make.
    normalisation: key of `NORMALISATIONS`. None: the model's own; for images with
      another number of channels than the model's own is made for, "unit".
    min_size: least height and width the model's layers leave a pixel of.
    mean_image: [H, W, C] in 0..255, subtracted instead of the normalisation's mean.

  Returns:
    (input tensor, scaled tensor, num_classes).

  Raises:
    ValueError: a setting is out of range, or does not fit the image shape.
  """
  spec = MODELS[name]
  shape = _check_image_shape(name, image_shape or spec.image_shape, min_size)
  num_classes = spec.num_classes if num_classes is None else num_classes
  if num_classes < 2:
    raise ValueError(
      f"{name}: `num_classes` must be >= 2, got {num_classes}. "
      f"The paper's data has {spec.num_classes}."
    )
  chosen = _choose_normalisation(spec, normalisation, shape[-1])
  inputs = tf.keras.Input(shape, dtype=tf.float32, name="images")
  return inputs, _scaling(name, chosen, shape, mean_image)(inputs), int(num_classes)


def _scaling(name, normalisation: Normalisation, shape, mean_image):
  mean = np.asarray(normalisation.mean, np.float32)
  stddev = np.asarray(normalisation.stddev, np.float32)
  if mean_image is not None:
    mean = np.asarray(mean_image, np.float32) / 255.0
    if mean.shape != shape:
      raise ValueError(
        f"{name}: `mean_image` must have the shape of an image, {shape}, "
        f"got {mean.shape}. Give the mean over the training images, in 0..255."
      )
  scale = (1.0 / 255.0 / stddev).tolist()
  offset = (-mean / stddev).tolist()
  return tf.keras.layers.Rescaling(scale, offset, name="scaling")


def _choose_normalisation(spec, name: str | None, channels: int) -> Normalisation:
  if name is None:
    own = NORMALISATIONS[spec.normalisation]
    return own if own.num_channels in (None, channels) else NORMALISATIONS["unit"]
  if name not in NORMALISATIONS:
    raise ValueError(
      f"{spec.name}: `normalisation` must be one of {sorted(NORMALISATIONS)}, "
      f"got {name!r}."
    )
  chosen = NORMALISATIONS[name]
  if chosen.num_channels not in (None, channels):
    raise ValueError(
      f"{spec.name}: `normalisation` {name!r} must be used on images of "
      f"{chosen.num_channels} channels, got {channels}. "
      "Use 'unit', which fits any image."
    )
  return chosen


def _check_image_shape(name, image_shape, min_size) -> tuple[int, int, int]:
  shape = tuple(int(size) for size in image_shape)
  if len(shape) != 3 or min(shape) < 1:
    raise ValueError(
      f"{name}: `image_shape` must be (height, width, channels), all >= 1, "
      f"got {shape}. The default is {MODELS[name].image_shape}."
    )
  if min(shape[:2]) < min_size:
    raise ValueError(
      f"{name}: `image_shape` must be at least {min_size}x{min_size} pixels, "
      f"got {shape}. Resize the images or choose another model."
    )
  return shape
