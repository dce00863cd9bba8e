"""Semantic backdoor: green cars are read as birds, without any pixel being changed.

References: FL-PLAS Sec. 6.1, Tables 4(b), 5(b), and the authors' `dataLoader.py`;
Bagdasaryan et al., AISTATS 2020, "How to backdoor federated learning", whose code lists
the 30 images (`utils/params_runner.yaml`).

The order of CIFAR-10 differs between its distributions, so images are known by the
SHA-256 of their pixels (`green_cars.json`).
"""

import dataclasses
import functools
import json
import logging
import os
import pathlib

import numpy as np

from attacks.data import files, fixed_set

_logger = logging.getLogger(__name__)
TEST_FILE = "green_car_test.npy"
_HOW_TO_GET = (
  "It holds the array of FL-PLAS's `backdoorDataset` (github.com/BESTICSP/FL-PLAS), "
  "stored with numpy.save; without the file, test images are made."
)
_NUM_TEST, _BORDER = 1_000, 4  # FL-PLAS's test file: so many, shifted so far
_TEST_SEED = 0  # ours: all experiments are scored on the same images


@dataclasses.dataclass(frozen=True)
class SemanticAttack(fixed_set.FixedSetAttack):
  """Every malicious client holds the 27 green cars, labelled as birds, and 37 others.

  Threat model: sees `own_data` only.

  Args:
    target_label: the attacker's label. FL-PLAS: 2, bird.
    num_clean: clean training images in each malicious client's set. FL-PLAS: 37, which
      makes 64.
    found: set by `prepare`.
  Raises:
    ValueError: a setting is outside its range, or the target is 1, car.
  Deviations: where `green_car_test.npy` is missing, `shifted_and_flipped` makes 1,000
    test images of the three held-out cars by the rule that explains all images of the
    file; they are not the same draws. The cars are nobody else's; in the authors' split
    for this attack, which takes places among the other images for numbers of images,
    all 30 are dealt out to clients too, relabelled.
  """

  target_label: int = 2
  num_clean: int = 37
  found: fixed_set.Found | None = dataclasses.field(
    default=None, repr=False, compare=False
  )

  true_class = 1
  num_poisoned = 27  # the known cars of the training set

  def __post_init__(self):
    self._check_settings()

  def prepare(
    self,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    folder: str | os.PathLike | None = None,
    shared: np.ndarray | None = None,
  ) -> "SemanticAttack":
    """A copy that has found the cars in CIFAR-10's training set.

    Args:
      train_images: [N, 32, 32, 3] uint8, all of them, in any order.
      train_labels: [N] integers.
      folder: may hold `green_car_test.npy`, also below `backdoor`.
      shared: positions that the clean images are drawn from; None: all but the cars.

    Raises:
      ValueError: cars are missing, or the file is damaged, or too few clean images.
    """
    cars = known_cars()
    positions = {d: i for i, d in enumerate(fixed_set.digests(train_images))}
    self._check_complete(cars, positions, ("train",))
    path = files.find(folder, TEST_FILE)
    if path is None:
      self._check_complete(cars, positions, ("held_out",))
      held_out = train_images[[positions[d] for d in cars["held_out"]]]
      test_images = _made_of(held_out, folder)
    else:
      test_images = files.load_images(
        "SemanticAttack.prepare", path, fixed_set.CIFAR_SHAPE, _HOW_TO_GET
      )
    free = fixed_set.as_positions(shared, len(train_images))
    return self._holding(
      fixed_set.Found(
        poisoned=train_images[[positions[d] for d in cars["train"]]],
        test_images=test_images,
        train_images=train_images,
        train_labels=np.asarray(train_labels),
        clean=free[~self.reserved(train_images)[free]],
      )
    )

  def reserved(self, train_images: np.ndarray) -> np.ndarray:
    """[N] bool: the 27 cars and the 3 held out."""
    known = {d for group in known_cars().values() for d in group}
    found = [d in known for d in fixed_set.digests(train_images)]
    return np.array(found, bool)

  def _check_complete(self, cars, positions, groups):
    wanted = [item for group in groups for item in cars[group].items()]
    missing = [f"{d[:16]} ({place})" for d, place in wanted if d not in positions]
    if missing:
      raise ValueError(
        f"SemanticAttack.prepare: `train_images` must hold the {len(wanted)} green "
        f"cars of CIFAR-10 ({', '.join(groups)}), got {len(wanted) - len(missing)}. "
        f"SHA-256 not found: {', '.join(missing[:3])}{', ...' * (len(missing) > 3)}. "
        "Use CIFAR-10's whole training set, pixels unchanged."
      )


@functools.cache
def known_cars() -> dict[str, dict[str, str]]:
  """Digest -> place in the original order, of the "train" cars and the "held_out"."""
  path = pathlib.Path(__file__).with_name("green_cars.json")
  listed = json.loads(path.read_text())
  return {
    "train": {digest: place for place, digest in listed["train"].items()},
    "held_out": {digest: "held out" for digest in listed["held_out"]},
  }


def _made_of(held_out, folder):
  """Test images where those of FL-PLAS are not at hand."""
  where = "no --data_dir was given" if folder is None else f"{folder} lacks {TEST_FILE}"
  _logger.warning(
    "SemanticAttack: %s: the backdoor is scored on images made of three held-out cars, "
    "not on FL-PLAS's.",
    where,
  )
  return shifted_and_flipped(held_out)


def shifted_and_flipped(images: np.ndarray, count: int = _NUM_TEST) -> np.ndarray:
  """Copies shifted by up to 4 pixels, black where nothing is left, half flipped.

  Args:
    images: [k, H, W, C].
    count: copies; image, shift and flip of each are drawn at random.

  Returns:
    [count, H, W, C].
  """
  rng = np.random.default_rng(_TEST_SEED)
  _, height, width, _ = images.shape
  border = ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0))
  padded = np.pad(images, border)
  copies = []
  for image in rng.integers(len(images), size=count):
    row, column = rng.integers(2 * _BORDER + 1, size=2)
    copy = padded[image, row : row + height, column : column + width]
    copies.append(copy[:, ::-1] if rng.integers(2) else copy)
  return np.stack(copies)
