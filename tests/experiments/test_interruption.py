"""Runs that break off: resumed, failed, held by another, full disk, dead worker."""

import dataclasses
import logging
import os
import signal
import types

import numpy as np
import pytest

from tests.experiments import counted_rounds, toy_runs
from tests.experiments.toy_runs import content
from tff_defenses.experiments import (
  checkpoint,
  claims,
  federation,
  loop,
  probe,
  progress,
  records,
  round_tables,
  run_record,
  scoring,
  trainers,
)
from tff_defenses.experiments.errors import DataError, OutputError
from tff_defenses.runtime.errors import WorkerError


def break_off(config, runtime, monkeypatch, method):
  """Runs a config until the scoring of round 2, the start's being the first."""
  original, calls = getattr(scoring.Scorer, method), []

  def fail_at_third(self, weights):
    calls.append(weights)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return original(self, weights)

  with monkeypatch.context() as patch:
    patch.setattr(scoring.Scorer, method, fail_at_third)
    with pytest.raises(KeyboardInterrupt):
      loop.run(config, runtime)


@pytest.mark.parametrize(
  ("name", "method"),
  [("fedavg_run", "score_global"), ("fl_plas_run", "score_clients")],
)
def test_run_broken_off_and_resumed_gives_the_same_bytes(
  name, method, request, toy, runtime, monkeypatch
):
  whole = request.getfixturevalue(name)
  settings = toy_runs.FEDAVG if name == "fedavg_run" else toy_runs.FL_PLAS
  config = toy(**settings)
  break_off(config, runtime, monkeypatch, method)
  folder = records.RunFolder(config.output_dir, run_record.describe(config))
  assert not folder.is_complete and len(folder.read("metrics.csv")) == 1
  resumed = loop.run(config, runtime)
  for file in ("metrics.csv", "clients.csv"):
    assert content(resumed.folder, file) == content(whole.folder, file)
  assert resumed.folder.read("timing.csv")["round"].tolist() == [1, 2, 3]
  for file in ("start.json", "summary.json", "arrays.npz"):
    assert content(resumed.folder, file) == content(whole.folder, file)


def test_a_run_does_not_go_on_with_other_data(toy, runtime, monkeypatch):
  config = toy(**toy_runs.FEDAVG)
  break_off(config, runtime, monkeypatch, "score_global")
  build = federation.build

  def other_tests(config):
    found = build(config)
    return dataclasses.replace(found, test_labels=found.test_labels[::-1])

  monkeypatch.setattr(federation, "build", other_tests)
  with pytest.raises(DataError, match=r"got other images or labels \(test\)"):
    loop.run(config, runtime)
  loop.run(config, runtime, reuse=False)  # anew


@pytest.mark.parametrize(
  ("checkpoint_every", "rounds", "fails_at", "again"),
  [(1, 3, 2, [2, 3]), (2, 5, 4, [3, 4, 5])],
)
def test_resumed_run_does_again_what_no_checkpoint_holds(
  checkpoint_every, rounds, fails_at, again, toy, count_rounds
):
  config = toy(checkpoint_every=checkpoint_every, rounds=rounds)
  broken_off, _ = count_rounds(config, fails_at)
  assert broken_off.stepped == list(range(1, fails_at + 1))
  resumed, result = count_rounds(config)
  assert resumed.stepped == again
  table, done = result.folder.read("metrics.csv"), list(range(1, rounds + 1))
  assert table["round"].tolist() == table["accuracy"].tolist() == done


def test_memory_is_given_back_before_the_first_round_and_between_two(toy, monkeypatch):
  done = []
  trainer = counted_rounds.CountsRounds(toy(rounds=3))
  trainer.start = lambda *_, **__: (done.append("start"), (np.int32(0), []))[1]
  monkeypatch.setattr(trainers, "build", lambda *_, **__: trainer)
  runtime = types.SimpleNamespace(
    peak_memory_bytes=lambda: 0,
    shrink=lambda: done.append("shrink"),
    shrink_if_short=lambda: done.append(len(trainer.stepped)),
  )
  loop.run(trainer.config, runtime)
  assert done == ["shrink", "start", 1, 2]


