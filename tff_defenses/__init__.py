"""Byzantine- and backdoor-robust federated learning for TensorFlow Federated.

`import tff_defenses as td` is cheap: a name is loaded with its module when it is first
used, so that command lines and tables need not wait for TensorFlow Federated.
"""

import importlib

_WHERE = {
  "AGGREGATORS": "tff_defenses.aggregators",
  "FiniteMeanFactory": "tff_defenses.aggregators.mean",
  "FlareFactory": "tff_defenses.aggregators.flare",
  "KrumFactory": "tff_defenses.aggregators.krum",
  "ModelAwareFactory": "tff_defenses.aggregators.base",
  "PartialAggregationFactory": "tff_defenses.aggregators.partial",
  "build_fed_avg": "tff_defenses.learning.fed_avg",
  "build_fl_plas": "tff_defenses.learning.fl_plas",
  "track_global_weights": "tff_defenses.aggregators.base",
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
