"""Less work than the papers did: fewer epochs, rounds and images, by one rule.

Symbols: s scale, E local epochs, T rounds, N training images.
"""

import dataclasses
import math

from tff_defenses.experiments import datasets
from tff_defenses.experiments.config import ConfigError, ExperimentConfig

_LEAST_ROUNDS, _LEAST_TEST_IMAGES, _LEAST_A_CLIENT = 3, 500, 20
_LEAST_SCORINGS = 5


def scaled(config: ExperimentConfig, scale: float) -> ExperimentConfig:
  """The same experiment with about s times the work; s = 1 changes nothing.

  E' = max(1, round(E s^(1/3))); of what is then left, r = s E / E', the rounds take the
  square root, T' = max(3, round(T sqrt(r))), at most T, and the training images the
  rest: N' = s E T N / (E' T'), at most N, at least 20 a client. Test images: sqrt(s) of
  them, at least 500. Scorings come so close that there are five.

  Not scaled: the warm start, which stands for a model trained beforehand and is made
  once, on all images; the auxiliary and root images; what an attack holds or does by
  itself (the images of semantic and edge-case attackers, `mal_epochs`), so that at a
  small scale these attackers train longer than honest clients.

  FLARE on Fashion-MNIST at s = 0.1: E = 5 -> 2, r = 0.25, T = 20 -> 10, N = 30,000.

  >>> flare = ExperimentConfig("fashion_mnist", rounds=20, local_epochs=5)
  >>> small = scaled(flare, 0.1)
  >>> small.local_epochs, small.rounds, small.max_train_images, small.max_test_images
  (2, 10, 30000, 3162)
  """
  check(scale)
  if scale == 1:
    return config
  images, tested = datasets.DATASETS[config.dataset].num_images
  images = min(images, config.max_train_images or images)
  tested = min(tested, config.max_test_images or tested)
  epochs = max(1, round(config.local_epochs * scale ** (1 / 3)))
  left = math.sqrt(scale * config.local_epochs / epochs)
  rounds = min(config.rounds, max(_LEAST_ROUNDS, round(config.rounds * left)))
  share = scale * config.local_epochs * config.rounds / (epochs * rounds)
  fewer = max(round(images * share), _LEAST_A_CLIENT * config.num_clients)
  return dataclasses.replace(
    config,
    local_epochs=epochs,
    rounds=rounds,
    warmup_on_all=config.warmup_on_all or config.warmup_rounds > 0,
    max_train_images=min(images, fewer),
    max_test_images=min(tested, max(_LEAST_TEST_IMAGES, round(tested * scale**0.5))),
    eval_every=min(config.eval_every, max(1, rounds // _LEAST_SCORINGS)),
  )


def check(scale: float) -> float:
  """The scale as a float; raises ConfigError unless it is in (0, 1]."""
  is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
  if not is_number or not 0 < scale <= 1:
    raise ConfigError(
      f"plan: `scale` must be in (0, 1], got {scale!r}. 0.1 is a tenth of the work."
    )
  return float(scale)
