"""Everything that determines an experiment, in one flat frozen object."""

import dataclasses
import hashlib
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import models
from tff_defenses.experiments import config_checks, file_digest
from tff_defenses.experiments.config_checks import NO_ATTACK, attacks_kind
from tff_defenses.experiments.errors import fault_list

__all__ = ["NO_ATTACK", "ConfigError", "ExperimentConfig", "attacks_kind"]

PLACES = ("data_dir", "output_dir", "cache_dir")  # where, not what: not hashed
_LATER = {  # what was done before
  **{"min_client_images": 10, "warmup_on_all": False},
  **{"moving_statistics": "mean", "eval_clients": "all", "warmup_pooled": False},
}
# Raise it with a change that gives other results for the same settings: runs made
# before then have another hash, and no table counts them.
RECIPE = 1


class ConfigError(ValueError):
  """A config with faults; the message lists all of them."""


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
  """One run: one defense against one attack on one federation.

  Fractions are in [0, 1]. `None` means: as the dataset, the model or the number of
  malicious clients says.
  """

  dataset: str = "mnist5k"
  model: str | None = None  # None: the first model made for the data set
  defense: str = "fedavg"
  defense_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  attack: str = NO_ATTACK
  attack_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  attack_start: int = 1  # first round in which malicious clients attack
  attack_stop: int | None = None  # last such round; None: to the end
  num_clients: int = 10  # FLARE sec. 6.1
  clients_per_round: int | None = None  # None: all (FLARE); FL-PLAS: 30 of 100
  participation: str = "fixed_frequency"  # share of malicious clients a round
  malicious_fraction: float = 0.1  # FLARE sec. 6.1; nobody without an attack
  malicious_first: bool = False  # FLARE: the last clients; FL-PLAS: the first
  num_byzantine: int | None = None  # what the rule is told; None: the true number
  partition: str = "iid"
  classes_per_client: int = 2  # c_sel, FLARE sec. 7.3.2 prints no number
  alpha: float = 0.2  # FL-PLAS sec. 6.1
  min_client_images: int = 10  # of a Dirichlet split; FL-PLAS's code: MNIST 100
  as_published: bool = False  # FL-PLAS's released Dirichlet split
  rounds: int = 20  # FLARE sec. 6.1
  local_epochs: int = 5  # FLARE sec. 6.1; FL-PLAS: 1
  batch_size: int = 32
  drop_remainder: bool = False  # FL-PLAS's code drops a client's incomplete batch
  augment: str | None = None  # "crop_flip": FL-PLAS on CIFAR
  optimizer: str = "adam"
  learning_rate: float = 1e-3  # FLARE sec. 6.1
  momentum: float = 0.0
  weight_decay: float = 0.0
  rate_decay: float = 1.0  # FL-PLAS Table 3: 0.998
  aux_class: int = 1  # FLARE's code
  aux_size: int = 10  # m, FLARE sec. 6.1
  aux_source: str = "train_holdout"
  root_per_class: int = 10  # FLTrust's root data; FL-PLAS's code. Held out in any case
  root_epochs: int | None = None  # None: as many as local_epochs
  pretrain_on_aux: bool = True  # FLARE sec. 5.2; the same start for every defense
  warmup_rounds: int = 0  # ours for FL-PLAS's unpublished pre-training: clean FedAvg
  warmup_on_all: bool = False  # with all images, also where `max_train_images` is set
  warmup_pooled: bool = False  # by passes over all clients' images put together
  pretrained_file: str | None = None  # start of FL-PLAS sec. 6.2.1; see `weight_files`
  measure: str | None = None  # "extractor_swap": FL-PLAS Table 2
  moving_statistics: str = "mean"  # of BatchNorm; or "authors": FL-PLAS's code
  eval_clients: str = "all"  # FL-PLAS: benign models scored; or "sampled": a round's
  shared_cut: str = "default"  # FL-PLAS: a name in the model's `cuts`
  max_train_images: int | None = None  # a reduced run; says so in every file
  max_test_images: int | None = None
  eval_every: int = 1
  checkpoint_every: int = 1  # ours: a broken-off run goes on from its last round
  seed: int = 0
  data_dir: str | None = None
  cache_dir: str | None = None
  output_dir: str = "results"

  def __post_init__(self):
    if self.augment == "none":  # as flags write it: takes back a preset's
      object.__setattr__(self, "augment", None)

  @property
  def model_name(self) -> str:
    """The model, found by the data set if none is given."""
    if self.model is not None:
      return self.model
    fitting = [n for n, spec in models.MODELS.items() if self.dataset in spec.datasets]
    first = [n for n in fitting if models.MODELS[n].datasets[0] == self.dataset]
    preferred = {"mnist5k": "lenet", "cifar10": "cifar_cnn"}
    return preferred.get(self.dataset, (first or fitting)[0])

  @property
  def num_malicious(self) -> int:
    """Malicious clients in the federation; 0 without an attack."""
    if self.attack == NO_ATTACK:
      return 0
    return _round(self.malicious_fraction * self.num_clients)

  @property
  def num_drawn(self) -> int:
    """Clients a round."""
    return self.clients_per_round or self.num_clients

  @property
  def malicious_clients(self) -> tuple[int, ...]:
    """Indices of the malicious clients."""
    if self.malicious_first:
      return tuple(range(self.num_malicious))
    return tuple(range(self.num_clients - self.num_malicious, self.num_clients))

  @property
  def num_malicious_drawn(self) -> int:
    """Malicious clients a round under fixed frequency."""
    if self.num_drawn == self.num_clients:
      return self.num_malicious
    if self.attack == NO_ATTACK:
      return 0
    wanted = _round(self.malicious_fraction * self.num_drawn)
    return min(wanted, self.num_malicious)

  @property
  def pauses(self) -> bool:
    """Whether there may be rounds without the attack."""
    return self.attack_start > 1 or self.attack_stop is not None

  def attacks_in(self, round_number: int) -> bool:
    """Whether malicious clients attack in this round."""
    stop = math.inf if self.attack_stop is None else self.attack_stop
    return self.attack_start <= round_number <= stop

  @property
  def told_byzantine(self) -> int:
    """f, the number of malicious clients a round that the rule is told."""
    if self.num_byzantine is not None:
      return self.num_byzantine
    return self.num_malicious_drawn

  @property
  def is_reduced(self) -> bool:
    """Whether data were left out."""
    return self.max_train_images is not None or self.max_test_images is not None

  def to_dict(self) -> dict[str, Any]:
    """All settings as JSON values."""
    values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    values["model"] = self.model_name
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}

  def settings(self) -> dict[str, Any]:
    """`to_dict` without the folders and what is newer than published runs.

    Of `pretrained_file` the content, not the name. A setting that came later is left
    out where it says what was done before, so that older runs keep their hash.
    """
    settings = {k: v for k, v in self.to_dict().items() if k not in PLACES}
    for name, before in _LATER.items():
      if settings[name] == before:
        del settings[name]
    if RECIPE > 1:
      settings["recipe"] = RECIPE
    if self.pretrained_file is not None:
      settings["pretrained_file"] = _digest(self.pretrained_file)
    return settings

  def hash(self) -> str:
    """16 hex digits that differ when anything but a folder differs."""
    text = json.dumps(self.settings(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  @property
  def folder_name(self) -> str:
    """Of the run's folder, where several runs lie side by side."""
    return f"{self.dataset}-{self.defense}-{self.attack}-{self.hash()}"

  def check(self) -> None:
    """Raises ConfigError that lists every fault."""
    faults = self.problems()
    if faults:
      raise ConfigError(fault_list(faults, "in the experiment"))

  def problems(self) -> list[str]:
    """All faults that can be seen without loading data, a sentence each."""
    return config_checks.problems(self)

  def misfits(self) -> list[str]:
    """Why the attack makes no sense on this data set or against this defense."""
    return config_checks.misfits(self)


def _digest(file: str) -> str:
  """What a file holds, not where it lies; the name of one that is not there."""
  path = pathlib.Path(file).expanduser()
  if not path.is_file():
    return file
  return "sha256:" + file_digest.sha256(path)  # asked for by every look at a run


def _round(value: float) -> int:
  return math.floor(value + 0.5)
