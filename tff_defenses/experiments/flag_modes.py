"""Which flags of the command line are heeded in which of its modes.

A flag that would change nothing is refused: whoever gives it expects that it does.
"""

from collections.abc import Mapping
from typing import Any

QUICK_START = "the quick start"
RUNS = "runs"
_HEEDED = {  # None: all flags
  "list": (),
  "check_env": (),
  "report": (),
  "reproduce": None,  # what does not narrow the table is refused with the table's name
  QUICK_START: ("output_dir", "cache_dir", "workers", "dry_run"),
  RUNS: None,
}
# Flags of --reproduce, and what does their work without it.
_OF_REPRODUCE = {
  "scale": "Presets are shrunk by --max_train_images and --rounds.",
  "rows": "Runs are chosen by --dataset, --defense, --attack and settings.",
  "variants": "Another reading of a rule or an attack is chosen by --defense_settings "
  "or --attack_settings.",
  "from_scratch": "Presets start from random weights with --warmup_rounds=0.",
}
_NAMING = {
  "report": "an output folder",
  "workers": "a worker, host:port",
  "data_dir": "a folder",
  "cache_dir": "a folder",
  "output_dir": "a folder",
}
_POSITIVE = ("round_seconds",)
_SHOWN = {"resume": "noresume"}


def mode(given: Mapping[str, Any], chooses_runs: bool) -> str:
  """What the flags ask for: a flag's name, `QUICK_START` or `RUNS`.

  Args:
    given: Flags that differ from their defaults.
    chooses_runs: Whether a preset or settings are among them.

  Raises:
    ValueError: a flag is not heeded, names nothing where it must, or is no limit.
  """
  asked = [name for name in _HEEDED if name in given]
  found = asked[0] if asked else RUNS if chooses_runs else QUICK_START
  if not asked:
    _refuse_those_of_reproduce(given)
  _refuse_unheeded(found, [name for name in given if name != found])
  for name in given:
    if name in _NAMING and not given[name]:
      raise ValueError(
        f"--{name} must name {_NAMING[name]}, got nothing. Write it after the equals "
        "sign, or leave the flag out."
      )
    if name in _POSITIVE and not given[name] > 0:
      raise ValueError(
        f"--{name} must be > 0, got {given[name]:g}. Leave it out for no limit."
      )
  return found


def _refuse_those_of_reproduce(given):
  for name in given:
    if name in _OF_REPRODUCE:
      raise ValueError(
        f"--{name} belongs to --reproduce, which was not given. {_OF_REPRODUCE[name]}"
      )


def _refuse_unheeded(found, others):
  heeded = _HEEDED[found]
  if heeded is None:
    return
  ignored = [f"--{_SHOWN.get(name, name)}" for name in others if name not in heeded]
  if not ignored:
    return
  if heeded:
    allowed = "only " + ", ".join(f"--{name}" for name in heeded)
    hint = "To use other flags choose a preset or settings, such as --preset=toy."
  else:
    allowed, hint, found = "no other flag", "Leave out what is not meant.", f"--{found}"
  raise ValueError(f"{found} heeds {allowed}, got {', '.join(ignored)}. {hint}")
