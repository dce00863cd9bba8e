"""What every attack on a client's data can be asked, with do-nothing defaults.

The order of use: `check` against the data set, `prepare` once, then `reserved`,
`poison` for each malicious client and `test_set`. `check_files` is for those who want
to know early.
Symbols: N images, H x W x C pixels, c classes.
"""

import abc
import os

import numpy as np

from tff_defenses.aggregators import checks


class DataAttack(abc.ABC):
  """Poisons malicious clients' images before training; sees their `own_data` only.

  Attributes:
    target: label that the backdoor wants; None where there is no single one.
    fingerprint: digest of what `prepare` found, "" for nothing: two attacks with equal
      settings and fingerprints poison alike.
  """

  sees = frozenset({"own_data"})
  fingerprint = ""

  target: int | None

  def check(self, num_classes: int, image_shape: tuple[int, ...]) -> None:  # noqa: B027
    """Raises ValueError unless the attack fits c classes and (H, W, C)."""

  def num_images(self, own: int) -> int:
    """How many images a malicious client trains on that has `own` of its own."""
    return own

  def check_files(self, folder: str | os.PathLike | None) -> None:  # noqa: B027
    """Raises FileNotFoundError unless the attack's own files are in `folder`.

    Args:
      folder: as for `prepare`.
    """

  def prepare(
    self,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    folder: str | os.PathLike | None = None,
    shared: np.ndarray | None = None,
  ) -> "DataAttack":
    """The attack, or a copy that holds what it found in the data or in files.

    Args:
      train_images: [N, H, W, C] uint8, the whole training set.
      train_labels: [N] integers.
      folder: with the attack's own files; also searched below `backdoor`.
      shared: positions of the images that clients may hold; None: all.

    Raises:
      FileNotFoundError: a file is missing. ValueError: a file, or the training set,
        does not hold what the attack needs.
    """
    del train_images, train_labels, folder, shared
    return self

  def reserved(self, train_images: np.ndarray) -> np.ndarray:
    """[N] bool: images that no benign client may hold."""
    return np.zeros(len(train_images), bool)

  @abc.abstractmethod
  def poison(
    self,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    client_index: int = 0,
    malicious_index: int = 0,
  ) -> tuple[np.ndarray, np.ndarray]:
    """What a malicious client trains on instead of its own images; copies.

    Args:
      images: [N, H, W, C] uint8, its own.
      labels: [N] integers.
      seed: of the experiment, >= 0.
      client_index: among all clients, >= 0.
      malicious_index: among the malicious clients, >= 0.
    """

  @abc.abstractmethod
  def test_set(
    self, images: np.ndarray, labels: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray] | None:
    """Images on which the backdoor is measured, with their true labels.

    None: the attack has no backdoor, so that accuracy alone says what it does.

    Args:
      images: [N, H, W, C] uint8, the clean test set.
      labels: [N] integers.
    """


class ShareAttack(DataAttack):
  """Poisons a share of a malicious client's own images, chosen by seed and client."""

  @property
  @abc.abstractmethod
  def share(self) -> float:
    """Of a client's images, 0..1."""

  def poison(
    self,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    client_index: int = 0,
    malicious_index: int = 0,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Copies of a client's images and labels, part of them poisoned, order kept.

    The first int(share * N) images of a permutation drawn from (seed, client_index)
    are poisoned. Arguments as in `DataAttack.poison`.

    Raises:
      ValueError: another number of labels than of images; what the attack raises;
        NumPy's, for a negative seed or index.
    """
    check_pairs(f"{type(self).__name__}.poison", images, labels)
    chosen = choose(self.share, len(labels), seed, client_index)
    images, labels = np.array(images), np.array(labels)
    poisoned = self._poisoned(images[chosen], labels[chosen], malicious_index)
    images[chosen], labels[chosen] = poisoned
    return images, labels

  @abc.abstractmethod
  def _poisoned(self, images, labels, malicious_index: int):
    """The chosen images, [p, H, W, C] and [p], as the attacker wants them."""


def choose(fraction: float, count: int, seed: int, client_index: int) -> np.ndarray:
  """Positions of the int(fraction * count) images of a client that are poisoned."""
  order = np.random.default_rng([seed, client_index]).permutation(count)
  return order[: int(fraction * count)]


def check_share(who: str, fraction: float, hint: str) -> None:
  """Raises ValueError unless `fraction` is in [0, 1]."""
  if not checks.is_number(fraction) or not 0 <= fraction <= 1:
    raise ValueError(f"{who}: `fraction` must be in [0, 1], got {fraction!r}. {hint}")


def check_whole(who: str, name: str, value: int, hint: str, least: int = 0) -> None:
  """Raises ValueError unless the setting `name` is a whole number >= `least`."""
  if not checks.is_whole(value) or value < least:
    raise ValueError(
      f"{who}: `{name}` must be a whole number >= {least}, got {value!r}. {hint}"
    )


def check_class(who: str, name: str, value: int, num_classes: int) -> None:
  """Raises ValueError unless `value` is one of c classes."""
  if value >= num_classes:
    raise ValueError(
      f"{who}: `{name}` must be in 0..{num_classes - 1}, the classes of the data, got "
      f"{value}. Choose one of them."
    )


def check_pairs(who: str, images: np.ndarray, labels: np.ndarray) -> None:
  """Raises ValueError unless there is one label an image."""
  if np.ndim(labels) != 1 or len(images) != len(labels):
    raise ValueError(
      f"{who}: `labels` must be [N] for N = {len(images)} images, got "
      f"{list(np.shape(labels))}. Give one label an image."
    )
