"""The clean rounds before round 1: who shares them, and that they are made once."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

from tests.doubles import equal, weights_of
from tests.experiments import toy_runs
from tff_defenses.experiments import (
  federation,
  global_trainer,
  locks,
  starts,
  trainers,
  warm_start,
  weight_files,
)
from tff_defenses.experiments.errors import OutputError

WARM = {"warmup_rounds": 2, "pretrain_on_aux": False, "max_train_images": 40}


@pytest.fixture
def toy(tmp_path):
  def toy(cache_dir=tmp_path / "cache", **changes):
    return toy_runs.toy(tmp_path / "out", cache_dir, **{**WARM, **changes})

  return toy


@pytest.fixture(scope="module")
def warmed(runtime, tmp_path_factory):
  """(cache folder that holds the warm start of `toy()`, the weights)."""
  cache = tmp_path_factory.mktemp("warmed")
  return cache, warm(toy_runs.toy(cache / "out", cache, **WARM), runtime)


@pytest.fixture
def counted(monkeypatch):
  """Rounds that were trained, as a list of their numbers."""
  numbers, original = [], global_trainer.GlobalTrainer.step

  def step(self, runtime, states, round_number, drawn, **call):
    numbers.append(round_number)
    return original(self, runtime, states, round_number, drawn, **call)

  monkeypatch.setattr(global_trainer.GlobalTrainer, "step", step)
  return numbers


def warm(config, runtime):
  return warm_start.weights(config, federation.build(config), runtime, progress=False)


def test_its_start_and_its_rounds_have_the_limit_of_the_runs(toy, runtime):
  config, watched = toy(), toy_runs.NotesOptions(runtime)
  fed = federation.build(config)
  warm_start.weights(config, fed, watched, progress=False, round_seconds=9.0)
  assert watched.options == [{"timeout_seconds": 9.0}] * 3


def test_it_is_clean_fed_avg(toy, warmed, runtime):
  cache, found = warmed
  clean = warm_start.clean_config(toy(defense="krum", **toy_runs.FEDAVG))
  assert clean.defense == "fedavg" and clean.num_malicious == 0
  model = federation.keras_fn(clean)()
  fed = federation.build(clean)
  trainer = global_trainer.GlobalTrainer(clean, fed, weights_of(model))
  states = trainer.start(runtime)
  for number in (1_000_001, 1_000_002):
    states, _ = trainer.step(runtime, states, number, [0, 1, 2])
  assert equal(states[0].global_model_weights, found)
  assert not equal(model.trainable_variables, found.trainable)


def test_pooled_it_is_training_on_all_images_by_one_client(toy, runtime):
  split = {"partition": "dirichlet", "min_client_images": 1, "clients_per_round": 2}
  config = toy(warmup_pooled=True, **split)
  clean = warm_start.clean_config(config)
  assert (clean.num_clients, clean.num_drawn, clean.partition) == (1, 1, "iid")
  fed = federation.build(clean)
  assert fed.shards.num_examples == (40,)
  trainer = global_trainer.GlobalTrainer(
    clean, fed, weights_of(federation.keras_fn(clean)())
  )
  states = trainer.start(runtime)
  for number in (1_000_001, 1_000_002):
    states, _ = trainer.step(runtime, states, number, [0])
  assert equal(states[0].global_model_weights, warm(config, runtime))


def test_pooled_it_does_not_depend_on_the_split(toy):
  held = federation.build(toy()).held_out
  changes = ({}, {"partition": "dirichlet"}, {"clients_per_round": 2}, {"alpha": 0.5})
  files = {warm_start.file_of(toy(warmup_pooled=True, **c), held) for c in changes}
  assert len(files) == 1 and warm_start.file_of(toy(), held) not in files


@pytest.mark.parametrize(
  "change",
  [
    {"defense": "krum", **toy_runs.FEDAVG},
    {"defense": "fl_plas", "attack": "label_flip", "malicious_fraction": 0.34},
    {"malicious_first": True, "rounds": 7, "eval_every": 2, "rate_decay": 0.9},
    {"measure": "extractor_swap", "shared_cut": "all", "max_test_images": 9},
  ],
)
def test_it_is_the_same_whatever_attack_and_defense(toy, warmed, change, counted):
  cache, found = warmed
  assert equal(warm(toy(cache, **change), runtime=None), found)
  assert counted == []


@pytest.mark.parametrize(
  "change",
  [
    {"seed": 1},
    {"warmup_rounds": 3},
    {"partition": "dirichlet"},
    {"learning_rate": 2e-3},
    {"clients_per_round": 2},
    {"max_train_images": 41},
    {"model": "fmnist_cnn"},
  ],
)
def test_another_experiment_has_another_start(toy, change):
  held = federation.build(toy()).held_out
  files = [warm_start.file_of(config, held) for config in (toy(), toy(**change))]
  assert files[0] != files[1]


def test_other_images_have_another_start(toy):
  fed = federation.build(toy())
  held = dataclasses.replace(fed.held_out, train_images=255 - fed.held_out.train_images)
  files = [warm_start.file_of(toy(), found) for found in (fed.held_out, held)]
  assert files[0] != files[1]


def test_a_broken_off_warm_up_goes_on_from_its_last_round(
  toy, warmed, runtime, monkeypatch, counted, tmp_path
):
  original = weight_files.save

  def save(path, *arguments, **more):
    original(path, *arguments, **more)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(weight_files, "save", save)
    with pytest.raises(KeyboardInterrupt):
      warm(toy(), runtime)
  assert equal(warm(toy(), runtime), warmed[1])
  assert counted == [1_000_001, 1_000_002]
  kept = sorted(p.suffix for p in (tmp_path / "cache" / "warm_starts").iterdir())
  assert kept == [".lock", ".npz"]


def test_what_killed_writers_left_is_removed_when_a_start_is_made(
  toy, monkeypatch, tmp_path, warmed
):
  folder = tmp_path / "cache" / "warm_starts"
  folder.mkdir(parents=True)
  for name in ("x.npz.7.partial", "x.partial.npz"):
    (folder / name).write_bytes(b"half")
    os.utime(folder / name, (0, 0))
  monkeypatch.setattr(warm_start, "_train", lambda *_: warmed[1])
  warm(toy(), runtime=None)
  assert [p.name for p in folder.glob("x.*")] == ["x.partial.npz"]  # that goes on


def test_a_damaged_file_is_made_again(toy, warmed, monkeypatch, tmp_path, caplog):
  cache, found = warmed
  folder = tmp_path / "cache" / "warm_starts"
  shutil.copytree(cache / "warm_starts", folder)
  (path,) = folder.glob("*.npz")
  content = path.read_bytes()
  path.write_bytes(content[:-100])
  monkeypatch.setattr(warm_start, "_train", lambda *_: found)
  assert equal(warm(toy(), runtime=None), found)
  assert "made again" in caplog.text
  assert path.read_bytes() == content


def test_a_start_is_read_from_a_cache_that_is_only_to_be_read(toy, warmed, monkeypatch):
  def refuses(*_):
    raise OSError("read-only")

  cache, found = warmed
  monkeypatch.setattr(locks, "alone", refuses)
  config = toy(cache_dir=cache)
  assert equal(warm(config, runtime=None), found)


def test_unwritable_cache_raises(toy, runtime, tmp_path):
  config = toy()
  fed = federation.build(config)
  (tmp_path / "file").write_text("")
  blocked = dataclasses.replace(config, cache_dir=str(tmp_path / "file"))
  with pytest.raises(OutputError, match="`cache_dir` must be writable"):
    warm_start.weights(blocked, fed, runtime)


def test_runs_start_from_the_warm_up_or_the_file(
  toy, warmed, runtime, tmp_path, monkeypatch
):
  monkeypatch.setattr(starts, "_starts", {})
  cache, found = warmed
  config = toy(cache)
  trainer = trainers.build(config, federation.build(config), runtime)
  assert equal(trainer.initial_weights, found)
  path = tmp_path / "model.npz"
  weight_files.save(path, trainer.initial_weights, trainer.keras_fn)
  reading = toy(warmup_rounds=0, pretrained_file=str(path), seed=3)
  again = trainers.build(reading, federation.build(reading), None)
  assert equal(again.initial_weights, trainer.initial_weights)
  server, _ = again.start(runtime)
  assert equal(server.global_model_weights, trainer.initial_weights)


def test_a_file_that_changes_is_read_again(toy, tmp_path, monkeypatch):
  monkeypatch.setattr(starts, "_starts", {})
  path = tmp_path / "model.npz"
  config = toy(warmup_rounds=0, pretrained_file=str(path))
  keras_fn = federation.keras_fn(config)
  fed = federation.build(config)
  for factor in (0.0, 1.0):
    arrays = [np.full(v.shape, factor, np.float32) for v in keras_fn().weights]
    np.savez(path, **dict(zip(weight_files.names_of(keras_fn()), arrays, strict=True)))
    found = starts.initial_weights(config, fed, None)
    assert (found.trainable[0] == factor).all()
