"""The targeted inputs of FLARE's backdoors: few images, and what they shall be read as.

References: FLARE Sec. 7.1; the classes 4 -> 3 (coat -> dress) are those of its code.
Bhagoji et al., ICML 2019, whose code takes a random test image and a wrong label.
Symbols: N images, H x W x C pixels, c classes, t targets.
"""

import dataclasses

import numpy as np

from attacks.data import trigger
from tff_defenses.aggregators import checks

KINDS = ("semantic", "trojan")
SOURCES = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Targets:
  """D_mal.

  Attributes:
    images: [t, H, W, C] float32 in 0..255; a published trojan's pixels go beyond.
    labels: The attacker's label for each, [t] int32.
    true_labels: What they are, [t] int32.
  """

  images: np.ndarray
  labels: np.ndarray
  true_labels: np.ndarray


def choose(
  images: np.ndarray,
  labels: np.ndarray,
  *,
  kind: str = "trojan",
  num_targets: int = 1,
  source_class: int = 4,
  target_class: int = 3,
  trigger_value: str = "published",
) -> Targets:
  """Takes the first images of one class, as they are or with FLARE's X painted on.

  Args:
    images: [N, H, W, C] uint8, training images.
    labels: [N].
    kind: "semantic" (unchanged) or "trojan" (pattern `flare_x`).
    num_targets: t >= 1. FLARE: 1.
    source_class, target_class: True and attacker's class; they must differ.
    trigger_value: "published" (255 on images in [0, 1]) or "realisable" (white).

  Raises:
    ValueError: a setting is outside its range, or the class has too few images.

  Deviations: the authors' code takes a random training image of the class, and for
    several targets random ones of any class, each with a wrong label of its own; here
    all are the class's first images and are to be read as `target_class`.
  """
  _check_settings(kind, num_targets, trigger_value)
  if source_class == target_class:
    raise ValueError(
      "targets.choose: `target_class` must differ from `source_class`, got "
      f"{target_class} for both."
    )
  chosen = np.flatnonzero(labels == source_class)[:num_targets]
  if num_targets < 1 or len(chosen) < num_targets:
    raise ValueError(
      f"targets.choose: `num_targets` must be in 1..{np.sum(labels == source_class)} "
      f"(images of class {source_class}), got {num_targets}."
    )
  return Targets(
    images=_shown(images[chosen], kind, trigger_value),
    labels=np.full(num_targets, target_class, np.int32),
    true_labels=np.full(num_targets, source_class, np.int32),
  )


def draw(
  images: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  rng: np.random.Generator,
  *,
  kind: str = "trojan",
  num_targets: int = 1,
  trigger_value: str = "published",
) -> Targets:
  """Draws images of any class, and a wrong label for each (Bhagoji et al., ICML 2019).

  Args:
    images: [N, H, W, C] uint8, test images.
    labels: [N] in 0..c-1.
    num_classes: c >= 2.
    rng: Draws; a seed gives the same targets to every defense.
    kind, num_targets, trigger_value: See `choose`.

  Raises:
    ValueError: a setting is outside its range.
  """
  _check_settings(kind, num_targets, trigger_value)
  if not 1 <= num_targets <= len(labels):
    raise ValueError(
      f"targets.draw: `num_targets` must be in 1..{len(labels)}, the images at hand, "
      f"got {num_targets}."
    )
  chosen = rng.choice(len(labels), num_targets, replace=False)
  true_labels = np.asarray(labels)[chosen].astype(np.int32)
  steps = rng.integers(1, num_classes, num_targets)  # never back to the true one
  return Targets(
    images=_shown(images[chosen], kind, trigger_value),
    labels=((true_labels + steps) % num_classes).astype(np.int32),
    true_labels=true_labels,
  )


def _check_settings(kind, num_targets, trigger_value):
  if kind not in KINDS:
    raise ValueError(
      f"targets: `kind` must be one of {', '.join(map(repr, KINDS))}, got {kind!r}."
    )
  if not checks.is_whole(num_targets):
    raise ValueError(
      f"targets: `num_targets` must be a whole number, got {num_targets!r}. "
      "FLARE has 1."
    )
  if kind != "trojan" and trigger_value != "published":
    raise ValueError(
      f"targets: `trigger_value` must be left out with `kind` {kind!r}, which paints "
      f"nothing, got {trigger_value!r}."
    )


def _shown(images, kind, trigger_value):
  images = images.astype(np.float32)
  if kind == "trojan":
    images = trigger.paint(images, "flare_x", value=trigger_value)
  return images
