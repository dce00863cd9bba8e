"""The targeted inputs of FLARE's backdoors: few images, and what they shall be read as.

Reference: FLARE Sec. 7.1; the classes 4 -> 3 (coat -> dress) are those of its code.
"""

import dataclasses

import numpy as np

from attacks.data import trigger

KINDS = ("semantic", "trojan")


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

  Deviations: Bhagoji et al. take a random test image and a random wrong label; here, as
    in FLARE, a training image and named classes.
  """
  if kind not in KINDS:
    raise ValueError(
      f"targets.choose: `kind` must be one of {', '.join(map(repr, KINDS))}, "
      f"got {kind!r}."
    )
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
  found = images[chosen].astype(np.float32)
  if kind == "trojan":
    found = trigger.paint(found, "flare_x", value=trigger_value)
  return Targets(
    images=found,
    labels=np.full(num_targets, target_class, np.int32),
    true_labels=np.full(num_targets, source_class, np.int32),
  )