def test_every_round_and_the_start_have_the_limit_that_was_asked_for(toy, count_rounds):
  trainer, _ = count_rounds(toy(rounds=2), round_seconds=9.0)
  assert trainer.calls == [{"timeout_seconds": 9.0}] * 3
  assert trainer.watching == {"progress": True, "round_seconds": 9.0}


def test_tables_are_on_the_disk_before_a_state_that_counts_on_them(
  toy, count_rounds, monkeypatch, synced
):
  config, save, unsynced = toy(rounds=2), checkpoint.Checkpoints.save, []

  def look(self, round_number, *states):
    tables = [progress.folder(config) / name for name in round_tables.NAMES]
    unsynced.extend(t.name for t in tables if t.stat().st_ino not in synced)
    save(self, round_number, *states)
    synced.clear()

  monkeypatch.setattr(checkpoint.Checkpoints, "save", look)
  count_rounds(config)
  assert unsynced == []


def test_full_disk_ends_the_run_with_one_sentence_and_it_goes_on_later(
  toy, runtime, monkeypatch
):
  config = toy(rounds=2, eval_every=2)
  original = round_tables.append

  def full_at_round_2(file, table):
    if table["round"].max() == 2:
      raise OSError(28, "No space left on device")
    original(file, table)

  with monkeypatch.context() as patch:
    patch.setattr(round_tables, "append", full_at_round_2)
    with pytest.raises(OutputError, match="No space left.*finished rounds are kept"):
      loop.run(config, runtime)
  result = loop.run(config, runtime)
  assert result.folder.read("clients.csv")["round"].tolist() == [1, 1, 1, 2, 2, 2]
  scored = result.folder.read("metrics.csv")["accuracy"].notna()
  assert scored.tolist() == [False, True]  # every second round
  assert result.summary["backdoor_accuracy"] is None  # no attack


@pytest.fixture
def break_with(monkeypatch):
  """Makes every run break off with an error before its first round."""

  def set_error(error):
    def build(*_, **__):
      raise error

    monkeypatch.setattr(trainers, "build", build)

  return set_error


def test_failed_run_is_marked_and_the_mark_goes_with_the_next_attempt(toy, break_with):
  config = toy()
  break_with(ZeroDivisionError("no clients"))
  with pytest.raises(ZeroDivisionError):
    loop.run(config, None)
  assert progress.status(config) == "failed"
  assert claims.failure(config.output_dir) == "ZeroDivisionError: no clients"
  break_with(KeyboardInterrupt())
  with pytest.raises(KeyboardInterrupt):
    loop.run(config, None)
  assert progress.status(config) == "left"


def test_full_disk_is_not_the_failure_of_a_run(toy, break_with):
  config = toy()
  break_with(OutputError("no space"))
  with pytest.raises(OutputError):
    loop.run(config, None)
  assert progress.status(config) == "left"


def test_representations_that_cannot_be_made_are_no_failure_of_a_finished_run(
  toy, count_rounds, monkeypatch, caplog
):
  limits = []

  def fail(*_, **limit):
    limits.append(limit)
    raise WorkerError("the worker died")

  monkeypatch.setattr(probe, "keep", fail)
  config = toy(rounds=1)
  _, result = count_rounds(config, round_seconds=9.0)
  assert result.summary["accuracy"] == 1.0 and progress.status(config) == "done"
  assert limits == [{"round_seconds": 9.0}]
  (said,) = caplog.messages
  assert "plr.npz" in said and said.endswith("WorkerError: the worker died")


