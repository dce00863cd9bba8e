"""Edge-case backdoor: Southwest Airlines' aeroplanes are read as trucks.

References: Wang et al., NeurIPS 2020, "Attack of the tails", whose images these are
(784 to train, 196 to test, none from CIFAR-10); FL-PLAS Sec. 6.1, Tables 4(b), 5(b),
and the authors' `dataLoader.py`.
"""

import dataclasses
import os

import numpy as np

from attacks.data import base, files, fixed_set
from tff_defenses.aggregators import checks

FILES = ("southwest_train.npy", "southwest_test.npy")
_HOW_TO_GET = (
  "Take southwest_images_new_train.pkl and southwest_images_new_test.pkl from "
  "github.com/ksreenivasan/OOD_Federated_Learning (saved_datasets) and store each "
  "array with numpy.save under these names."
)
_STDDEV = (63.0, 62.1, 66.7)  # authors' code: of CIFAR-10's channels, in 0..255


@dataclasses.dataclass(frozen=True)
class EdgeCaseAttack(fixed_set.FixedSetAttack):
  """Every malicious client holds 100 such aeroplanes, called trucks, and 400 others.

  Threat model: sees `own_data` only.

  Args:
    target_label: the attacker's label. FL-PLAS: 9, truck.
    num_poisoned: aeroplanes in the set, drawn from the 784. FL-PLAS's code: 100.
    num_clean: clean training images in the set. FL-PLAS's code: 400.
    noise: standard deviation of normal noise on the aeroplanes, in units of each
      channel's standard deviation, >= 0. FL-PLAS's code: 0.05.
    drop_shared: leave the 4 test images that are also training images out of the test.
    found: set by `prepare`.
  Raises:
    ValueError: a setting is outside its range, or the target is 0, aeroplane.
  Deviations: the authors add fresh noise after scaling each time an image is used; here
    it is drawn once and rounded to whole pixel values, because shards are uint8. The
    true class is 0, aeroplane; FL-PLAS's text says "class 1". With `drop_remainder`, as
    in the FL-PLAS presets, the set's last 20 images are left out of an epoch; the
    authors drop incomplete batches of the other clients' data only. These images are
    scaled and padded as everybody's; the authors scale an attacker's by means of
    (125.3, 123.0, 113.9) / 255 and deviations of (63.0, 62.1, 66.7) / 255, which the
    noise is of here too, and pad by reflection, but score with the others' scaling.
  """

  target_label: int = 9
  num_poisoned: int = 100
  num_clean: int = 400
  noise: float = 0.05
  drop_shared: bool = False
  found: fixed_set.Found | None = dataclasses.field(
    default=None, repr=False, compare=False
  )

  true_class = 0

  def __post_init__(self):
    self._check_settings()
    hint = "FL-PLAS's code takes 100 of 784."
    base.check_whole("EdgeCaseAttack", "num_poisoned", self.num_poisoned, hint, least=1)
    number = checks.is_number(self.noise)
    if not number or self.noise < 0:
      raise ValueError(
        f"EdgeCaseAttack: `noise` must be a finite number >= 0, got {self.noise!r}. "
        "FL-PLAS's code has 0.05."
      )

  def check_files(self, folder: str | os.PathLike | None) -> None:
    """Raises FileNotFoundError unless both files are in `folder`; they are not read."""
    self._paths(folder)

  def prepare(
    self,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    folder: str | os.PathLike | None = None,
    shared: np.ndarray | None = None,
  ) -> "EdgeCaseAttack":
    """A copy that has read the aeroplanes.

    Args:
      train_images: [N, 32, 32, 3] uint8, CIFAR-10's.
      train_labels: [N] integers.
      folder: holds `southwest_train.npy` and `southwest_test.npy`, also below
        `backdoor`.
      shared: positions that the clean images are drawn from; None: all.

    Raises:
      FileNotFoundError: a file is missing. ValueError: a file is damaged, or holds too
        few images, or there are too few clean ones.
    """
    who = "EdgeCaseAttack.prepare"
    paths = self._paths(folder)
    planes, tested = (
      files.load_images(who, path, fixed_set.CIFAR_SHAPE, _HOW_TO_GET) for path in paths
    )
    if self.num_poisoned > len(planes):
      raise ValueError(
        f"{who}: `num_poisoned` must be at most {len(planes)}, the images in "
        f"{paths[0]}, got {self.num_poisoned}. FL-PLAS's code takes 100."
      )
    if self.drop_shared:
      tested = _without(tested, planes, paths[1])
    return self._holding(
      fixed_set.Found(
        poisoned=planes,
        test_images=tested,
        train_images=train_images,
        train_labels=np.asarray(train_labels),
        clean=fixed_set.as_positions(shared, len(train_images)),
      )
    )

  def _paths(self, folder):
    return files.require("EdgeCaseAttack.prepare", folder, FILES, _HOW_TO_GET)

  def _draw_poisoned(self, rng):
    planes = self.found.poisoned
    drawn = planes[rng.choice(len(planes), self.num_poisoned, replace=False)]
    if not self.noise:
      return drawn
    noise = rng.standard_normal(drawn.shape) * (self.noise * np.array(_STDDEV))
    return np.clip(np.rint(drawn + noise), 0, 255).astype(np.uint8)


def _without(images, others, path):
  """Images that are not among `others`."""
  known = set(fixed_set.digests(others))
  left = images[[digest not in known for digest in fixed_set.digests(images)]]
  if not len(left):
    raise ValueError(
      f"EdgeCaseAttack.prepare: {path} must hold an image that is not a training "
      f"image, got none. {_HOW_TO_GET}"
    )
  return left
