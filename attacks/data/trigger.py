"""Trigger (trojan): a fixed pattern of bright pixels, and the attacker's label.

References: FL-PLAS Sec. 6.1 (trigger attack), Tables 4(a), 5(a), and the authors'
`dataLoader.py`; FLARE Sec. 7.1 (trojan) and the authors' `utils/io_utils.py`.
Symbols: N images, H x W x C pixels.

Painted on raw images, 0..255, before augmentation and scaling: a random crop may move
or cut the pattern in training, and does not in test.
"""

import dataclasses
import math
import numbers

import numpy as np

from attacks.data import base
from tff_defenses.aggregators import checks

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")
VALUE_NAMES = ("realisable", "published")


@dataclasses.dataclass(frozen=True)
class Pattern:
  """Pixels that are overwritten, in all channels.

  Attributes:
    pixels: (row, column) pairs; a negative number counts from the bottom or right
      edge, as in NumPy.
    target: label of the attacker; None: each attack names its own.
    source: where the coordinates come from.
    value: what a camera could record and a shard can hold ("realisable"), 0..255.
    published: what the authors write, on the same scale.
  """

  pixels: tuple[tuple[int, int], ...]
  target: int | None
  source: str
  value: int = 255
  published: float = 255.0

  def coordinates(self, height: int, width: int) -> list[tuple[int, int]]:
    """(row, column) of every pixel in an image of this size, all >= 0.

    Raises:
      ValueError: the image is too small.
    """
    least = _least_size(self.pixels)
    if height < least[0] or width < least[1]:
      raise ValueError(
        f"Pattern.coordinates: images must be at least {least[0]}x{least[1]} pixels "
        f"for this pattern ({self.source}), got {height}x{width}. Choose a pattern "
        "made for these images; `square` is placed from the edges."
      )
    return [(row % height, column % width) for row, column in self.pixels]


def square(size: int = 5, corner: str = "bottom_right") -> Pattern:
  """A filled square in a corner of the image, in the style of BadNets.

  Args:
    size: k, side in pixels, >= 1. Ours: 5.
    corner: one of `CORNERS`.

  Raises:
    ValueError: `size` or `corner` is outside its range.

  >>> square(2, "top_right").coordinates(28, 28)
  [(0, 26), (0, 27), (1, 26), (1, 27)]
  """
  if not checks.is_whole(size) or size < 1:
    raise ValueError(
      f"square: `size` (k) must be a whole number >= 1, got {size!r}. We use 5."
    )
  checks.check_choice("square", "corner", corner, CORNERS)
  first, last = range(size), range(-size, 0)
  rows = first if corner.startswith("top") else last
  columns = first if corner.endswith("left") else last
  pixels = tuple((row, column) for row in rows for column in columns)
  return Pattern(pixels, None, f"{size}x{size} {corner}, BadNets style")


PATTERNS: dict[str, Pattern] = {
  "flare_x": Pattern(
    ((-2, -2), (-3, -3), (-3, -1), (-1, -3), (-1, -1)),
    None,
    "FLARE utils/io_utils.py",
    published=255.0 * 255.0,  # the authors write 255 on images already in [0, 1]
  ),
  "flplas_mnist": Pattern(
    ((25, 25), (25, 26), (26, 25), (26, 26)), 0, "FL-PLAS dataLoader.py, MNIST"
  ),
  "flplas_cifar": Pattern(
    ((29, 29), (29, 30), (29, 31), (30, 29), (31, 29)),
    0,
    "FL-PLAS dataLoader.py, CIFAR",
  ),
  # The text gives shape and corner, "top right"; the coordinates are ours.
  "flplas_mnist_paper": Pattern(
    ((1, 25), (1, 26), (2, 25), (2, 26)), 0, "FL-PLAS Sec. 6.1, MNIST"
  ),
  "flplas_cifar_paper": Pattern(
    ((2, 29), (1, 29), (3, 29), (2, 28), (2, 30)), 0, "FL-PLAS Sec. 6.1, CIFAR"
  ),
  "square": square(),
}


def paint(
  images: np.ndarray, pattern: str | Pattern, value: float | str = 255
) -> np.ndarray:
  """Copy of the images with the pattern on every one of them.

  Args:
    images: [N, H, W, C], uint8, or floats on the same scale, 0..255.
    pattern: key of `PATTERNS`, or a pattern.
    value: number on the scale 0..255, or "realisable" (the pattern's value, 255), or
      "published" (what the authors write). For `flare_x` that is 255 on images in
      [0, 1], 65025 here: floats only, for no image and no shard holds it.

  Raises:
    ValueError: unknown pattern; images of another type or rank, or too small for the
      pattern; a value that is no number, or that the images cannot hold.

  >>> image = np.zeros((1, 3, 3, 1), np.uint8)
  >>> paint(image, square(1))[0, :, :, 0].tolist(), image.max()
  ([[0, 0, 0], [0, 0, 0], [0, 0, 255]], 0)
  """
  pattern = _find("paint", pattern)
  images = np.asarray(images)
  if images.ndim != 4 or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
    raise ValueError(
      "paint: `images` must be [N, H, W, C], uint8 or float in 0..255, got "
      f"{images.dtype} {list(images.shape)}. Give raw images, a batch at a time."
    )
  number = _number("paint", pattern, value)
  if images.dtype == np.uint8:
    _check_byte(number, value)
  rows, columns = zip(*pattern.coordinates(*images.shape[1:3]), strict=True)
  painted = images.copy()
  painted[:, rows, columns, :] = number
  return painted


