"""The clients of one experiment: who they are, what data they hold, what is scored."""

import collections
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable

import numpy as np

import attacks
import models
from tff_defenses.experiments import (
  aims,
  data_attacks,
  datasets,
  held_out,
  partition,
  shards,
)
from tff_defenses.experiments import config as config_lib

__all__ = [
  "Federation",
  "build",
  "cache_folder",
  "draw_clients",
  "hold_out",
  "keras_fn",
  "shared_layers",
]

# NumPy's streams of a seed s: [s, 1] partition, [s, 2, t] clients of round t, [s, 3]
# images of a reduced run, [s, 4] root data (`aggregation`), [s, 5] fixed sets, [s, 6]
# targets, [s, k] client k's poisoned images, [s, t, k] its shuffling in round t. Some
# coincide ([s, 1] is [s, 1, 0]), so unlike things are ordered by the same numbers; to
# part them changes results, so it waits for the next `config.RECIPE`; so does Gaussian
# attackers' noise, whose key is FLAME's.


@dataclasses.dataclass(frozen=True, eq=False)
class Federation:
  """What every defense of a comparison shares.

  Attributes:
    shards: Files of the clients' images, poisoned ones included.
    honest_shards: The same before poisoning, for rounds without an attack.
    malicious: [num_clients] bool.
    held_out: The server's auxiliary and root data.
    test_images, test_labels: Clean images to score, uint8 and int32.
    backdoor_images: Images that measure the backdoor, [K, H, W, C]; None without one.
    backdoor_labels: Their true labels, [K], or None.
    backdoor_target: The label that the attacker wants, or None.
    targets: D_mal of a training attack, or None.
    class_names: Of the data set.
  """

  shards: shards.ShardSet
  honest_shards: shards.ShardSet
  malicious: np.ndarray
  held_out: held_out.HeldOut
  test_images: np.ndarray
  test_labels: np.ndarray
  backdoor_images: np.ndarray | None
  backdoor_labels: np.ndarray | None
  backdoor_target: int | None
  targets: "attacks.training.targets.Targets | None"
  class_names: tuple[str, ...]

  def digests(self) -> dict[str, str | None]:
    """Of all images and labels, by what they are for; None: there are no such."""
    aimed = self.targets
    return {
      "clients": self.shards.content(),
      "server": server_digest(self.held_out),
      "test": _digest(self.test_images, self.test_labels),
      "backdoor": _digest(self.backdoor_images, self.backdoor_labels),
      "targets": None if aimed is None else _digest(aimed.images, aimed.labels),
    }

  def client_input(
    self, client: int, round_number: int, seed: int, *, attacks: bool = True
  ):
    """What a client receives in a round, as `CLIENT_INPUT_TYPE`.

    Args:
      client: Its index.
      round_number: From 1 on.
      seed: Of the experiment.
      attacks: False: nobody is malicious in this round.
    """
    sequence = np.random.SeedSequence([seed, round_number, client])
    return collections.OrderedDict(
      shard=(self.shards if attacks else self.honest_shards).path(client),
      client_index=np.int32(client),
      is_malicious=bool(self.malicious[client] and attacks),
      seed=np.int64(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)),
    )


def build(config: config_lib.ExperimentConfig) -> Federation:
  """Loads data, partitions it, poisons the malicious clients' and writes the shards.

  Raises:
    DataError: data, or files of the attack, are missing or damaged. ValueError: an
      attack does not fit the data.
  """
  dataset = datasets.load(config.dataset, config.data_dir)
  held = hold_out(config, dataset)
  chosen = _subset(len(held.train_labels), config.max_train_images, config.seed)
  images, labels = held.train_images[chosen], held.train_labels[chosen]
  tested = _subset(len(dataset.test_labels), config.max_test_images, config.seed)
  test = dataset.test_images[tested], dataset.test_labels[tested]
  malicious = np.isin(np.arange(config.num_clients), config.malicious_clients)
  attack = data_attacks.build(config, dataset, np.flatnonzero(held.kept)[chosen])
  backdoor = data_attacks.test_set(attack, *test)
  data = config, dataset, images, labels, attack
  poisoned = honest = _write_shards(*data, malicious)
  if attack is not None and config.pauses:
    honest = _write_shards(*data, np.zeros_like(malicious))
  return Federation(
    shards=poisoned,
    honest_shards=honest,
    malicious=malicious,
    held_out=held,
    test_images=test[0],
    test_labels=test[1],
    backdoor_images=backdoor[0],
    backdoor_labels=backdoor[1],
    backdoor_target=backdoor[2],
    targets=aims.choose(config, (images, labels), test),
    class_names=tuple(dataset.class_names),
  )


