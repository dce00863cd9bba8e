"""A toy shard set, for tests of writing and reading shards."""

import numpy as np

from tff_defenses.experiments import shards

SHAPE = (8, 6, 3)
KEY = {"dataset": "toy", "seed": 1}


def client(num_images, start=0, shape=SHAPE):
  """Images of random pixels; labels count upwards, so that order can be seen."""
  images = np.random.default_rng(start).integers(0, 256, (num_images, *shape), np.uint8)
  return images, np.arange(start, start + num_images, dtype=np.int32)


def clients():
  """Three clients, the last without images."""
  return [client(5), client(7, start=100), client(0)]


def write(folder, **changes):
  """`shards.write` of the three clients, or with some arguments changed."""
  return shards.write(
    **{"cache_dir": folder, "key": KEY, "clients": clients, "image_shape": SHAPE}
    | changes
  )
