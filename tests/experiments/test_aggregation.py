"""What the server's rule is told, and the clients' optimizer."""

import dataclasses
import types

import numpy as np
import pytest

from tests.experiments import toy_runs
from tff_defenses.experiments import aggregation
from tff_defenses.learning import optimizers, root_training

EMPTY = np.zeros(0)
# 30 of 100 clients are malicious, 9 of the 30 of a round.
MANY = {
  "num_clients": 100,
  "clients_per_round": 30,
  "attack": "trigger",
  "malicious_fraction": 0.3,
}


@pytest.fixture
def build(monkeypatch):
  """Builds a defense's rule, without a model and without the server's own images."""
  monkeypatch.setattr(root_training, "build_root_update_fn", lambda *_, **__: None)
  held = types.SimpleNamespace(aux_images=[], root_images=EMPTY, root_labels=EMPTY)

  def build(defense, **changes):
    config = toy_runs.toy("unused", "unused", defense=defense, **MANY, **changes)
    return aggregation.build_aggregator(config, None, held)

  return build


@pytest.mark.parametrize(
  ("defense", "name"),
  [
    *(("krum", "num_byzantine"), ("bulyan", "num_byzantine")),
    *(("trimmed_mean", "num_trimmed"), ("nearest_neighbour_mixing", "num_byzantine")),
  ],
)
def test_the_rule_is_told_the_malicious_clients_of_a_round(defense, name, build):
  assert getattr(build(defense), name) == 9
  assert getattr(build(defense, num_byzantine=4), name) == 4


@pytest.mark.parametrize(("told", "selected"), [(None, 30 - 9 - 2), (4, 30 - 4 - 2)])
def test_the_rule_is_told_the_clients_of_a_round(told, selected, build):
  assert build("multi_krum", num_byzantine=told).num_selected == selected


@pytest.mark.parametrize("defense", ["flame", "bucketing"])
def test_rules_that_draw_draw_by_the_experiments_seed(defense, build):
  assert [build(defense, seed=seed).seed for seed in (0, 3)] == [0, 3]
  assert build(defense, seed=3, defense_settings={"seed": 1}).seed == 1


def test_the_clients_optimizer_is_the_configs(monkeypatch):
  monkeypatch.setattr(optimizers, "build_client_optimizer", lambda *given: given)
  settings = {"learning_rate": 0.25, "momentum": 0.9, "weight_decay": 1e-4}
  config = toy_runs.toy("unused", "unused", optimizer="sgd", **settings)
  assert aggregation.build_optimizer(config) == ("sgd", 0.25, 0.9, 1e-4)


@pytest.mark.parametrize(
  ("defense", "form"),
  [
    *(("fedavg", "first"), ("rsa", "first"), ("norm_clipping", "first")),
    *(("fltrust", "initial"), ("flame", "initial"), ("krum", "mean")),
  ],
)
def test_batch_norm_statistics_of_the_authors_follow_the_rule(defense, form):
  ours = toy_runs.toy("unused", "unused", defense=defense)
  assert aggregation.moving_statistics(ours) == "mean"
  theirs = dataclasses.replace(ours, moving_statistics="authors")
  assert aggregation.moving_statistics(theirs) == form
