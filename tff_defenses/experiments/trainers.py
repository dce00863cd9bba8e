"""The kinds of training behind one interface: a global model, personal ones, a pair."""

from tff_defenses import aggregators
from tff_defenses.experiments import starts
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.extractor_swap import SwapTrainer
from tff_defenses.experiments.federation import Federation
from tff_defenses.experiments.global_trainer import GlobalTrainer
from tff_defenses.experiments.personal_trainers import LocalTrainer, PersonalTrainer

__all__ = ["GlobalTrainer", "LocalTrainer", "PersonalTrainer", "SwapTrainer", "build"]


def build(
  config: ExperimentConfig, fed: Federation, runtime, **watching
) -> GlobalTrainer:
  """Builds what the defense and the measurement need, from the common start.

  Args:
    config: Checked.
    fed: Built from it.
    runtime: Trains the start, if the config asks for that.
    **watching: `progress` and `round_seconds` of `starts.initial_weights`.

  Raises:
    ConfigError: settings do not fit the defense or the attack. DataError: the start
      cannot be read. OutputError: it cannot be kept.
  """
  weights = starts.initial_weights(config, fed, runtime, **watching)
  return _kind(config)(config, fed, weights)


def _kind(config):
  if config.measure == "extractor_swap":
    return SwapTrainer
  spec = aggregators.AGGREGATORS[config.defense]
  if "client_state" not in spec.needs:
    return GlobalTrainer
  return PersonalTrainer if spec.aggregates else LocalTrainer
