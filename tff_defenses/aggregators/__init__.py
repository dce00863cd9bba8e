"""The defenses, one a file, and the only list of what exists.

Importing this module is cheap: builders load their file when they are called. The
submodules of `td.aggregators` load on first use.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

NEEDS = frozenset(
  {
    "auxiliary_data",
    "root_data",
    "client_state",
    "global_weights",
    "num_byzantine",
  }
)


@dataclasses.dataclass(frozen=True)
class AggregatorSpec:
  """One defense.

  Attributes:
    name: Its key in `AGGREGATORS`.
    build: `build(given, **settings)` -> factory. `given` maps each need to what the
      harness supplies: "auxiliary_data": images [m, H, W, C] (with "model_fn" beside
      it, see `models.split.plr_fn`); "num_byzantine": f (with "num_clients" beside it).
    needs: A subset of `NEEDS`.
    paper: Who proposed it.
    anchor: Its equation or algorithm in FLARE or FL-PLAS, or in its own paper.
    assumption: What its guarantee asks for.
    summary: One line.
  """

  name: str
  build: Callable[..., Any]
  needs: frozenset[str]
  paper: str
  anchor: str
  assumption: str
  summary: str

  def __post_init__(self):
    unknown = sorted(self.needs - NEEDS)
    if unknown:
      raise ValueError(f"AggregatorSpec {self.name}: unknown needs {unknown}.")


def _load(module: str):
  return importlib.import_module(f"tff_defenses.aggregators.{module}")


def _fedavg(given: Mapping[str, Any], **settings):
  del given
  return _load("mean").FiniteMeanFactory(**settings)


def _fl_plas(given: Mapping[str, Any], *, inner: str = "fedavg", **settings):
  return AGGREGATORS[inner].build(given, **settings)


def _krum(given: Mapping[str, Any], *, num_selected: int = 1, **settings):
  byzantine, clients = given["num_byzantine"], given["num_clients"]
  if num_selected > clients:
    raise ValueError(
      f"KrumFactory: `num_selected` must be at most the {clients} clients of a round, "
      f"got {num_selected}."
    )
  return _load("krum").KrumFactory(byzantine, num_selected, **settings)


def _multi_krum(given: Mapping[str, Any], **settings):
  usual = max(1, given["num_clients"] - given["num_byzantine"] - 2)
  return _krum(given, **{"num_selected": usual, **settings})


def _flare(given: Mapping[str, Any], **settings):
  split = importlib.import_module("models.split")
  plr_fn = split.plr_fn(given["model_fn"], given["auxiliary_data"])
  _ = plr_fn.width  # a model without the layer fails here, not in the first round
  return _load("flare").FlareFactory(plr_fn, **settings)


_SPECS = (
  AggregatorSpec(
    "fedavg",
    _fedavg,
    frozenset(),
    "McMahan et al. 2017",
    "mean",
    "all clients honest",
    "mean of the finite updates",
  ),
  AggregatorSpec(
    "krum",
    _krum,
    frozenset({"num_byzantine"}),
    "Blanchard et al. 2017",
    "FL-PLAS Eq. (4)",
    "n >= 2f + 3",
    "the update closest to its neighbours",
  ),
  AggregatorSpec(
    "multi_krum",
    _multi_krum,
    frozenset({"num_byzantine"}),
    "Blanchard et al. 2017",
    "Sec. 4",
    "n >= 2f + 3",
    "mean of the n - f - 2 updates of best Krum score",
  ),
  AggregatorSpec(
    "flare",
    _flare,
    frozenset({"auxiliary_data", "global_weights"}),
    "Wang et al. 2022",
    "Eq. (4)-(6)",
    "honest majority",
    "trust by how close the clients' penultimate representations are",
  ),
  AggregatorSpec(
    "fl_plas",
    _fl_plas,
    frozenset({"client_state"}),
    "FL-PLAS",
    "Eq. (8)-(9)",
    "none on the number of malicious clients",
    "only the feature extractor is averaged; clients keep their classifiers",
  ),
)

AGGREGATORS: dict[str, AggregatorSpec] = {spec.name: spec for spec in _SPECS}


def __getattr__(name: str):
  if name.startswith("_"):
    raise AttributeError(name)
  try:
    return _load(name)
  except ModuleNotFoundError:
    raise AttributeError(f"tff_defenses.aggregators has no {name!r}") from None
