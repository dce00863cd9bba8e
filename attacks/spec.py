"""What the registry says about an attack."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

# What an attack changes: a client's data, how it trains, or the update it sends.
KINDS = ("data", "training", "update")
# What an attack may be shown.
SIGHTS = frozenset({"own_data", "own_training", "benign_updates", "aggregator"})
_SIZES = frozenset({"num_clients", "num_malicious"})  # of a round; 1 malicious at least
# What `build` may be given besides the settings, by the attack's kind: D_mal (images,
# labels), the honest clients' epochs, the model; the server's Krum (or None), the
# shapes of the trainable variables.
NEEDS = {
  "data": frozenset(),
  "training": _SIZES | {"images", "labels", "benign_epochs", "model_fn"},
  "update": _SIZES | {"rule", "shapes"},
}


def _suits_all(*, class_names: tuple[str, ...], image_shape: tuple[int, ...]) -> dict:
  del class_names, image_shape
  return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackSpec:
  """What is known of an attack without building it.

  Attributes:
    name: key in `ATTACKS`.
    kind: one of `KINDS`.
    build: `build(**settings)` -> the attack; `help(build.source)`, or `help(build)`
      where `build` is a class itself, lists the settings.
    sees: threat model, a subset of `SIGHTS`. Where an attack has several forms: what
      the default form sees.
    sees_with: settings -> what is seen with them, where that depends on them; call
      `seen_with`.
    paper: who proposed it; "FLARE" or "FL-PLAS" if it is in one of their tables.
    anchor: place in that paper.
    summary: one line for lists and tables.
    suited: `suited(class_names=..., image_shape=...)` -> settings that suit such data,
      for those that a user leaves out.
    needs: arguments of `build` that the harness supplies, a subset of
      `NEEDS[kind]`.
    data_attack: training attacks: settings -> (name, settings) of the data attack that
      poisons the attackers' data and whose test set scores them; None: none.
    datasets: names of the only data sets whose images it can be made of; None: any.
    works_on_shared_layers: training attacks: whether it also makes sense where clients
      send only a part of the model (FL-PLAS).

  Raises:
    ValueError: `kind` or `sees` holds an unknown word, or `needs` one that the harness
      does not supply to this kind.
  """

  name: str
  kind: str
  build: Callable[..., Any]
  sees: frozenset[str]
  paper: str
  anchor: str
  summary: str
  suited: Callable[..., dict[str, Any]] = _suits_all
  needs: frozenset[str] = frozenset()
  data_attack: Callable[[Mapping[str, Any]], tuple[str, dict]] | None = None
  datasets: tuple[str, ...] | None = None
  works_on_shared_layers: bool = False
  sees_with: Callable[[Mapping[str, Any]], frozenset[str]] | None = None

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
    object.__setattr__(self, "needs", frozenset(self.needs))
    supplied = NEEDS[self.kind]
    if not self.needs <= supplied:
      rule = f"among {', '.join(sorted(supplied))}" if supplied else "empty"
      raise ValueError(
        f"AttackSpec {self.name}: `needs` of a {self.kind} attack must be {rule}, got "
        f"{', '.join(sorted(self.needs - supplied))}. The harness supplies nothing "
        "else to this kind; leave it out, or make it a setting."
      )

  def seen_with(self, settings: Mapping[str, Any]) -> frozenset[str]:
    """What attackers with these settings are shown."""
    return self.sees if self.sees_with is None else self.sees_with(settings)
