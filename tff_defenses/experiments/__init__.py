"""The harness: data, partitions, shards, runs, metrics, reports and plots.

Importing this package is cheap; a name is loaded with its module when it is first used.
"""

import importlib
import importlib.util

_WHERE = {
  "ConfigError": "config",
  "DataError": "errors",
  "ExperimentConfig": "config",
  "OutputError": "errors",
  "expand": "grid_settings",
  "plan": "reproduction",
}

__all__ = list(_WHERE)


def __getattr__(name: str):
  if name in _WHERE:
    module = importlib.import_module(f"tff_defenses.experiments.{_WHERE[name]}")
    return getattr(module, name)
  path = f"tff_defenses.experiments.{name}"
  if name.startswith("_") or importlib.util.find_spec(path) is None:
    raise AttributeError(f"module 'tff_defenses.experiments' has no {name!r}")
  return importlib.import_module(path)
