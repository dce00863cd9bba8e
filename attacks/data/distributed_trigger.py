"""Distributed backdoor (DBA): each malicious client paints one part of a trigger.

Reference: Xie et al., ICLR 2020, "DBA: distributed backdoor attacks against federated
learning", and the authors' `utils/*_params.yaml`.
Symbols: N images, H x W x C pixels, j rank of a client among the malicious ones.
"""

import dataclasses

import numpy as np

from attacks.data import base, trigger
from attacks.data.trigger import Pattern


@dataclasses.dataclass(frozen=True)
class Layout:
  """A trigger in parts.

  Attributes:
    parts: one pattern for each of the clients that share the trigger.
    fraction: share of poisoned images in the authors' batches.
  """

  parts: tuple[Pattern, ...]
  fraction: float

  @property
  def union(self) -> Pattern:
    """The whole trigger."""
    pixels = tuple(pixel for part in self.parts for pixel in part.pixels)
    return dataclasses.replace(self.parts[0], pixels=pixels)


def bars(rows: tuple[int, ...], columns: tuple[int, ...], width: int, source: str):
  """One horizontal bar for each row and first column, row by row.

  >>> [part.pixels for part in bars((0, 3), (0, 4), 2, "here")][1]
  ((0, 4), (0, 5))
  """
  return tuple(
    Pattern(tuple((row, first + i) for i in range(width)), 2, source)
    for row in rows
    for first in columns
  )


LAYOUTS: dict[str, Layout] = {
  "dba_mnist": Layout(bars((0, 3), (0, 6), 4, "DBA mnist_params.yaml"), 20 / 64),
  "dba_cifar": Layout(bars((0, 4), (0, 9), 6, "DBA cifar_params.yaml"), 5 / 64),
}


@dataclasses.dataclass(frozen=True)
class DistributedTriggerAttack(base.ShareAttack):
  """Malicious client j paints part j mod 4; the test images carry all parts.

  Threat model: sees `own_data` only; the parts are agreed upon before training.

  Args:
    layout: key of `LAYOUTS`, or a layout of one's own.
    target_label: label of the painted images. DBA: 2.
    fraction: share of a client's images, 0..1; None: the layout's, which is DBA's.
    value: as in `trigger.paint`. DBA: 1 on images in [0, 1], 255 here.
  Raises:
    ValueError: a setting is outside its range.
  Deviations: DBA poisons a fixed number of images of each batch (5 or 20 of 64), here
    the same share of a client's images. DBA's own training (poison epochs, scaling by
    100, one attacker a round) is not part of a data attack.
  """

  layout: str | Layout = "dba_mnist"
  target_label: int = 2
  fraction: float | None = None
  value: float | str = 255

  def __post_init__(self):
    who = "DistributedTriggerAttack"
    if not isinstance(self.layout, Layout) and self.layout not in LAYOUTS:
      raise ValueError(
        f"{who}: `layout` must be one of {', '.join(LAYOUTS)}, got {self.layout!r}. "
        "Choose the one made for the data set."
      )
    base.check_whole(who, "target_label", self.target_label, "DBA has 2.")
    base.check_share(who, self.share, "DBA poisons 20 of 64 (MNIST), 5 of 64.")
    trigger.check_value(who, self._layout.union, self.value)

  @property
  def target(self) -> int:
    """Label that the attacker wants."""
    return self.target_label

  @property
  def _layout(self):
    return self.layout if isinstance(self.layout, Layout) else LAYOUTS[self.layout]

  @property
  def share(self) -> float:
    """`fraction`, or the layout's."""
    return self._layout.fraction if self.fraction is None else self.fraction

  def check(self, num_classes: int, image_shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the target is a class and the trigger fits (H, W, C)."""
    who = "DistributedTriggerAttack"
    base.check_class(who, "target_label", self.target_label, num_classes)
    self._layout.union.coordinates(*image_shape[:2])

  def _poisoned(self, images, labels, malicious_index):
    parts = self._layout.parts
    part = parts[malicious_index % len(parts)]
    painted = trigger.paint(images, part, self.value)
    return painted, np.full_like(labels, self.target_label)

  def test_set(
    self, images: np.ndarray, labels: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """All images with the whole trigger, and copies of their true labels.

    Raises:
      ValueError: as in `trigger.paint`; another number of labels than of images.
    """
    base.check_pairs("DistributedTriggerAttack.test_set", images, labels)
    painted = trigger.paint(images, self._layout.union, self.value)
    return painted, np.array(labels)


def suited_settings(class_names: tuple[str, ...], image_shape: tuple[int, ...]) -> dict:
  """DBA's layout for images of this kind."""
  del class_names
  return {"layout": "dba_cifar" if image_shape[-1] == 3 else "dba_mnist"}