@dataclasses.dataclass(frozen=True)
class TriggerAttack(base.ShareAttack):
  """Paints a pattern on part of a malicious client's images and relabels them.

  Threat model: sees `own_data` only.

  Args:
    pattern: key of `PATTERNS`, or a pattern such as `square(3, "top_left")`.
    target_label: label of the painted images; None: the pattern's own (FL-PLAS: 0).
    fraction: share of a client's images, 0..1. FL-PLAS: 0.3.
    value: as in `paint`.
  Raises:
    ValueError: a setting is outside its range, or the pattern has no target of its own
      and none is given.
  Deviations: FL-PLAS's text puts its triggers top right, its code bottom right; the
    code's are the default, the text's are the patterns named `*_paper`. FLARE's trojan
    value cannot be recorded in an image; "realisable" is the default, and "published"
    is for float images.
  """

  pattern: str | Pattern = "flplas_mnist"
  target_label: int | None = None
  fraction: float = 0.3
  value: float | str = 255

  def __post_init__(self):
    check_value("TriggerAttack", _find("TriggerAttack", self.pattern), self.value)
    hint = "FL-PLAS poisons 0.3 of a client's images."
    base.check_share("TriggerAttack", self.fraction, hint)
    if not checks.is_whole(self.target) or self.target < 0:
      raise ValueError(
        "TriggerAttack: `target_label` must be a whole number >= 0, got "
        f"{self.target!r}. Patterns of FL-PLAS have target 0, others none of their own."
      )

  @property
  def target(self) -> int:
    """Label the attacker wants: the one given, or the pattern's own."""
    own = _find("TriggerAttack", self.pattern).target
    return own if self.target_label is None else self.target_label

  def check(self, num_classes: int, image_shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the target is a class and the pattern fits (H, W, C)."""
    base.check_class("TriggerAttack", "target_label", self.target, num_classes)
    _find("TriggerAttack", self.pattern).coordinates(*image_shape[:2])

  @property
  def share(self) -> float:
    """`fraction`."""
    return self.fraction

  def _poisoned(self, images, labels, malicious_index):
    del malicious_index
    painted = paint(images, self.pattern, self.value)
    return painted, np.full_like(labels, self.target)

  def test_set(
    self, images: np.ndarray, labels: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """All images painted, with copies of their true labels.

    Backdoor accuracy without images of the target class needs the true labels.

    Raises:
      ValueError: as in `paint`; another number of labels than of images.
    """
    base.check_pairs("TriggerAttack.test_set", images, labels)
    return paint(images, self.pattern, self.value), np.array(labels)


def suited_settings(class_names: tuple[str, ...], image_shape: tuple[int, ...]) -> dict:
  """FL-PLAS's pattern for images of this kind."""
  del class_names
  return {"pattern": "flplas_cifar" if image_shape[-1] == 3 else "flplas_mnist"}


def check_value(who: str, pattern: Pattern, value: float | str) -> None:
  """Raises ValueError unless `value` is what `paint` takes."""
  _number(who, pattern, value)


def _least_size(pixels):
  # Row 3 needs a height of 4, row -3 one of 3; so do columns.
  reach = [
    [i + 1 if i >= 0 else -i for i in axis] for axis in zip(*pixels, strict=True)
  ]
  return tuple(max(axis) for axis in reach)


def _find(who, pattern) -> Pattern:
  if isinstance(pattern, Pattern):
    return pattern
  checks.check_choice(who, "pattern", pattern, list(PATTERNS))
  return PATTERNS[pattern]


def _number(who, pattern, value) -> float:
  """The number that `value` stands for, on the scale 0..255."""
  if isinstance(value, str) and value in VALUE_NAMES:
    return pattern.value if value == "realisable" else pattern.published
  if not isinstance(value, numbers.Real) or not math.isfinite(value):
    raise ValueError(
      f"{who}: `value` must be a finite number or one of {', '.join(VALUE_NAMES)}, "
      f"got {value!r}. The papers' patterns are white: 255."
    )
  return value


def _check_byte(number, value):
  if not 0 <= number <= 255 or number != int(number):
    raise ValueError(
      "paint: `value` must be a whole number in 0..255 on uint8 images, got "
      f"{value!r} = {number}. Shards are uint8, where 255 is white already: paint "
      "decoded float images, or use 'realisable'."
    )
