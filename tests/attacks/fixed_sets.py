"""Made-up CIFAR-like data in which a few images are declared the green cars."""

import numpy as np
import pytest

from attacks.data import fixed_set, semantic

SHAPE = (32, 32, 3)
CARS, HELD_OUT = tuple(range(5, 140, 5)), (1, 2, 3)  # 27 and 3 positions


def images_of(count, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


@pytest.fixture
def train(monkeypatch):
  """200 images; those at `CARS` and `HELD_OUT` are known by their digests."""
  images = images_of(200)
  labels = (np.arange(200) % 10).astype(np.int32)
  labels[list(CARS + HELD_OUT)] = 1
  digests = fixed_set.digests(images)
  known = {
    "train": {digests[i]: str(1000 + i) for i in CARS},
    "held_out": {digests[i]: "held out" for i in HELD_OUT},
  }
  monkeypatch.setattr(semantic, "known_cars", lambda: known)
  for array in (images, labels):
    array.setflags(write=False)  # whoever writes into them is found out
  return images, labels
