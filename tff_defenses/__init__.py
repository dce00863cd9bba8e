"""Byzantine- and backdoor-robust federated learning for TensorFlow Federated.

`import tff_defenses as td` is cheap: a name is loaded with its module when it is first
used, so that command lines and tables need not wait for TensorFlow Federated.
"""

import importlib

_AGGREGATORS = {  # module -> names
  "base": ("ModelAwareFactory",),
  "bucketing": ("BucketingFactory",),
  "bulyan": ("BulyanFactory",),
  "centered_clipping": ("CenteredClippingFactory",),
  "flame": ("FlameFactory",),
  "flare": ("FlareFactory",),
  "fltrust": ("FLTrustFactory",),
  "foolsgold": ("FoolsGoldFactory",),
  "geometric_median": ("GeometricMedianFactory",),
  "krum": ("KrumFactory",),
  "lfighter": ("LFighterFactory",),
  "mean": ("FiniteMeanFactory",),
  "median": ("CoordinateMedianFactory",),
  "nearest_neighbour_mixing": ("NearestNeighbourMixingFactory",),
  "norm_clipping": ("NormClippingFactory",),
  "partial": ("PartialAggregationFactory",),
  "rsa": ("RsaFactory",),
  "tracking": ("track_global_weights",),
  "trimmed_mean": ("TrimmedMeanFactory",),
}
_WHERE = {
  "AGGREGATORS": "tff_defenses.aggregators",
  "build_fed_avg": "tff_defenses.learning.fed_avg",
  "build_fl_plas": "tff_defenses.learning.fl_plas",
  "build_local": "tff_defenses.learning.local",
  "build_root_update_fn": "tff_defenses.learning.root_training",
  "build_rsa": "tff_defenses.learning.rsa_process",
  **{n: f"tff_defenses.aggregators.{m}" for m, ns in _AGGREGATORS.items() for n in ns},
}
_SUBPACKAGES = ("aggregators", "experiments", "learning", "runtime")

__all__ = [*_WHERE, *_SUBPACKAGES]
__version__ = "0.1.0"


def __getattr__(name: str):
  if name in _SUBPACKAGES:
    return importlib.import_module(f"tff_defenses.{name}")
  if name in _WHERE:
    return getattr(importlib.import_module(_WHERE[name]), name)
  raise AttributeError(f"module 'tff_defenses' has no attribute {name!r}")


def __dir__():
  return sorted([*globals(), *__all__])
