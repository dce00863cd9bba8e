"""The only list of the defenses that exist; a new one costs a line here.

Cheap to import: builders load their file when they are called.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from tff_defenses.aggregators import checks
from tff_defenses.aggregators.spec import (
  ALL_HONEST,
  BUCKETS,
  BULYAN,
  KRUM,
  MAJORITY,
  NONE,
  ONE_HONEST,
  AggregatorSpec,
)


def load(module: str):
  """The submodule of this name."""
  return importlib.import_module(f"tff_defenses.aggregators.{module}")


def _plain(module: str, factory: str) -> Callable:
  """A builder of a factory that takes settings and nothing else."""
  return lambda given, **settings: getattr(load(module), factory)(**settings)


def _seeded(given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
  """The settings of a rule that draws: other runs draw otherwise, unless told."""
  return {"seed": given.get("seed", 0), **settings}


def _told(module: str, factory: str) -> Callable:
  """A builder of a factory whose first argument is f."""

  def build(given: Mapping[str, Any], **settings):
    return getattr(load(module), factory)(given["num_byzantine"], **settings)

  return build


def _inner(who: str, given: Mapping[str, Any], name: str, settings):
  """The factory of another defense, which is to work inside of `who`."""
  known = AGGREGATORS.items()
  at_clients = [n for n, s in known if not s.aggregates or "client_state" in s.needs]
  if name in at_clients:
    raise ValueError(
      f"{who}: `inner` must be a rule that aggregates at the server, got {name!r}. "
      "Choose for example 'krum'."
    )
  checks.check_choice(who, "inner", name, [n for n, _ in known if n not in at_clients])
  return AGGREGATORS[name].build(given, **(settings or {}))


def _fl_plas(given, *, inner="fedavg", inner_settings=None):
  return _inner("fl_plas", given, inner, inner_settings)


def _nearest_neighbour_mixing(
  given, *, inner="trimmed_mean", inner_settings=None, **settings
):
  wrapped = _inner("nearest_neighbour_mixing", given, inner, inner_settings)
  settings = {"num_byzantine": given["num_byzantine"], **settings}
  module = load("nearest_neighbour_mixing")
  return module.NearestNeighbourMixingFactory(wrapped, **settings)


def _bucketing(given, *, inner="krum", inner_settings=None, bucket_size=2, **settings):
  module = load("bucketing")
  module.check_bucket_size(bucket_size)
  num_buckets = -(-given["num_clients"] // bucket_size)  # all that `inner` sees
  wrapped = _inner(
    "bucketing", {**given, "num_clients": num_buckets}, inner, inner_settings
  )
  return module.BucketingFactory(wrapped, bucket_size, **_seeded(given, settings))


def _flame(given: Mapping[str, Any], **settings):
  return load("flame").FlameFactory(**_seeded(given, settings))


def _krum(given: Mapping[str, Any], *, num_selected: int = 1, **settings):
  byzantine, clients = given["num_byzantine"], given["num_clients"]
  if num_selected > clients:
    raise ValueError(
      f"KrumFactory: `num_selected` must be at most the {clients} updates that it sees "
      f"in a round, got {num_selected}."
    )
  return load("krum").KrumFactory(byzantine, num_selected, **settings)


def _multi_krum(given: Mapping[str, Any], **settings):
  usual = max(1, given["num_clients"] - given["num_byzantine"] - 2)
  return _krum(given, **{"num_selected": usual, **settings})


def _trimmed_mean(given: Mapping[str, Any], **settings):
  usual = max(1, given["num_byzantine"])
  return load("trimmed_mean").TrimmedMeanFactory(**{"num_trimmed": usual, **settings})


def _flare(given: Mapping[str, Any], **settings):
  split = importlib.import_module("models.split")
  plr_fn = split.plr_fn(given["model_fn"], given["auxiliary_data"])
  _ = plr_fn.width  # a model without the layer fails here, not in the first round
  return load("flare").FlareFactory(plr_fn, **settings)


def _fltrust(given: Mapping[str, Any], **settings):
  return load("fltrust").FLTrustFactory(given["root_data"], **settings)


def _spec(name, build, needs, paper, anchor, assumption, promises, summary, **more):
  words = frozenset(needs.split()), frozenset(promises.split())
  return AggregatorSpec(
    name, build, words[0], paper, anchor, assumption, words[1], summary, **more
  )


_EQUAL, _HUGE, _ODD = "returns_equal_clients", " resists_huge_client", " is_odd"

_SPECS = (
  _spec(
    "fedavg",
    _plain("mean", "FiniteMeanFactory"),
    "",
    "McMahan et al. 2017",
    "mean",
    ALL_HONEST,
    _EQUAL + _ODD,
    "mean of the finite updates",
  ),
  _spec(
    "krum",
    _krum,
    "num_byzantine",
    "Blanchard et al. 2017",
    "FL-PLAS Eq. (4)",
    KRUM,
    _EQUAL + _HUGE + _ODD,
    "the update closest to its neighbours",
  ),
  _spec(
    "multi_krum",
    _multi_krum,
    "num_byzantine",
    "Blanchard et al. 2017",
    "Sec. 4",
    KRUM,
    _EQUAL + _HUGE + _ODD,
    "mean of the n - f - 2 updates of best Krum score",
  ),
  _spec(
    "median",
    _plain("median", "CoordinateMedianFactory"),
    "",
    "Yin et al. 2018",
    "definition 1",
    MAJORITY,
    _EQUAL + _HUGE + _ODD,
    "median of each coordinate",
  ),
  _spec(
    "trimmed_mean",
    _trimmed_mean,
    "num_byzantine",
    "Yin et al. 2018",
    "definition 2",
    MAJORITY,
    _EQUAL + _HUGE + _ODD,
    "mean of each coordinate without its f largest and smallest values",
  ),
  _spec(
    "bulyan",
    _told("bulyan", "BulyanFactory"),
    "num_byzantine",
    "El Mhamdi et al. 2018",
    "Sec. 4",
    BULYAN,
    _EQUAL + _HUGE + _ODD,
    "n - 2f picks of Krum, then a mean close to their median",
  ),
  _spec(
    "fltrust",
    _fltrust,
    "root_data global_weights",
    "Cao et al. 2021",
    "Eq. (2)-(4)",
    ONE_HONEST,
    "",
    "updates of one norm, weighted by their cosine with the server's own",
  ),
  _spec(
    "flame",
    _flame,
    "global_weights",
    "Nguyen et al. 2022",
    "Algorithm 1",
    MAJORITY,
    "",
    "the largest cluster of directions, clipped to the median norm, with noise",
  ),
  _spec(
    "rsa",
    _plain("rsa", "RsaFactory"),
    "",
    "Li et al. 2019",
    "FL-PLAS Eq. (1)",
    MAJORITY,
    _ODD,
    "a small step along the mean of the signs",
  ),
  _spec(
    "norm_clipping",
    _plain("norm_clipping", "NormClippingFactory"),
    "",
    "Sun et al. 2019",
    "FL-PLAS Eq. (2)",
    NONE,
    _EQUAL + _ODD,
    "mean of the updates clipped to a norm (NDC)",
  ),
  _spec(
    "centered_clipping",
    _plain("centered_clipping", "CenteredClippingFactory"),
    "",
    "Karimireddy et al. 2021",
    "centered clipping",
    MAJORITY,
    _ODD,
    "mean of steps of bounded length from the last result",
  ),
  _spec(
    "geometric_median",
    _plain("geometric_median", "GeometricMedianFactory"),
    "",
    "Pillutla et al. 2022",
    "smoothed Weiszfeld",
    MAJORITY,
    _EQUAL + _ODD,
    "the point of least summed distance to all updates (RFA)",
  ),
  _spec(
    "foolsgold",
    _plain("foolsgold", "FoolsGoldFactory"),
    "",
    "Fung et al. 2020",
    "Algorithm 1",
    ONE_HONEST,
    _ODD,
    "less weight for clients whose past updates resemble each other's",
  ),
  _spec(
    "lfighter",
    _plain("lfighter", "LFighterFactory"),
    "",
    "Jebreel et al. 2024",
    "Algorithm 1",
    MAJORITY,
    _EQUAL + _ODD,
    "the denser of two clusters of output-layer updates",
  ),
  _spec(
    "flare",
    _flare,
    "auxiliary_data global_weights",
    "Wang et al. 2022",
    "Eq. (4)-(6)",
    MAJORITY,
    _EQUAL,
    "trust by how close the clients' penultimate representations are",
  ),
  _spec(
    "fl_plas",
    _fl_plas,
    "client_state",
    "FL-PLAS",
    "Eq. (8)-(9)",
    NONE,
    _EQUAL + _ODD,
    "only the feature extractor is averaged; clients keep their classifiers",
  ),
  _spec(
    "local",
    lambda given: None,
    "client_state",
    "baseline",
    "FL-PLAS with no layer shared",
    NONE,
    "",
    "nothing is shared; each client trains alone",
    aggregates=False,
  ),
  _spec(
    "nearest_neighbour_mixing",
    _nearest_neighbour_mixing,
    "num_byzantine",
    "Allouah et al. 2023",
    "NNM",
    MAJORITY,
    _EQUAL + _ODD,
    "each update replaced by the mean of its neighbours, before any other rule",
  ),
  _spec(
    "bucketing",
    _bucketing,
    "num_byzantine",
    "Karimireddy et al. 2022",
    "Algorithm 1",
    BUCKETS,
    _EQUAL + _ODD,
    "means of random buckets of updates, before any other rule",
  ),
)

AGGREGATORS: dict[str, AggregatorSpec] = {spec.name: spec for spec in _SPECS}
if len(AGGREGATORS) < len(_SPECS):
  raise ValueError("AGGREGATORS: two entries have the same name.")
