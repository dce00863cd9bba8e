"""What a training attack wants misread: its targets, D_mal."""

import numpy as np

import attacks
from tff_defenses.aggregators import checks
from tff_defenses.experiments import config as config_lib
from tff_defenses.experiments import datasets

# Settings of an attack that say what is attacked, not how.
SETTINGS = (
  "kind",
  "num_targets",
  "source_class",
  "target_class",
  "target_source",
  "trigger_value",
)


def choose(config, shared, test):
  """D_mal of a training attack; None without one.

  Its setting `target_source` says where from: "train" (FLARE), the images that clients
  share, or "test" (Bhagoji et al.), a random test image with a random wrong label.

  Args:
    config: Names the attack.
    shared, test: (images, labels).

  Raises:
    ConfigError: a class is none of the data set's. ValueError: another setting is
      outside its range, or the images do not suffice.
  """
  if config_lib.attacks_kind(config.attack) != "training":
    return None
  if "images" not in attacks.ATTACKS[config.attack].needs:
    return None
  from attacks.training import targets

  given = config.attack_settings.items()
  settings = {name: value for name, value in given if name in SETTINGS}
  source = settings.pop("target_source", "train")
  checks.check_choice(config.attack, "target_source", source, targets.SOURCES)
  _check_classes(config, settings)
  if source == "train":
    return targets.choose(*shared, **settings)
  taken = sorted({"source_class", "target_class"} & set(settings))
  if taken:
    raise ValueError(
      f"{config.attack}: `{taken[0]}` must be left out with `target_source` 'test', "
      f"which draws both classes, got {settings[taken[0]]!r}."
    )
  classes = datasets.DATASETS[config.dataset].num_classes
  rng = np.random.default_rng([config.seed, 6])
  return targets.draw(*test, classes, rng, **settings)


def _check_classes(config, settings):
  """A label beyond the model's outputs would fail in a worker, in the first round."""
  classes = datasets.DATASETS[config.dataset].num_classes
  for name in sorted({"source_class", "target_class"} & set(settings)):
    if not checks.is_whole(settings[name]) or not 0 <= settings[name] < classes:
      raise config_lib.ConfigError(
        f"ExperimentConfig: `attack_settings` must have `{name}` in 0..{classes - 1}, "
        f"the classes of {config.dataset}, got {settings[name]!r}. Choose one of them."
      )
