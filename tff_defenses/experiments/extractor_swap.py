"""Does a backdoor sit in the feature extractor or in the classifier?

Reference: FL-PLAS Sec. 5.1, Table 2: the extractors and classifiers of a clean and of a
backdoored model, put together in all four ways.
"""

import dataclasses
from typing import Any

import tensorflow_federated as tff

from models import split
from tff_defenses.experiments import federation as federation_lib
from tff_defenses.experiments.config import NO_ATTACK, ConfigError, ExperimentConfig
from tff_defenses.experiments.federation import Federation
from tff_defenses.experiments.global_trainer import GlobalTrainer

KINDS = ("clean", "backdoor")


class SwapTrainer(GlobalTrainer):
  """Trains a clean and a backdoored global model side by side and swaps their parts.

  Both start from the same weights and train on the same clients in the same order, the
  clean one on their data before they were poisoned. The cut is FL-PLAS's
  (`shared_cut`). The states are (the backdoored model's, [the clean model's]); the
  metrics of a round, its times and its traffic are those of the backdoored one.

  Raises:
    ConfigError: the attack has no backdoored images to score.

  Deviations: the paper trains one model of each kind and does not say how; here both
    are trained by the experiment's defense, FedAvg unless another is chosen.
  """

  def __init__(self, config: ExperimentConfig, fed: Federation, initial_weights):
    if fed.backdoor_images is None:
      raise ConfigError(
        "ExperimentConfig: `measure` 'extractor_swap' needs an attack with backdoored "
        f"images to score, and {config.attack!r} has none. Use for example 'trigger'."
      )
    super().__init__(config, fed, initial_weights)
    clean = dataclasses.replace(
      config,
      attack=NO_ATTACK,
      attack_settings={},
      num_byzantine=config.told_byzantine,  # the same rule for both
    )
    self.clean = GlobalTrainer(clean, federation_lib.build(clean), initial_weights)

  def start(self, runtime, **call) -> tuple[Any, list]:
    backdoored, _ = super().start(runtime, **call)
    clean, _ = self.clean.start(runtime, **call)
    return backdoored, [clean]

  def step(self, runtime, states, round_number, drawn, **call):
    backdoored, (clean,) = states
    place = round_number, drawn
    (clean, _), _ = self.clean.step(runtime, (clean, []), *place, **call)
    (backdoored, _), metrics = super().step(runtime, (backdoored, []), *place, **call)
    return (backdoored, [clean]), metrics

  def score(self, states) -> dict[str, float]:
    """Metrics of the backdoored model, and of all four put together.

    Those are called `swap_<clean|backdoor>_extractor_<clean|backdoor>_classifier_` and
    `accuracy`, `backdoor_accuracy` or `backdoor_accuracy_nontarget`.
    """
    backdoored, (clean,) = states
    weights = {
      "clean": clean.global_model_weights,
      "backdoor": backdoored.global_model_weights,
    }
    swapped = {}
    for extractor in KINDS:
      for classifier in KINDS:
        mixed = self.swapped(weights[extractor], weights[classifier])
        prefix = f"swap_{extractor}_extractor_{classifier}_classifier"
        scores = self.scorer.score_global(mixed)
        swapped.update({f"{prefix}_{name}": value for name, value in scores.items()})
    return {**scores, **swapped}  # the last are the backdoored model's own

  def swapped(self, extractor, classifier) -> tff.learning.models.ModelWeights:
    """The shared layers of one model and the others of another, statistics included."""
    patterns = federation_lib.shared_layers(self.config)
    model = self.keras_fn()
    trainable = split.trainable_names(model)
    shared_layers = {
      split.layer_of(name)
      for name, shared in zip(
        trainable, split.is_shared(trainable, patterns), strict=True
      )
      if shared
    }

    def mix(names, ours, others):
      return [
        one if split.layer_of(name) in shared_layers else other
        for name, one, other in zip(names, ours, others, strict=True)
      ]

    return tff.learning.models.ModelWeights(
      mix(trainable, extractor.trainable, classifier.trainable),
      mix(
        split.non_trainable_names(model),
        extractor.non_trainable,
        classifier.non_trainable,
      ),
    )
