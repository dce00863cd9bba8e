"""Label flipping: images stay as they are, labels are changed.

References: Tolpegin et al., ESORICS 2020 ("pair": one class is called another); Fang et
al., USENIX Security 2020, Sec. 5.1 ("complement": y becomes c - 1 - y).
Symbols: N images, y labels in 0..c-1.
"""

import dataclasses

import numpy as np

from attacks.data import base

MODES = ("pair", "complement")
_PAIR, _PAIR_OF_DIGITS = (5, 3), (7, 1)  # ours
_DIGITS = tuple("0123456789")


@dataclasses.dataclass(frozen=True)
class LabelFlipAttack(base.ShareAttack):
  """Relabels part of a malicious client's images.

  Threat model: sees `own_data` only.

  Args:
    mode: "pair": `source_class` becomes `target_class`, other classes stay.
      "complement": y becomes c - 1 - y; where c is odd the middle class stays.
    source_class: of "pair". Ours: 5, and 7 for digits. "complement" has no use for the
      two, and takes no others than these.
    target_class: of "pair", another one. Ours: 3, and 1 for digits.
    fraction: share of a client's images that are looked at, 0..1. Ours: 1.
    num_classes: c.
  Raises:
    ValueError: a setting is outside its range, or source and target are one class.
  Deviations: the classes of "pair" are ours; the paper tries several.
  """

  mode: str = "pair"
  source_class: int = _PAIR[0]
  target_class: int = _PAIR[1]
  fraction: float = 1.0
  num_classes: int = 10

  def __post_init__(self):
    who = "LabelFlipAttack"
    if self.mode not in MODES:
      raise ValueError(
        f"{who}: `mode` must be one of {', '.join(MODES)}, got {self.mode!r}. "
        "`pair` makes a backdoor, `complement` harms accuracy."
      )
    base.check_share(who, self.fraction, "1 relabels all of a client's images.")
    for name in ("source_class", "target_class"):
      base.check_whole(who, name, getattr(self, name), "Labels count from 0.")
    hint = "It is the number of the data set's classes."
    base.check_whole(who, "num_classes", self.num_classes, hint, least=2)
    if self.source_class == self.target_class:
      raise ValueError(
        f"{who}: `target_class` must differ from `source_class`, got "
        f"{self.target_class} for both. Choose two classes."
      )
    pair = self.source_class, self.target_class
    if self.mode == "complement" and pair not in (_PAIR, _PAIR_OF_DIGITS):
      raise ValueError(
        f"{who}: `source_class` and `target_class` must be left out with `mode` "
        f"'complement', which flips every class, got {pair[0]} and {pair[1]}. They are "
        "for `mode` 'pair'."
      )

  @property
  def target(self) -> int | None:
    """The class that "pair" flips to; None for "complement"."""
    return self.target_class if self.mode == "pair" else None

  def check(self, num_classes: int, image_shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the settings' classes are those of the data."""
    del image_shape
    who = "LabelFlipAttack"
    if num_classes != self.num_classes:
      raise ValueError(
        f"{who}: `num_classes` (c) must be {num_classes}, the classes of the data, got "
        f"{self.num_classes}. Leave it out to have it set."
      )
    if self.mode == "pair":
      base.check_class(who, "source_class", self.source_class, num_classes)
      base.check_class(who, "target_class", self.target_class, num_classes)

  @property
  def share(self) -> float:
    """`fraction`."""
    return self.fraction

  def _poisoned(self, images, labels, malicious_index):
    del malicious_index
    return images, self.flip(labels)

  def flip(self, labels: np.ndarray) -> np.ndarray:
    """The attacker's labels for true ones; [N] -> [N].

    >>> LabelFlipAttack("pair", 5, 3).flip(np.array([5, 3, 0])).tolist()
    [3, 3, 0]
    >>> LabelFlipAttack("complement").flip(np.array([0, 4, 9])).tolist()
    [9, 5, 0]
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
      raise ValueError(
        f"LabelFlipAttack.flip: `labels` must be in 0..{self.num_classes - 1}, got "
        f"{labels.min()}..{labels.max()}. Set `num_classes`."
      )
    if self.mode == "pair":
      return np.where(labels == self.source_class, self.target_class, labels)
    return self.num_classes - 1 - labels

  def test_set(
    self, images: np.ndarray, labels: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray] | None:
    """ "pair": copies of the images of the source class; "complement": None.

    Raises:
      ValueError: another number of labels than of images; no image of that class.
    """
    base.check_pairs("LabelFlipAttack.test_set", images, labels)
    if self.mode == "complement":
      return None
    chosen = np.flatnonzero(np.asarray(labels) == self.source_class)
    if not len(chosen):
      raise ValueError(
        f"LabelFlipAttack.test_set: `images` must hold one of class "
        f"{self.source_class}, `source_class`, got none of {len(labels)}. Take more "
        "test images or another class."
      )
    return images[chosen], labels[chosen]


def suited_settings(class_names: tuple[str, ...], image_shape: tuple[int, ...]) -> dict:
  """The number of classes, and for digits 7 -> 1, which look alike."""
  del image_shape
  classes = {"num_classes": len(class_names)}
  digits = {"source_class": 7, "target_class": 1}
  return classes | digits if tuple(class_names) == _DIGITS else classes
