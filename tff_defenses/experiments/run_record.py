"""What config.json of a run's folder says; read where TensorFlow is not."""

from typing import Any

import tff_defenses
from tff_defenses.experiments import threat_model
from tff_defenses.experiments.config import ExperimentConfig


def describe(config: ExperimentConfig) -> dict[str, Any]:
  """Content of config.json: version, settings, their hash and the threat model.

  Places are left out: the same run has the same files wherever it is made.
  """
  return {
    "version": tff_defenses.__version__,
    "config_hash": config.hash(),
    **config.settings(),
    "reduced": config.is_reduced,
    "threat_model": threat_model.record(config),
  }
