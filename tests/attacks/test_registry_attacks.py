"""The registry of attacks: entries, threat models, and what importing it costs."""

import dataclasses
import inspect
import re
import subprocess
import sys

import pytest

from attacks import ATTACKS, KINDS, SIGHTS, AttackSpec
from attacks.data.trigger import TriggerAttack


def spec(**changes):
  return dataclasses.replace(ATTACKS["trigger"], **changes)


@pytest.mark.parametrize("name", ATTACKS)
def test_entry_is_complete(name):
  found = ATTACKS[name]
  assert found.name == name and found.kind in KINDS
  assert found.sees and found.sees <= SIGHTS
  assert found.paper and found.anchor and found.summary
  assert callable(found.build)


def test_data_attacks_see_their_own_data_only():
  for found in ATTACKS.values():
    if found.kind == "data":
      assert found.sees == {"own_data"}


def test_training_attacks_that_see_benign_updates_are_the_white_box_ones():
  training = {name: s for name, s in ATTACKS.items() if s.kind == "training"}
  seeing = {name for name, s in training.items() if "benign_updates" in s.sees}
  assert seeing == {"krum_backdoor", "plr_matching"}


def test_trigger_is_built_from_its_settings():
  built = ATTACKS["trigger"].build(pattern="square", target_label=2, fraction=0.5)
  assert built == TriggerAttack("square", 2, 0.5)
  assert ATTACKS["trigger"].build() == TriggerAttack()


@pytest.mark.parametrize("name", ATTACKS)
def test_help_of_an_entry_lists_its_settings(name):
  source = ATTACKS[name].build.source
  classes = inspect.getmro(source) if inspect.isclass(source) else [source]
  text = "\n".join(inspect.getdoc(c) for c in classes)
  for setting in inspect.signature(source).parameters:
    assert re.search(rf"^  (.*, |\*\*)?{setting}(, .*)?: ", text, re.M), setting


def test_unknown_setting_raises_with_its_name():
  with pytest.raises(TypeError, match="fractoin"):
    ATTACKS["trigger"].build(fractoin=0.5)


def test_unknown_kind_raises():
  with pytest.raises(
    ValueError, match="AttackSpec trigger: `kind` must be one of data"
  ):
    spec(kind="datum")


def test_unknown_sight_raises_with_its_name():
  with pytest.raises(ValueError, match="`sees` must be among .* got everything"):
    spec(sees={"own_data", "everything"})


@pytest.mark.parametrize(
  ("name", "word", "rule"),
  [
    ("trigger", "num_clients", "empty"),
    ("scaling", "shapes", "among benign_epochs, images"),
    ("min_max", "images", "among num_clients, num_malicious, rule, shapes"),
  ],
)
def test_a_need_that_is_not_supplied_to_the_kind_raises(name, word, rule):
  message = f"AttackSpec {name}: `needs` of a .* must be {rule}.*, got {word}. "
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(ATTACKS[name], needs={word})


def test_entries_cannot_be_changed_by_accident():
  assert isinstance(spec(sees={"own_data"}).sees, frozenset)
  with pytest.raises(dataclasses.FrozenInstanceError):
    ATTACKS["trigger"].kind = "update"
  assert isinstance(ATTACKS["trigger"], AttackSpec)


def test_registry_and_trigger_import_no_tensorflow():
  code = (
    "import sys; from attacks import ATTACKS; early = 'attacks.data' in sys.modules; "
    "ATTACKS['trigger'].build(); "
    "print(len(ATTACKS), early, any(m.startswith('tensorflow') for m in sys.modules))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == [str(len(ATTACKS)), "False", "False"]
