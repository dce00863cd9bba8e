"""What a registry's builder refuses is told as the setting that it is, or is not."""

import dataclasses

import pytest

from attacks.data import base
from tff_defenses.experiments.config import ConfigError
from tff_defenses.experiments.registry_calls import call_builder


@dataclasses.dataclass(frozen=True)
class Unfinished(base.DataAttack):
  """An attack whose author forgot `test_set`."""

  fraction: float = 1.0
  target = 0

  def poison(self, images, labels, seed, client_index=0, malicious_index=0):
    return images, labels


class Finished(Unfinished):
  """The same, whole."""

  def test_set(self, images, labels):
    return None


def test_settings_reach_the_builder():
  assert call_builder("attack_settings", "mine", Finished, fraction=0.5).fraction == 0.5


def test_unknown_setting_is_told_with_the_field_and_the_entry():
  message = "`attack_settings` must be settings that mine takes: .*'fractoin'"
  with pytest.raises(ConfigError, match=message):
    call_builder("attack_settings", "mine", Finished, fractoin=0.5)


def test_a_missing_method_is_not_blamed_on_the_settings():
  with pytest.raises(TypeError, match="^Can't instantiate .* Unfinished .* test_set"):
    call_builder("attack_settings", "mine", Unfinished)
