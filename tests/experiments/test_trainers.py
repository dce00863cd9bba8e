"""The two kinds of training: the common start, and states of clients not drawn."""

import numpy as np
import pytest
import tensorflow as tf

from tests.experiments import toy_runs
from tff_defenses.experiments import federation, trainers
from tff_defenses.learning import pretraining


@pytest.fixture
def toy(tmp_path, shard_cache):
  return lambda **changes: toy_runs.toy(tmp_path, shard_cache, **changes)


def equal(one, other):
  pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
  return all(np.array_equal(a, b) for a, b in pairs)


def test_defenses_of_a_comparison_share_one_start(toy, monkeypatch):
  calls, original = [], pretraining.pretrain

  def pretrain(*arguments, **settings):
    calls.append(arguments)
    return original(*arguments, **settings)

  monkeypatch.setattr(pretraining, "pretrain", pretrain)
  monkeypatch.setattr(trainers, "_starts", {})
  for kind in (trainers.GlobalTrainer, trainers.PersonalTrainer):
    monkeypatch.setattr(kind, "build_process", lambda *_: None)  # takes seconds
  configs = [
    toy(),
    toy(defense="krum"),
    toy(defense="fl_plas", defense_settings={"inner": "fedavg"}),
  ]
  built = [trainers.build(c, federation.build(c)) for c in configs]
  assert len(calls) == 1
  assert all(t.initial_weights is built[0].initial_weights for t in built)
  assert [type(t).__name__ for t in built] == [
    *["GlobalTrainer"] * 2,
    "PersonalTrainer",
  ]
  reseeded = trainers.build(toy(seed=1), built[0].federation)
  assert len(calls) == 2
  assert not equal(reseeded.initial_weights, built[0].initial_weights)


def test_start_may_be_untrained(toy, monkeypatch):
  monkeypatch.setattr(trainers, "_starts", {})
  config = toy(pretrain_on_aux=False)
  trainer = trainers.build(config, federation.build(config))
  model = federation.keras_fn(config)()
  assert equal(trainer.initial_weights.trainable, model.trainable_variables)


def test_client_that_is_not_drawn_keeps_its_state(fl_plas_run, runtime):
  trainer, (server, clients) = fl_plas_run.trainer, fl_plas_run.states
  (_, after), _ = trainer.step(runtime, (server, clients), 4, [0, 2])
  kept = [old is new for old, new in zip(clients, after, strict=True)]
  assert kept == [False, True, False, True]
  changed = [not equal(a, b) for a, b in zip(clients, after, strict=True)]
  assert changed == [True, False, True, False]


def test_personal_models_are_scored_without_the_malicious_clients(
  fl_plas_run, monkeypatch
):
  trainer, (server, clients) = fl_plas_run.trainer, fl_plas_run.states
  scored = []
  fake = type(
    "Fake", (), {"score_clients": lambda self, weights: scored.append(weights)}
  )
  monkeypatch.setattr(trainer, "scorer", fake())
  trainer.score((server, clients))
  expected = [trainer.process.client_weights(server, clients[i]) for i in range(3)]
  assert equal(scored[0], expected)  # the fourth is malicious
  kernels = [weights.trainable[-2] for weights in expected]
  assert not equal(kernels[0], kernels[1])  # private layers differ,
  assert equal(expected[0].trainable[0], expected[1].trainable[0])  # shared ones do not


def test_client_inputs_are_those_of_the_drawn_clients(fl_plas_run):
  inputs = fl_plas_run.trainer.client_inputs(2, [1, 3])
  assert [int(x["client_index"]) for x in inputs] == [1, 3]
  assert [bool(x["is_malicious"]) for x in inputs] == [False, True]