def server_digest(held: held_out.HeldOut) -> str:
  """Of the server's images and labels, as in `Federation.digests`."""
  return _digest(
    *(held.aux_images, held.aux_labels, held.root_images, held.root_labels)
  )


def _digest(*arrays) -> str | None:
  if arrays[0] is None:
    return None
  parts = " ".join(shards.digest(np.asarray(array)) for array in arrays)
  return hashlib.sha256(parts.encode()).hexdigest()


def hold_out(
  config: config_lib.ExperimentConfig, dataset: datasets.Dataset
) -> held_out.HeldOut:
  """The experiment's auxiliary and root data, and what is left for the clients.

  Raises:
    ValueError, DataError: see `held_out.hold_out`.
  """
  return held_out.hold_out(
    dataset,
    aux_class=config.aux_class,
    aux_size=config.aux_size,
    root_per_class=config.root_per_class,
    aux_source=config.aux_source,
  )


def keras_fn(config: config_lib.ExperimentConfig) -> Callable:
  """The function that builds the experiment's model, seeded."""
  data = datasets.DATASETS[config.dataset]
  return functools.partial(
    models.MODELS[config.model_name].build,
    image_shape=data.image_shape,
    num_classes=data.num_classes,
    seed=config.seed,
  )


def shared_layers(config: config_lib.ExperimentConfig) -> tuple[str, ...]:
  """FL-PLAS's cut of the experiment's model."""
  spec = models.MODELS[config.model_name]
  if config.shared_cut == "default":
    return spec.shared_layers
  return spec.cuts[config.shared_cut]


def draw_clients(config: config_lib.ExperimentConfig, round_number: int) -> list[int]:
  """Indices of a round's clients, ascending; the same for every defense.

  "fixed_frequency" (FL-PLAS) draws the same share of malicious clients every round, so
  that other clients are drawn where there are others or none; "random" draws from all
  clients alike, whoever is malicious.
  """
  if config.num_drawn == config.num_clients:
    return list(range(config.num_clients))
  rng = np.random.default_rng([config.seed, 2, round_number])
  if config.participation == "random":
    drawn = rng.choice(config.num_clients, config.num_drawn, replace=False)
    return sorted(int(client) for client in drawn)
  malicious = np.array(config.malicious_clients, int)
  benign = np.setdiff1d(np.arange(config.num_clients), malicious)
  few = config.num_malicious_drawn
  drawn = [
    *rng.choice(malicious, few, replace=False),
    *rng.choice(benign, config.num_drawn - few, replace=False),
  ]
  return sorted(int(client) for client in drawn)


def _subset(size, limit, seed):
  """Positions of at most `limit` images, in order, drawn by the seed."""
  if limit is None or limit >= size:
    return np.arange(size)
  return np.sort(np.random.default_rng([seed, 3]).permutation(size)[:limit])


def _least_images(config, chosen, available):
  """Of the smallest client: in proportion where images are left out, but ten."""
  wanted = config.min_client_images
  least = min(wanted, max(10, round(wanted * chosen / available)))
  if least * config.num_clients > chosen:
    shown = "" if least == wanted else f" (of {wanted}, in proportion to the images)"
    raise ValueError(
      f"ExperimentConfig: `min_client_images` must be at most "
      f"{chosen // config.num_clients} for {chosen} images and {config.num_clients} "
      f"clients, got {least}{shown}. Lower it or `num_clients`."
    )
  return least


def _write_shards(config, dataset, images, labels, attack, malicious):
  """Partitions, poisons and writes; everything that shapes the result is in the key."""
  spec = partition.PARTITIONS[config.partition]
  settings = {name: getattr(config, name) for name in spec.settings}
  if config.partition == "dirichlet":
    settings["as_published"] = config.as_published
    settings["min_size"] = _least_images(config, len(labels), len(dataset.train_labels))
  key = {
    "images": shards.digest(images),
    "labels": shards.digest(labels),
    "partition": config.partition,
    "settings": settings,
    "num_clients": config.num_clients,
    "seed": config.seed,
    **data_attacks.key(attack),
    "malicious": [int(client) for client in np.flatnonzero(malicious)],
    "format": 1,
  }

  def clients():
    parts = spec.function(
      labels=labels,
      num_clients=config.num_clients,
      rng=np.random.default_rng([config.seed, 1]),
      **settings,
    )
    return data_attacks.poisoned(attack, parts, images, labels, malicious, config.seed)

  return shards.write(cache_folder(config), key, clients, dataset.image_shape)


def cache_folder(config: config_lib.ExperimentConfig) -> pathlib.Path:
  """Where shards lie: `cache_dir`, or a folder in the user's cache."""
  if config.cache_dir is not None:
    return pathlib.Path(config.cache_dir).expanduser()
  import os

  base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
  return pathlib.Path(base).expanduser() / "tff_defenses" / "shards"
