"""Everything that determines an experiment, in one flat frozen object."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import attacks
import models
from tff_defenses import aggregators
from tff_defenses.experiments import datasets, names, partition

OPTIMIZERS = ("adam", "sgd")
PARTICIPATIONS = ("fixed_frequency", "random")
AUX_SOURCES = ("train_holdout", "authors")
NO_ATTACK = "none"
_PLACES = ("data_dir", "output_dir", "cache_dir")  # where, not what: not hashed


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
  malicious_fraction: float = 0.1  # FLARE sec. 7.1; nobody without an attack
  malicious_first: bool = False  # FLARE: the last clients; FL-PLAS: the first
  num_byzantine: int | None = None  # what the rule is told; None: the true number
  partition: str = "iid"
  classes_per_client: int = 2  # c_sel, FLARE sec. 7.3.2 prints no number
  alpha: float = 0.2  # FL-PLAS Table 3
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
  shared_cut: str = "default"  # FL-PLAS: a name in the model's `cuts`
  max_train_images: int | None = None  # a reduced run; says so in every file
  max_test_images: int | None = None
  eval_every: int = 1
  checkpoint_every: int = 10  # ours; the last round is always saved
  seed: int = 0
  data_dir: str | None = None
  cache_dir: str | None = None
  output_dir: str = "results"

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

  def hash(self) -> str:
    """16 hex digits that differ when anything but a folder differs."""
    settings = {k: v for k, v in self.to_dict().items() if k not in _PLACES}
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def check(self) -> None:
    """Raises ConfigError that lists every fault."""
    faults = self.problems()
    if faults:
      lines = "\n".join(f"  - {fault}" for fault in faults)
      raise ConfigError(f"{len(faults)} fault(s) in the experiment:\n{lines}")

  def problems(self) -> list[str]:
    """All faults that can be seen without loading data, a sentence each."""
    faults = [*self._unknown_names(), *self._numbers_out_of_range()]
    if not faults:  # what follows relies on known names and sound numbers
      faults += [*self._clients_that_do_not_fit(), *self._data_that_do_not_fit()]
      faults += self.misfits()
    return faults

  def misfits(self) -> list[str]:
    """Why the attack makes no sense on this data set or against this defense."""
    if self.attack == NO_ATTACK:
      return []
    spec, found = attacks.ATTACKS[self.attack], []
    if spec.datasets is not None and self.dataset not in spec.datasets:
      found.append(
        f"ExperimentConfig: attack {self.attack!r} is made of images of "
        f"{', '.join(spec.datasets)}, got data set {self.dataset!r}. Choose that one."
      )
    state = "client_state" in aggregators.AGGREGATORS[self.defense].needs
    whole = spec.kind in ("training", "update")
    if state and whole and not spec.works_on_shared_layers:
      found.append(
        f"ExperimentConfig: attack {self.attack!r} replaces whole updates, which "
        f"defense {self.defense!r} does not exchange. Use a data attack."
      )
    return found

  def _unknown_names(self):
    choices = {
      "dataset": datasets.DATASETS,
      "defense": aggregators.AGGREGATORS,
      "attack": [NO_ATTACK, *attacks.ATTACKS],
      "partition": partition.PARTITIONS,
      "participation": PARTICIPATIONS,
      "optimizer": OPTIMIZERS,
      "aux_source": AUX_SOURCES,
    }
    if self.model is not None:
      choices["model"] = models.MODELS
    for field, known in choices.items():
      try:
        names.check_known("ExperimentConfig", field, getattr(self, field), known)
      except ValueError as error:
        yield str(error)

  def _numbers_out_of_range(self):
    at_least = {
      "num_clients": 1,
      "rounds": 1,
      "local_epochs": 1,
      "batch_size": 1,
      "classes_per_client": 1,
      "eval_every": 1,
      "checkpoint_every": 1,
      "aux_size": 2,
      "aux_class": 0,
      "attack_start": 1,
      "attack_stop": 1,
      "root_per_class": 1,
      "root_epochs": 1,
      "seed": 0,
      "clients_per_round": 1,
      "num_byzantine": 0,
      "max_train_images": 1,
      "max_test_images": 1,
    }
    for field, least in at_least.items():
      value = getattr(self, field)
      optional = ExperimentConfig.__dataclass_fields__[field].default is None
      if value is None and optional:
        continue
      if not isinstance(value, int) or isinstance(value, bool) or value < least:
        yield _fault(field, f"a whole number >= {least}", value)
    ranges = {
      "malicious_fraction": (0, 1, "in [0, 1]"),
      "momentum": (0, 1, "in [0, 1]"),
      "rate_decay": (1e-9, 1, "in (0, 1]"),
      "weight_decay": (0, math.inf, ">= 0"),
      "learning_rate": (1e-12, math.inf, "> 0"),
      "alpha": (1e-9, math.inf, "> 0"),
    }
    for field, (least, most, rule) in ranges.items():
      value = getattr(self, field)
      number = isinstance(value, int | float) and not isinstance(value, bool)
      if not (number and least <= value <= most and math.isfinite(value)):
        hint = " 0.8 means 80 %." if field == "malicious_fraction" else ""
        yield _fault(field, rule, value) + hint

  def _clients_that_do_not_fit(self):
    if self.num_drawn > self.num_clients:
      rule = f"at most `num_clients` ({self.num_clients})"
      yield _fault("clients_per_round", rule, self.clients_per_round)
    if self.told_byzantine > self.num_drawn:
      rule = f"at most the {self.num_drawn} clients of a round"
      yield _fault("num_byzantine", rule, self.told_byzantine)
    if (
      self.attack != NO_ATTACK
      and self.malicious_fraction > 0
      and (self.num_malicious == 0)
    ):
      rule = f"large enough for one of {self.num_clients} clients"
      yield _fault("malicious_fraction", rule, self.malicious_fraction)
    if (self.attack_stop or self.rounds) < self.attack_start:
      rule = f"at least `attack_start` ({self.attack_start})"
      yield _fault("attack_stop", rule, self.attack_stop or self.rounds)
    windowed = (self.attack_start, self.attack_stop) != (1, None)
    if windowed and attacks_kind(self.attack) == "data":
      yield (
        f"ExperimentConfig: attack {self.attack!r} poisons data once for all rounds, "
        "got `attack_start` or `attack_stop`. Use a training or update attack."
      )
    if self.num_malicious == self.num_clients:
      rule = "below 1: a benign client must be left to be scored"
      yield _fault("malicious_fraction", rule, self.malicious_fraction)
    fixed = self.participation == "fixed_frequency"
    if fixed and self.num_malicious and not self.num_malicious_drawn:
      rule = f"large enough for one of the {self.num_drawn} clients of a round"
      yield _fault("malicious_fraction", rule, self.malicious_fraction)

  def _data_that_do_not_fit(self):
    data, model = datasets.DATASETS[self.dataset], models.MODELS[self.model_name]
    if self.aux_class >= data.num_classes:
      rule = f"a class of {self.dataset}, 0..{data.num_classes - 1}"
      yield _fault("aux_class", rule, self.aux_class)
    if self.partition == "classes" and self.classes_per_client > data.num_classes:
      rule = f"at most the {data.num_classes} classes of {self.dataset}"
      yield _fault("classes_per_client", rule, self.classes_per_client)
    if self.shared_cut != "default" and self.shared_cut not in model.cuts:
      known = ", ".join(["default", *model.cuts])
      yield _fault(
        "shared_cut", f"one of {known} for {self.model_name}", self.shared_cut
      )
    if self.augment not in (None, "crop_flip"):
      yield _fault("augment", "none or crop_flip", self.augment)


def attacks_kind(attack: str) -> str | None:
  """ "data", "training" or "update"; None without an attack."""
  return None if attack == NO_ATTACK else attacks.ATTACKS[attack].kind


def _round(value: float) -> int:
  return math.floor(value + 0.5)


def _fault(field: str, rule: str, value: Any) -> str:
  return f"ExperimentConfig: `{field}` must be {rule}, got {value!r}."
