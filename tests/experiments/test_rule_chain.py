"""Which rules a run has, one inside of the other, and which are asked too much."""

import pytest

from tests.experiments import toy_runs
from tff_defenses.experiments import rule_chain


def config(defense, *, malicious=0.4, **defense_settings):
  """Ten clients a round."""
  attack = {"attack": "trigger", "num_clients": 10, "malicious_fraction": malicious}
  return toy_runs.toy(
    "unused", "unused", defense=defense, defense_settings=defense_settings, **attack
  )


@pytest.mark.parametrize(
  ("defense", "settings", "expected"),
  [
    ("krum", {}, [("krum", 10)]),
    ("fl_plas", {}, [("fl_plas", 10), ("fedavg", 10)]),
    ("bucketing", {}, [("bucketing", 10), ("krum", 5)]),
    ("bucketing", {"bucket_size": 3}, [("bucketing", 10), ("krum", 4)]),
    (
      "fl_plas",
      {
        "inner": "nearest_neighbour_mixing",
        "inner_settings": {"inner": "bucketing", "inner_settings": {"inner": "median"}},
      },
      [
        *(("fl_plas", 10), ("nearest_neighbour_mixing", 10)),
        *(("bucketing", 10), ("median", 5)),
      ],
    ),
    ("bucketing", {"inner": "kurm"}, [("bucketing", 10)]),
  ],
)
def test_links(defense, settings, expected):
  found = rule_chain.links(config(defense, **settings))
  assert [(link.spec.name, link.num_updates) for link in found] == expected


@pytest.mark.parametrize(
  ("defense", "malicious", "settings", "expected"),
  [
    ("fl_plas", 0.9, {}, []),
    ("fl_plas", 0.4, {"inner": "krum"}, ["krum"]),
    ("fl_plas", 0.3, {"inner": "krum"}, []),
    ("nearest_neighbour_mixing", 0.4, {"inner": "krum"}, ["krum"]),
    ("nearest_neighbour_mixing", 0.6, {}, ["nearest_neighbour_mixing", "trimmed_mean"]),
    ("bucketing", 0.1, {}, []),
    ("bucketing", 0.2, {}, ["krum"]),
    ("bucketing", 0.2, {"bucket_size": 1}, []),
    ("bucketing", 0.2, {"inner": "median"}, []),
  ],
)
def test_unmet(defense, malicious, settings, expected):
  asked = config(defense, malicious=malicious, **settings)
  assert [link.spec.name for link in rule_chain.unmet(asked)] == expected
