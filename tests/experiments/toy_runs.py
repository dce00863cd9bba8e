"""Experiments of seconds, for tests of the harness."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tff_defenses.experiments.config import ExperimentConfig

SETTINGS = {
  "dataset": "mnist5k",
  "model": "lenet",
  "num_clients": 3,
  "rounds": 3,
  "local_epochs": 1,
  "batch_size": 8,
  "max_train_images": 60,
  "max_test_images": 50,
  "aux_size": 2,
  "checkpoint_every": 1,
}
FEDAVG = {"attack": "trigger", "malicious_fraction": 0.34}
FL_PLAS = {
  "defense": "fl_plas",
  "attack": "trigger",
  "malicious_fraction": 0.25,
  "num_clients": 4,
  "clients_per_round": 3,
}
FLARE = {"defense": "flare", "attack": "krum_backdoor", "malicious_fraction": 0.34}


def toy(output_dir, cache_dir, **changes):
  """A config of three small clients and three rounds, with some settings changed."""
  folders = {"output_dir": str(output_dir), "cache_dir": str(cache_dir)}
  return ExperimentConfig(**{**SETTINGS, **folders, **changes})


@dataclasses.dataclass(frozen=True, eq=False)
class Finished:
  """A `RunResult`, with the trainer and the states after the last round."""

  config: ExperimentConfig
  folder: Any
  summary: Mapping[str, Any]
  trainer: Any
  states: Any


def run(config, runtime):
  """Runs an experiment; `probe.keep` is shown what else is left of it."""
  from tff_defenses.experiments import loop, probe  # here: the data tests need none

  left, keep = [], probe.keep

  def watch(trainer, runtime, states, folder, **limit):
    left.extend([trainer, states])
    keep(trainer, runtime, states, folder, **limit)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(probe, "keep", watch)
    found = loop.run(config, runtime)
  return Finished(found.config, found.folder, found.summary, *left)


def content(folder, name):
  """Bytes of a file of a `RunFolder`."""
  return (folder.path / name).read_bytes()


class NotesOptions:
  """A runtime that keeps the options of its calls, such as their limit."""

  def __init__(self, runtime):
    self.options, self._runtime = [], runtime

  def call(self, computation, *arguments, **options):
    self.options.append(options)
    return self._runtime.call(computation, *arguments)


class SendsNaN:
  """A training attack whose updates are not finite."""

  sees = frozenset({"own_data"})

  def build_craft(self, model, work):
    del model, work
    import tensorflow as tf  # here: the data set tests need none

    def craft(weights, dataset, round_number, honest, benign_mean):
      del dataset, round_number, benign_mean
      bad = [tf.fill(tf.shape(u), np.float32(np.nan)) for u in honest]
      return bad, list(weights.non_trainable)

    return craft
