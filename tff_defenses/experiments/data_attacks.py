"""The attack on the malicious clients' data, made for one experiment's data set."""

import contextlib
import hashlib
import inspect

import numpy as np

import attacks
from tff_defenses.experiments import config as config_lib
from tff_defenses.experiments.datasets import Dataset, DatasetSpec
from tff_defenses.experiments.errors import DataError
from tff_defenses.experiments.registry_calls import call_builder


def build(config: config_lib.ExperimentConfig, dataset: Dataset, shared: np.ndarray):
  """The attack, checked against the data and prepared; None without such an attack.

  Args:
    config: Names the attack and its settings; the others are those that suit the data.
    dataset: Of the experiment.
    shared: Positions of the training images that clients share.

  Raises:
    ConfigError: the attack does not take the settings, or does not fit the data set.
    DataError: what the attack needs is not in the data, or its files are missing.
  """
  attack = make(config, dataset)
  if attack is None:
    return None
  train = dataset.train_images, dataset.train_labels
  try:
    return attack.prepare(*train, folder=config.data_dir, shared=shared)
  except (OSError, ValueError) as error:
    raise DataError(str(error)) from error


def make(config: config_lib.ExperimentConfig, data: Dataset | DatasetSpec):
  """The attack, checked against what is known of the data before they are loaded.

  Raises:
    ConfigError: the attack does not take the settings, or does not fit the data set.
  """
  name, given = named(config)
  if name is None:
    return None
  spec = attacks.ATTACKS[name]
  suited = spec.suited(class_names=data.class_names, image_shape=data.image_shape)
  settings = {**suited, **given}
  attack = call_builder("attack_settings", name, spec.build, **settings)
  try:
    attack.check(data.num_classes, data.image_shape)
  except ValueError as error:
    raise config_lib.ConfigError(
      f"ExperimentConfig: attack {name!r} must fit data set "
      f"{config.dataset!r}. {error}"
    ) from error
  return attack


def named(config: config_lib.ExperimentConfig) -> tuple[str | None, dict]:
  """Name and settings of the data attack: the config's, or its training attack's.

  Raises:
    ConfigError: a training attack names no data attack.
  """
  kind = config_lib.attacks_kind(config.attack)
  if kind == "data":
    return config.attack, dict(config.attack_settings)
  companion = None if kind is None else attacks.ATTACKS[config.attack].data_attack
  if companion is None:
    return None, {}
  name, settings = companion(config.attack_settings)
  known = [n for n, spec in attacks.ATTACKS.items() if spec.kind == "data"]
  if name not in known:
    raise config_lib.ConfigError(
      f"ExperimentConfig: `attack_settings` must name a data attack, one of "
      f"{', '.join(known)}, got {name!r}."
    )
  return name, settings


def key(attack) -> dict:
  """What determines the poisoned images, besides those that clients share.

  What a module imports from others is not seen: remove the cache after such a change.
  """
  if attack is None:
    return {"attack": "None"}
  found = {"attack": repr(attack), "found": attack.fingerprint}
  return {**found, "code": _code(type(attack))}


def _code(kind: type) -> str:
  """Digest of the modules of a class and of its bases: who edits one gets new images.

  Of a class made in a notebook, whose module has no source, its own is read.
  """
  sources = {}
  for base in kind.__mro__[:-1]:
    try:
      sources[base.__module__] = inspect.getsource(inspect.getmodule(base))
    except (OSError, TypeError):
      with contextlib.suppress(OSError, TypeError):
        sources[base.__qualname__] = inspect.getsource(base)
  return hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()


def poisoned(attack, parts, images, labels, malicious, seed):
  """Yields the (images, labels) of each client.

  No client gets a reserved image. They are taken out after the partition, so that all
  other images lie where they do without the attack.

  Args:
    attack: Or None.
    parts: Positions of each client's images.
    images, labels: That clients share.
    malicious: [num_clients] bool.
    seed: Of the experiment.
  """
  reserved = np.zeros(len(labels), bool)
  if attack is not None:
    reserved = attack.reserved(images)
  rank = np.cumsum(malicious) - 1  # among the malicious clients
  for client, part in enumerate(parts):
    part = np.asarray(part)
    part = part[~reserved[part]]
    own = images[part], labels[part]
    if attack is not None and malicious[client]:
      place = {"client_index": client, "malicious_index": int(rank[client])}
      own = attack.poison(*own, seed=seed, **place)
    yield own


def test_set(attack, images: np.ndarray, labels: np.ndarray):
  """Backdoored test images, their true labels and the target; thrice None for no such.

  Raises:
    DataError: there is no image to score, or none whose class is not the target.
  """
  found = None if attack is None else attack.test_set(images, labels)
  if found is None:
    return None, None, None
  if not np.any(found[1] != attack.target):
    raise DataError(
      f"test_set: the test images of {attack!r} must hold one whose true class is not "
      f"the target {attack.target}, got none of {len(found[1])}. Take more test images "
      "or another target."
    )
  return *found, attack.target
