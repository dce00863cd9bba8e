"""CIFAR-10 and the files of the semantic and edge-case attacks, where they are.

The environment variable TFF_DEFENSES_DATA_DIR leads to them.
"""

import functools
import os

import pytest

from attacks.data import files
from tff_defenses.experiments import datasets, raw_files

DATA_DIR = os.environ.get("TFF_DEFENSES_DATA_DIR")


def cifar10(*names):
  """The data set; skips unless it and the attack's files are there."""
  missing = [name for name in names if files.find(DATA_DIR, name) is None]
  spec = datasets.DATASETS["cifar10"]
  if raw_files.find_folder(spec, raw_files.search_folders(spec, DATA_DIR)) is None:
    missing.insert(0, "cifar10")
  if missing:
    pytest.skip(
      f"TFF_DEFENSES_DATA_DIR = {DATA_DIR} does not lead to {', '.join(missing)}"
    )
  return _load()


@functools.cache
def _load():
  return datasets.load("cifar10", DATA_DIR)