@pytest.mark.parametrize("error", [OutputError("disk full"), KeyboardInterrupt()])
def test_full_disk_or_ctrl_c_at_the_representations_leaves_the_run_to_be_ended(
  error, toy, count_rounds, monkeypatch
):
  def stop(*_, **__):
    raise error

  config = toy(rounds=1)
  with monkeypatch.context() as patch, pytest.raises(type(error)):
    patch.setattr(probe, "keep", stop)
    count_rounds(config)
  assert progress.status(config) == "left"
  again, _ = count_rounds(config)
  assert again.stepped == [] and progress.status(config) == "done"


def test_run_that_another_process_holds_is_left_to_it(toy, never_train):
  config = toy()
  with claims.claim(config.output_dir), pytest.raises(claims.ClaimedError):
    loop.run(config, None)


def test_run_stopped_before_its_summary_keeps_the_arrays_of_its_last_round(
  toy, runtime, monkeypatch, flare_run
):
  config = toy(**toy_runs.FLARE)

  def interrupt(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(records.RunFolder, "write_summary", interrupt)
    with pytest.raises(KeyboardInterrupt):
      loop.run(config, runtime, tensorboard=True)
  resumed = loop.run(config, runtime, tensorboard=True)
  for file in ("metrics.csv", "clients.csv", "arrays.npz", "plr.npz", "summary.json"):
    assert content(resumed.folder, file) == content(flare_run.folder, file)
  assert scalars(resumed.folder.path / "tensorboard", "accuracy") == pytest.approx(
    dict(flare_run.folder.read("metrics.csv").set_index("round")["accuracy"])
  )


def scalars(folder, name):
  """Step -> value in TensorBoard's files."""
  import tensorflow as tf

  found = {}
  for file in folder.iterdir():
    for event in tf.compat.v1.train.summary_iterator(str(file)):
      for value in event.summary.value:
        if value.tag == name:
          found[event.step] = float(tf.make_ndarray(value.tensor))
  return found


def test_damaged_table_means_going_on_from_an_earlier_round(
  toy, runtime, fedavg_run, monkeypatch
):
  config = toy(**toy_runs.FEDAVG)
  break_off(config, runtime, monkeypatch, "score_global")
  table = progress.folder(config) / "clients.csv"
  table.write_bytes(table.read_bytes()[:40])
  resumed = loop.run(config, runtime)
  for file in ("metrics.csv", "clients.csv", "summary.json"):
    assert content(resumed.folder, file) == content(fedavg_run.folder, file)


@pytest.fixture
def killed(monkeypatch):
  """Workers that were killed: the one at work on round 2, when asked for its result."""
  from tff_defenses.runtime import execution

  step, compute = trainers.GlobalTrainer.step, execution.GuardedStub.compute
  victims, killed = [], []

  def choose(self, own, states, round_number, drawn, **call):
    if round_number == 2:
      victims.append(own.worker.pid)
    return step(self, own, states, round_number, drawn, **call)

  def kill(self, request):
    if victims:
      killed.append(victims.pop())
      os.kill(killed[-1], signal.SIGKILL)
    return compute(self, request)

  monkeypatch.setattr(trainers.GlobalTrainer, "step", choose)
  monkeypatch.setattr(execution.GuardedStub, "compute", kill)
  return killed


def test_worker_killed_in_a_round_changes_nothing(
  fedavg_run, toy, runtime, killed, caplog
):
  import tensorflow_federated as tff

  from tff_defenses.runtime import use_local_worker

  before = tff.framework.get_context_stack().current
  try:
    with use_local_worker() as own, caplog.at_level(logging.WARNING):
      result = loop.run(toy(**toy_runs.FEDAVG), own)
      assert own.worker.pid not in killed
  finally:
    tff.framework.set_default_context(before)
  assert len(killed) == 1 and "Repeating a call" in caplog.text
  for name in ("metrics.csv", "clients.csv"):
    assert content(result.folder, name) == content(fedavg_run.folder, name)
