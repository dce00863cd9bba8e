"""What the registry says about a defense."""

import dataclasses
from collections.abc import Callable
from typing import Any

NEEDS = frozenset(
  {
    "auxiliary_data",
    "root_data",
    "client_state",
    "global_weights",
    "num_byzantine",
  }
)
# What a rule may call the share of the aggregate that it gave each client, [n].
WEIGHT_NAMES = ("weight", "trust")
PROMISES = frozenset({"returns_equal_clients", "resists_huge_client", "is_odd"})


@dataclasses.dataclass(frozen=True)
class Assumption:
  """What a rule's guarantee asks of a round.

  Attributes:
    text: In words.
    holds: (n clients, f of them malicious) -> whether it is met.
  """

  text: str
  holds: Callable[[int, int], bool]

  def __str__(self) -> str:
    return self.text


ALL_HONEST = Assumption("all clients honest", lambda n, f: f == 0)
MAJORITY = Assumption("honest majority, n >= 2f + 1", lambda n, f: n >= 2 * f + 1)
KRUM = Assumption("n >= 2f + 3", lambda n, f: n >= 2 * f + 3)
BULYAN = Assumption("n >= 4f + 3", lambda n, f: n >= 4 * f + 3)
BUCKETS = Assumption(
  "2f + 3 buckets of two clients", lambda n, f: (n + 1) // 2 >= 2 * f + 3
)
ONE_HONEST = Assumption("one honest client", lambda n, f: f < n)
NONE = Assumption("none on the number of malicious clients", lambda n, f: True)


@dataclasses.dataclass(frozen=True)
class AggregatorSpec:
  """One defense.

  Attributes:
    name: Its key in `AGGREGATORS`.
    build: `build(given, **settings)` -> factory. `given` maps each need to what the
      harness supplies: "auxiliary_data": images [m, H, W, C], with "model_fn" beside it
      (see `models.split.plr_fn`); "root_data": the server's own update as a
      function of the global weights (`learning.root_training`); "num_byzantine": f,
      with "num_clients" of a round beside it. A rule that draws finds the experiment's
      "seed" there, if it has one.
    needs: A subset of `NEEDS`.
    paper: Who proposed it.
    anchor: Its equation or algorithm in FLARE or FL-PLAS, or in its own paper.
    assumption: What its guarantee asks for.
    promises: A subset of `PROMISES`; what a test may rely on. "returns_equal_clients":
      n equal updates give that update; "resists_huge_client": one finite update of any
      size among n >= 6 never moves the result out of the span of the others; "is_odd":
      updates of the other sign give the result of the other sign.
    summary: One line.
    aggregates: False: clients send nothing, and `build` returns None.
  """

  name: str
  build: Callable[..., Any]
  needs: frozenset[str]
  paper: str
  anchor: str
  assumption: Assumption
  promises: frozenset[str]
  summary: str
  aggregates: bool = True

  def __post_init__(self):
    for field, known in (("needs", NEEDS), ("promises", PROMISES)):
      unknown = sorted(getattr(self, field) - known)
      if unknown:
        raise ValueError(f"AggregatorSpec {self.name}: unknown {field} {unknown}.")
