"""Calls of the registries' builders with settings that a user gave."""

from collections.abc import Callable

from tff_defenses.experiments.config import ConfigError


def call_builder(field: str, name: str, builder: Callable, *args, **settings):
  """Calls a registry's builder.

  Raises:
    ConfigError: the entry `name` does not take such settings; names the config's field.
    TypeError: the entry's class lacks methods, whatever the settings.
  """
  try:
    return builder(*args, **settings)
  except TypeError as error:
    if "abstract class" in str(error):  # no setting mends that
      raise
    raise ConfigError(
      f"ExperimentConfig: `{field}` must be settings that {name} takes: {error}."
    ) from error
