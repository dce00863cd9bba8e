"""The two kinds of training: the common start, and states of clients not drawn."""

import dataclasses
import inspect

import numpy as np
import pytest
import tensorflow as tf

from tests.doubles import equal, weights_of
from tests.experiments import toy_runs
from tff_defenses.experiments import federation, shards, starts, trainers
from tff_defenses.learning import fed_avg, fl_plas, local, pretraining, root_training


def test_defenses_of_a_comparison_share_one_start(toy, monkeypatch, runtime):
  calls, original = [], pretraining.pretrain

  def pretrain(*arguments, **settings):
    calls.append(arguments)
    return original(*arguments, **settings)

  monkeypatch.setattr(pretraining, "pretrain", pretrain)
  monkeypatch.setattr(starts, "_starts", {})
  kinds = trainers.GlobalTrainer, trainers.PersonalTrainer, trainers.LocalTrainer
  for kind in kinds:
    monkeypatch.setattr(kind, "build_process", lambda *_: None)  # takes seconds
  configs = [
    toy(),
    toy(defense="krum"),
    toy(defense="fl_plas", defense_settings={"inner": "fedavg"}),
    toy(defense="local"),
  ]
  built = [trainers.build(c, federation.build(c), runtime) for c in configs]
  assert len(calls) == 1
  assert all(t.initial_weights is built[0].initial_weights for t in built)
  assert [type(t).__name__ for t in built] == [
    *["GlobalTrainer"] * 2,
    "PersonalTrainer",
    "LocalTrainer",
  ]
  reseeded = trainers.build(toy(seed=1), built[0].federation, runtime)
  assert len(calls) == 2
  assert not equal(reseeded.initial_weights, built[0].initial_weights)


def test_start_may_be_untrained(toy, monkeypatch):
  monkeypatch.setattr(starts, "_starts", {})
  config = toy(pretrain_on_aux=False)
  trainer = trainers.build(config, federation.build(config), None)
  model = federation.keras_fn(config)()
  assert equal(trainer.initial_weights.trainable, model.trainable_variables)


def test_personal_models_begin_at_the_common_start(fl_plas_run, runtime):
  trainer = fl_plas_run.trainer
  begin = trainer.initial_weights
  assert not equal(begin, weights_of(trainer.keras_fn()))  # it was trained
  server, clients = trainer.start(runtime)
  assert equal(server.global_model_weights, begin) and len(clients) == 4
  for client in clients:
    assert equal(trainer.process.client_weights(server, client), begin)


@pytest.mark.parametrize("name", ["fedavg_run", "fl_plas_run"])
def test_the_start_and_the_round_have_the_limit_that_they_are_given(
  name, request, runtime
):
  trainer = request.getfixturevalue(name).trainer
  watched, limit = toy_runs.NotesOptions(runtime), {"timeout_seconds": 9.0}
  trainer.step(watched, trainer.start(watched, **limit), 1, [0], **limit)
  assert watched.options == [limit] * 2


def test_client_that_is_not_drawn_keeps_its_state(fl_plas_run, runtime):
  trainer, (server, clients) = fl_plas_run.trainer, fl_plas_run.states
  (_, after), _ = trainer.step(runtime, (server, clients), 4, [0, 2])
  kept = [old is new for old, new in zip(clients, after, strict=True)]
  assert kept == [False, True, False, True]
  changed = [not equal(a, b) for a, b in zip(clients, after, strict=True)]
  assert changed == [True, False, True, False]


class FakeScorer:
  """Keeps the models that were scored."""

  def score_clients(self, weights):
    self.benign = weights
    return {"accuracy": 0.5}

  def score_malicious(self, weights):
    self.malicious = weights
    return {"backdoor_accuracy_malicious": 0.25}


def test_personal_models_are_scored_without_the_malicious_clients(
  fl_plas_run, monkeypatch
):
  trainer, (server, clients) = fl_plas_run.trainer, fl_plas_run.states
  monkeypatch.setattr(trainer, "scorer", FakeScorer())
  row = trainer.score((server, clients))
  models = [trainer.process.client_weights(server, clients[i]) for i in range(4)]
  assert equal(trainer.scorer.benign, models[:3])  # the fourth is malicious
  assert equal(trainer.scorer.malicious, models[3:])
  assert row == {"accuracy": 0.5, "backdoor_accuracy_malicious": 0.25}
  kernels = [weights.trainable[-2] for weights in models]
  assert not equal(kernels[0], kernels[1])  # private layers differ,
  assert equal(models[0].trainable[0], models[1].trainable[0])  # shared ones do not


def test_only_the_rounds_models_are_scored_if_asked_for(fl_plas_run, monkeypatch):
  trainer, states = fl_plas_run.trainer, fl_plas_run.states
  drawn = federation.draw_clients(trainer.config, trainer.config.rounds)
  monkeypatch.setattr(trainer, "scorer", FakeScorer())
  sampled = dataclasses.replace(trainer.config, eval_clients="sampled")
  monkeypatch.setattr(trainer, "config", sampled)
  trainer.score(states)
  benign = [c for c in drawn if not trainer.federation.malicious[c]]
  assert 0 < len(benign) < 3  # the federation has three benign clients
  models = [trainer.process.client_weights(states[0], states[1][c]) for c in benign]
  assert equal(trainer.scorer.benign, models)


def test_malicious_models_are_scored_after_the_last_round_only(
  fl_plas_run, monkeypatch, runtime
):
  trainer = fl_plas_run.trainer
  monkeypatch.setattr(trainer, "scorer", FakeScorer())
  assert "backdoor_accuracy_malicious" not in trainer.score(trainer.start(runtime))
  nobody = np.zeros_like(trainer.federation.malicious)
  honest = dataclasses.replace(trainer.federation, malicious=nobody)
  monkeypatch.setattr(trainer, "federation", honest)
  assert "backdoor_accuracy_malicious" not in trainer.score(fl_plas_run.states)


