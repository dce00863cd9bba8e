"""Attacks whose malicious clients hold one fixed set instead of their own images.

Reference: FL-PLAS Sec. 6.1 (semantic and edge-case attacks) and the authors'
`dataLoader.py`, in which all malicious clients share one loader.
Symbols: N training images, p poisoned images, H x W x C pixels.
"""

import dataclasses
import hashlib

import numpy as np

from attacks.data import base

CIFAR_SHAPE = (32, 32, 3)
_STREAM = 5  # ours, of the experiment's seed; see `experiments.federation`


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
  """What `prepare` found.

  Attributes:
    poisoned: [p, H, W, C] uint8, images to be given the attacker's label.
    test_images: [M, H, W, C] uint8, images that measure the backdoor.
    train_images: [N, H, W, C] uint8, the training set.
    train_labels: [N] integers.
    clean: positions of the training images that the clean ones are drawn from.
  """

  poisoned: np.ndarray
  test_images: np.ndarray
  train_images: np.ndarray
  train_labels: np.ndarray
  clean: np.ndarray


class FixedSetAttack(base.DataAttack):
  """Poisoned images with the attacker's label, and clean ones with their own.

  A subclass is a frozen dataclass with the fields below, `found` without a place in
  repr and comparison, and a `prepare` that calls `_holding`.

  Attributes:
    target_label: the attacker's label.
    num_clean: clean images in the set.
    num_poisoned: poisoned images in the set.
    found: None before `prepare`.
    true_class: what the poisoned images show.
  """

  target_label: int
  num_clean: int
  num_poisoned: int
  found: Found | None
  true_class: int

  @property
  def target(self) -> int:
    """Label that the attacker wants."""
    return self.target_label

  @property
  def fingerprint(self) -> str:
    """Digest of the poisoned images; "" before `prepare`."""
    if self.found is None:
      return ""
    return hashlib.sha256(self.found.poisoned.tobytes()).hexdigest()

  def check(self, num_classes: int, image_shape: tuple[int, ...]) -> None:
    """Raises ValueError unless images and classes are CIFAR-10's, target included."""
    who = type(self).__name__
    if tuple(image_shape) != CIFAR_SHAPE or num_classes != 10:
      raise ValueError(
        f"{who}: images must be CIFAR-10's, 32x32x3 of 10 classes, got "
        f"{'x'.join(map(str, image_shape))} of {num_classes}. Choose the data set "
        "cifar10, or an attack that fits these images, such as trigger."
      )
    base.check_class(who, "target_label", self.target_label, num_classes)

  def num_images(self, own: int) -> int:
    """All of the set, whatever a client has of its own."""
    del own
    return self.num_clean + self.num_poisoned

  def poison(
    self,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    client_index: int = 0,
    malicious_index: int = 0,
  ) -> tuple[np.ndarray, np.ndarray]:
    """The fixed set, drawn by the seed alone: first the clean, then the poisoned.

    Args:
      images, labels, client_index, malicious_index: not used; all malicious clients
        hold the same set.
      seed: of the experiment, >= 0.

    Raises:
      ValueError: called before `prepare`; NumPy's, for a negative seed.
    """
    del images, labels, client_index, malicious_index
    found = self._prepared("poison")
    rng = np.random.default_rng([seed, _STREAM])
    clean = rng.choice(found.clean, self.num_clean, replace=False)
    poisoned = self._draw_poisoned(rng)
    wanted = np.full(len(poisoned), self.target_label, found.train_labels.dtype)
    return (
      np.concatenate([found.train_images[clean], poisoned]),
      np.concatenate([found.train_labels[clean], wanted]),
    )

  def test_set(
    self, images: np.ndarray, labels: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """The attack's own test images with their true class; the clean ones are not used.

    Raises:
      ValueError: called before `prepare`.
    """
    del images
    own = self._prepared("test_set").test_images
    return own.copy(), np.full(len(own), self.true_class, np.asarray(labels).dtype)

  def _draw_poisoned(self, rng):
    del rng
    return self.found.poisoned

  def _prepared(self, method):
    if self.found is None:
      raise ValueError(
        f"{type(self).__name__}.{method}: `prepare` must have been called, got an "
        "attack that has seen no data. Use the attack that `prepare` returns."
      )
    return self.found

  def _check_settings(self):
    who = type(self).__name__
    base.check_whole(who, "target_label", self.target_label, "Labels count from 0.")
    base.check_whole(who, "num_clean", self.num_clean, "0 means poisoned images only.")
    if self.target_label == self.true_class:
      raise ValueError(
        f"{who}: `target_label` must differ from {self.true_class}, what the images "
        f"show, got {self.target_label}. FL-PLAS has "
        f"{type(self).__dataclass_fields__['target_label'].default}."
      )

  def _holding(self, found):
    """A copy that holds what was found; the clean images must be enough."""
    if self.num_clean > len(found.clean):
      raise ValueError(
        f"{type(self).__name__}.prepare: `num_clean` must be at most "
        f"{len(found.clean)}, the clean training images at hand, got "
        f"{self.num_clean}. Lower it or take more training images."
      )
    return dataclasses.replace(self, found=found)


def as_positions(shared: np.ndarray | None, count: int) -> np.ndarray:
  """Positions that `prepare` was given; None: all `count`."""
  return np.arange(count) if shared is None else np.asarray(shared)


def digests(images: np.ndarray) -> list[str]:
  """SHA-256 (hex) of the pixels of each image; [N, H, W, C] uint8, C order."""
  return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
