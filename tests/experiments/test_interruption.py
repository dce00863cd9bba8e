"""Runs that break off: resumed, failed, held by another, full disk, dead worker."""

import logging
import os
import signal
import threading

import pytest

from tests.experiments import toy_runs
from tests.experiments.toy_runs import content
from tff_defenses.experiments import (
  claims,
  loop,
  progress,
  records,
  round_tables,
  run_record,
  scoring,
  trainers,
)
from tff_defenses.experiments.errors import OutputError


def break_off(config, runtime, monkeypatch, method):
  """Runs a config until the second scoring, which fails."""
  original, calls = getattr(scoring.Scorer, method), []

  def fail_at_second(self, weights):
    calls.append(weights)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return original(self, weights)

  with monkeypatch.context() as patch:
    patch.setattr(scoring.Scorer, method, fail_at_second)
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
  for file in ("summary.json", "arrays.npz"):
    assert content(resumed.folder, file) == content(whole.folder, file)


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


def test_failed_run_is_marked_and_the_mark_goes_with_the_next_attempt(
  toy, break_with, fedavg_run
):
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


def test_worker_killed_in_a_round_changes_nothing(
  fedavg_run, toy, runtime, monkeypatch, caplog
):
  import tensorflow_federated as tff

  from tff_defenses.runtime import use_local_worker

  before = tff.framework.get_context_stack().current
  original, killed = trainers.GlobalTrainer.step, []

  def step(self, own, states, round_number, drawn, **call):
    if round_number == 2:
      killed.append(own.worker.pid)
      threading.Timer(0.1, os.kill, (own.worker.pid, signal.SIGKILL)).start()
    return original(self, own, states, round_number, drawn, **call)

  monkeypatch.setattr(trainers.GlobalTrainer, "step", step)
  try:
    with use_local_worker() as own, caplog.at_level(logging.WARNING):
      result = loop.run(toy(**toy_runs.FEDAVG), own)
      assert own.worker.pid not in killed
  finally:
    tff.framework.set_default_context(before)
  assert len(killed) == 1 and "Repeating a call" in caplog.text
  for name in ("metrics.csv", "clients.csv"):
    assert content(result.folder, name) == content(fedavg_run.folder, name)