def test_the_last_round_has_the_malicious_models_backdoor(fl_plas_run):
  value = fl_plas_run.trainer.score(fl_plas_run.states)["backdoor_accuracy_malicious"]
  trainer, (server, clients) = fl_plas_run.trainer, fl_plas_run.states
  fed = trainer.federation
  predicted = trainer.scorer.evaluator.predict(
    trainer.process.client_weights(server, clients[3]), fed.backdoor_images
  )
  assert value == np.mean(predicted == fed.backdoor_target)


def test_traffic_is_what_the_defense_exchanges(fedavg_run, fl_plas_run):
  """LeNet: 1,199,882 parameters; its two convolutions 320 + 18,496 = 18,816."""
  whole, shared = 4 * 1_199_882, 4 * 18_816
  assert fedavg_run.trainer.traffic() == {"bytes_up": whole, "bytes_down": whole}
  assert fl_plas_run.trainer.traffic() == {"bytes_up": shared, "bytes_down": shared}


def test_local_clients_keep_their_whole_models(toy, runtime):
  config = toy(defense="local", attack="trigger", malicious_fraction=0.34)
  trainer = trainers.build(config, federation.build(config), runtime)
  assert trainer.traffic() == {"bytes_up": 0, "bytes_down": 0}
  start = trainer.start(runtime)
  states, metrics = trainer.step(runtime, start, 1, [0, 2])
  assert metrics["aggregator"]["num_rejected"] == 0
  assert equal(states[0].global_model_weights, trainer.initial_weights)
  changed = [not equal(a, b) for a, b in zip(start[1], states[1], strict=True)]
  assert changed == [True, False, True]
  row = trainer.score(states)
  models = [trainer.process.client_weights(states[0], c) for c in states[1]]
  predict, fed = trainer.scorer.evaluator.predict, trainer.federation
  found = [np.mean(predict(w, fed.test_images) == fed.test_labels) for w in models[:2]]
  assert row["accuracy"] == pytest.approx(np.mean(found))


def test_client_inputs_are_those_of_the_drawn_clients(fl_plas_run):
  inputs = fl_plas_run.trainer.client_inputs(2, [1, 3])
  assert [int(x["client_index"]) for x in inputs] == [1, 3]
  assert [bool(x["is_malicious"]) for x in inputs] == [False, True]


@pytest.fixture
def reads(monkeypatch):
  """How shards are read; the number of passes takes the place of what is read."""
  found = []

  def read(path, *, seed, **settings):
    del path, seed
    found.append(settings)
    return tf.constant(settings["epochs"])

  monkeypatch.setattr(shards, "read", read)
  return found


@pytest.fixture
def record(monkeypatch):
  """Puts a record of its arguments in the place of what builds a learning process."""

  def replace(module, name):
    given, signature = {}, inspect.signature(getattr(module, name))

    def build(*arguments, **settings):
      given.update(signature.bind(*arguments, **settings).arguments)

    monkeypatch.setattr(module, name, build)
    return given

  return replace


TRAINING = {
  "local_epochs": 3,
  "batch_size": 4,
  "drop_remainder": True,
  "augment": "crop_flip",
  "rate_decay": 0.5,
  "pretrain_on_aux": False,
}
SELF = {"attack": "krum_backdoor", "attack_settings": {"form": "self"}}  # ten passes


@pytest.mark.parametrize(
  ("builder", "settings", "passes"),
  [
    ((fed_avg, "build_fed_avg"), SELF, [3, 10]),
    ((fl_plas, "build_fl_plas"), {"defense": "fl_plas", "attack": "scaling"}, [3, 3]),
    ((local, "build_local"), {"defense": "local"}, [3]),
  ],
)
def test_clients_and_attackers_train_as_the_config_says(
  builder, settings, passes, record, reads, toy, runtime
):
  given = record(*builder)
  config = toy(**TRAINING, malicious_fraction=0.34, **settings)
  trainer = trainers.build(config, federation.build(config), runtime)
  assert given["rate_decay"] == 0.5
  (client,) = trainer.client_inputs(1, [0])
  names = ["dataset_computation", "attack_dataset_computation"][: len(passes)]
  assert [given[name](client) for name in names] == passes
  for read in reads:
    assert read.pop("epochs") in passes
    assert read.pop("image_shape") == (28, 28, 1)
    assert read == {"batch_size": 4, "drop_remainder": True, "augment": "crop_flip"}


def test_batch_norm_statistics_are_combined_as_the_config_says(record, toy, runtime):
  given = record(fed_avg, "build_fed_avg")
  config = toy(defense="fedavg", moving_statistics="authors", pretrain_on_aux=False)
  trainers.build(config, federation.build(config), runtime)
  assert given["moving_statistics"] == "first"


def test_the_servers_own_training_follows_the_clients(toy, monkeypatch, runtime):
  given, original = {}, root_training.build_root_update_fn

  def build(*arguments, **settings):
    given.update(settings)
    return original(*arguments, **settings)

  monkeypatch.setattr(root_training, "build_root_update_fn", build)
  config = toy(
    defense="fltrust", rate_decay=0.5, drop_remainder=True, batch_size=8, root_epochs=3
  )
  trainers.build(config, federation.build(config), runtime)
  expected = {"epochs": 3, "batch_size": 8, "rate_decay": 0.5, "drop_remainder": True}
  assert given == expected
