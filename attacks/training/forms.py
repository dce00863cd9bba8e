"""The forms of the alternating attacks, and what each is shown; needs no TensorFlow.

References: FLARE Eq. (7) and its code; Bhagoji et al., ICML 2019.
"""

from collections.abc import Mapping
from typing import Any

# Two boosts come from secondary sources and are in neither paper nor code: 2 of "self",
# 1 of "converge".
KRUM = {
  "white_box": {"anchor": "benign_mean", "boost": 1.0, "rho": 0.1, "mal_epochs": 2},
  "self": {"anchor": "self", "boost": 2.0, "rho": 1e-4, "mal_epochs": 10},
  "authors": {"anchor": "self", "boost": 10.0, "rho": 1e-4, "mal_epochs": 2},
}
COOMED = {
  "converge": {"strategy": "converge", "boost": 1.0, "mal_epochs": 2},
  "paper": {"anchor": "self", "boost": 1.0, "rho": 1e-4, "mal_epochs": 2},
}

UNHEEDED = {  # strategy -> settings that change nothing under it
  "alternate": ("check_every",),
  "converge": ("anchor", "rho", "stealth_steps", "distance", "order", "hold_off"),
}


def settings(form: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
  """A form's settings with a user's in their place.

  Where the user changes the strategy, the form's that it does not heed are left out.
  """
  strategy = given.get("strategy", form.get("strategy", "alternate"))
  unheeded = UNHEEDED.get(strategy, ())
  return {**{n: v for n, v in form.items() if n not in unheeded}, **given}


def sees(strategy: str, anchor: str) -> frozenset[str]:
  """What an alternating attacker is shown: the others' updates if they anchor it."""
  own = {"own_data", "own_training"}
  if strategy == "alternate" and anchor == "benign_mean":
    own.add("benign_updates")
  return frozenset(own)


def seen_with(
  settings: Mapping[str, Any], *, forms: Mapping[str, Mapping] | None, default: str
) -> frozenset[str]:
  """What an attacker with a user's settings is shown.

  Args:
    settings: Of the attack; they replace its form's.
    forms: Of the attack; None: it has none.
    default: The form without settings.
  """
  form = {} if forms is None else forms.get(settings.get("form", default), {})
  chosen = {"strategy": "alternate", "anchor": "benign_mean", **form, **settings}
  return sees(chosen["strategy"], chosen["anchor"])
