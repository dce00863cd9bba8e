"""Attacks of FLARE and FL-PLAS: the list of what exists.

References: Wang et al. (FLARE, ASIA CCS 2022), Sec. 7.1; FL-PLAS, Sec. 6.1.

Reading `ATTACKS` imports no TensorFlow: `spec.build` imports its attack when called.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["ATTACKS", "KINDS", "SIGHTS", "AttackSpec"]

# What an attack changes: a client's data, how it trains, or the update it sends.
KINDS = ("data", "training", "update")
# What an attack may be shown.
SIGHTS = frozenset({"own_data", "own_training", "benign_updates", "aggregator"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackSpec:
  """What is known of an attack without building it.

  Attributes:
    name: key in `ATTACKS`.
    kind: one of `KINDS`.
    build: `build(**settings)` -> the attack; settings are those of its module.
    sees: threat model, a subset of `SIGHTS`. Where an attack has several forms: what
      the default form sees.
    paper: "FLARE" or "FL-PLAS".
    anchor: place in the paper.
    summary: one line for lists and tables.

  Raises:
    ValueError: `kind` or `sees` holds an unknown word.
  """

  name: str
  kind: str
  build: Callable[..., Any]
  sees: frozenset[str]
  paper: str
  anchor: str
  summary: str

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ValueError(
        f"AttackSpec {self.name}: `kind` must be one of {', '.join(KINDS)}, "
        f"got {self.kind!r}. Choose by what the attack changes."
      )
    object.__setattr__(self, "sees", frozenset(self.sees))
    if not self.sees <= SIGHTS:
      raise ValueError(
        f"AttackSpec {self.name}: `sees` must be among {', '.join(sorted(SIGHTS))}, "
        f"got {', '.join(sorted(self.sees - SIGHTS))}. The harness shows nothing else."
      )


def _build(module: str, function: str, **settings):
  return getattr(importlib.import_module(f"attacks.{module}"), function)(**settings)


def _builder(module: str, function: str) -> Callable[..., Any]:
  return functools.partial(_build, module, function)


ATTACKS: dict[str, AttackSpec] = {
  "trigger": AttackSpec(
    name="trigger",
    kind="data",
    build=_builder("data.trigger", "TriggerAttack"),
    sees=frozenset({"own_data"}),
    paper="FL-PLAS",
    anchor="FL-PLAS Sec. 6.1, Tables 4(a), 5(a)",
    summary="a fixed pattern on part of the images, relabelled as the target",
  ),
  "krum_backdoor": AttackSpec(
    name="krum_backdoor",
    kind="training",
    build=_builder("training.alternating", "krum_backdoor"),
    sees=frozenset({"own_data", "own_training", "benign_updates"}),
    paper="FLARE",
    anchor="FLARE Eq. (7), Table 3",
    summary="trains a backdoor while staying near the benign mean, to be Krum's choice",
  ),
  "coomed_backdoor": AttackSpec(
    name="coomed_backdoor",
    kind="training",
    build=_builder("training.alternating", "coomed_backdoor"),
    # The default form trains on the targeted inputs alone, from the global weights.
    sees=frozenset({"own_data", "own_training"}),
    paper="FLARE",
    anchor="FLARE Sec. 7.1, Table 3",
    summary="trains on the targeted inputs alone, against the coordinate median",
  ),
}
