"""Whole runs: files, repetition, interruption, full disk, dead worker, NaN updates."""

import json
import logging
import os
import signal
import threading

import numpy as np
import pytest

import tff_defenses
from tests.experiments import toy_runs
from tff_defenses.experiments import (
  claims,
  federation,
  loop,
  progress,
  records,
  round_tables,
  scoring,
  trainers,
  training_attacks,
)
from tff_defenses.experiments.config import PLACES, ConfigError
from tff_defenses.experiments.errors import OutputError

BACKDOOR_KEYS = ("backdoor_accuracy", "backdoor_accuracy_nontarget")
TARGET_KEYS = (
  "attack_success_rate",
  "attack_success_rate_over_rounds",
  "target_confidence",
)


@pytest.fixture
def toy(tmp_path, shard_cache):
  """A toy config that writes to this test's own folder."""
  return lambda **changes: toy_runs.toy(tmp_path / "run", shard_cache, **changes)


@pytest.fixture
def never_train(monkeypatch):
  """Fails the test if anything is built."""

  def fail(*_, **__):
    raise AssertionError("a run was started")

  monkeypatch.setattr(trainers, "build", fail)


def content(folder, name):
  return (folder.path / name).read_bytes()


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


@pytest.mark.parametrize("name", ["fedavg_run", "fl_plas_run", "flare_run"])
def test_run_writes_its_files(name, request):
  result = request.getfixturevalue(name)
  found = {path.name for path in result.folder.path.iterdir()}
  files = {"config.json", "metrics.csv", "clients.csv", "timing.csv", "summary.json"}
  plrs = {"plr.npz"} if name == "flare_run" else set()
  assert found == files | plrs | {"arrays.npz", "checkpoint", ".claim"}
  assert list(result.summary) == list(records.SUMMARY_KEYS)
  assert result.folder.read_summary() == result.summary
  for table in ("metrics.csv", "timing.csv"):
    assert result.folder.read(table)["round"].tolist() == [1, 2, 3]


def test_config_file_holds_settings_and_threat_model(fl_plas_run):
  written = json.loads((fl_plas_run.folder.path / "config.json").read_text())
  config = fl_plas_run.config
  assert written["config_hash"] == config.hash() == fl_plas_run.summary["config_hash"]
  assert written["version"] == tff_defenses.__version__
  settings = {k: v for k, v in config.settings().items() if k not in PLACES}
  assert {k: written[k] for k in settings} == settings
  assert not set(written) & set(PLACES)
  assert written["reduced"] is True
  assert written["threat_model"] == {
    "attack": "trigger",
    "kind": "data",
    "malicious_clients": [3],
    "malicious_per_round": 1,
    "participation": "fixed_frequency",
    "sees": ["own_data"],
    "settings": {},
    "boost": None,
    "true_num_byzantine": 1,
    "told_num_byzantine": 1,
    "first_round": 1,
    "last_round": 3,
  }


def test_clients_file_has_a_row_for_each_drawn_client(fl_plas_run):
  table = fl_plas_run.folder.read("clients.csv")
  assert table.columns.tolist() == list(records.CLIENT_COLUMNS)
  for round_number, rows in table.groupby("round"):
    drawn = federation.draw_clients(fl_plas_run.config, round_number)
    assert rows["client_index"].tolist() == drawn
    assert rows["malicious"].tolist() == [client == 3 for client in drawn]
    assert rows["weight"].sum() == pytest.approx(1)


def test_detection_is_scored_every_round_from_the_weights_of_clients(flare_run):
  metrics, clients = (flare_run.folder.read(f"{n}.csv") for n in ("metrics", "clients"))
  for row in metrics.itertuples():
    of_round = clients[clients["round"] == row.round]
    flagged, malicious = of_round["flagged"], of_round["malicious"]
    assert flagged.tolist() == (of_round["weight"] < 1 / 3 - 1e-6).tolist()
    assert row.detection_recall == flagged[malicious].mean()
    benign = of_round["weight"][~malicious].to_numpy()
    worst = of_round["weight"][malicious].item()
    wins = (worst < benign) + (worst == benign) / 2
    assert row.detection_auc == pytest.approx(wins.mean())


def test_without_malicious_clients_nothing_is_detected(tmp_path, shard_cache, runtime):
  config = toy_runs.toy(tmp_path, shard_cache, rounds=1)
  table = loop.run(config, runtime).folder.read("metrics.csv")
  assert not [name for name in table if name.startswith("detection")]


@pytest.mark.parametrize(
  ("defense", "sentence"),
  [
    ("krum", "krum is used outside its assumption (n >= 2f + 3): 4 of the 10 clients"),
    ("fedavg", "fedavg is used outside its assumption (all clients honest): 4 of"),
    ("bulyan", "bulyan is used outside its assumption (n >= 4f + 3): 4 of the 10"),
  ],
)
def test_a_rule_outside_its_assumption_says_so_once(
  defense, sentence, tmp_path, caplog, monkeypatch
):
  settings = {"attack": "trigger", "num_clients": 10, "malicious_fraction": 0.4}
  config = toy_runs.toy(tmp_path, tmp_path, defense=defense, **settings)
  monkeypatch.setattr(trainers, "build", lambda *_, **__: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    loop.run(config, None)
  assert len(caplog.messages) == 1 and sentence in caplog.messages[0]


@pytest.fixture(scope="module")
def unattacked(tmp_path_factory, shard_cache, runtime):
  """metrics.csv of a run without an attack."""
  folder = tmp_path_factory.mktemp("unattacked")
  config = toy_runs.toy(folder, shard_cache, rounds=2)
  return loop.run(config, runtime).folder.read("metrics.csv")


@pytest.mark.parametrize("attack", ["trigger", "krum_backdoor", "sign_flip", "scaling"])
def test_an_attack_without_attackers_is_none_at_all(attack, toy, runtime, unattacked):
  config = toy(attack=attack, malicious_fraction=0.0, rounds=2)
  found = loop.run(config, runtime).folder.read("metrics.csv")
  for column in ("accuracy", "train_loss", "num_rejected"):
    assert found[column].tolist() == unattacked[column].tolist()


def test_before_its_first_round_an_attack_does_nothing(toy, runtime, unattacked):
  settings = {"attack": "sign_flip", "malicious_fraction": 0.34, "rounds": 2}
  settings["attack_settings"] = {"scale": 50.0}
  found = loop.run(toy(attack_start=2, **settings), runtime).folder.read("metrics.csv")
  columns = ["accuracy", "train_loss"]
  assert found[columns].iloc[0].tolist() == unattacked[columns].iloc[0].tolist()
  assert found["accuracy"].iloc[1] != unattacked["accuracy"].iloc[1]


def test_a_rule_inside_its_assumption_says_nothing(tmp_path, caplog, monkeypatch):
  settings = {"attack": "trigger", "num_clients": 10, "malicious_fraction": 0.1}
  config = toy_runs.toy(tmp_path, tmp_path, defense="krum", **settings)
  monkeypatch.setattr(trainers, "build", lambda *_, **__: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    loop.run(config, None)
  assert caplog.messages == []


def test_what_does_not_apply_is_null_and_the_rest_is_a_share(fedavg_run, flare_run):
  for result, given, absent in (
    (fedavg_run, BACKDOOR_KEYS, TARGET_KEYS),
    (flare_run, TARGET_KEYS, BACKDOOR_KEYS),
  ):
    assert [result.summary[key] for key in absent] == [None] * len(absent)
    assert all(0 <= result.summary[key] <= 1 for key in ("accuracy", *given))
    columns = result.folder.read("metrics.csv").columns
    assert not set(absent) & set(columns)


def test_summary_is_the_last_round_and_the_mean_over_rounds(flare_run):
  table = flare_run.folder.read("metrics.csv")
  summary, timing = flare_run.summary, flare_run.folder.read("timing.csv")
  assert summary["accuracy"] == table["accuracy"].iloc[-1]
  mean = table["attack_success_rate"].mean()
  assert summary["attack_success_rate_over_rounds"] == pytest.approx(mean)
  assert (timing["seconds_aggregation"] < timing["seconds_round"]).all()
  assert (timing["peak_memory_bytes"] > 100e6).all()


def test_summary_holds_no_seconds_but_the_whole_last_row_and_the_traffic(flare_run):
  summary, last = flare_run.summary, flare_run.folder.read("metrics.csv").iloc[-1]
  assert not [name for name in summary if "seconds" in name or "memory" in name]
  assert list(summary["final"]) == last.index.tolist()
  for name, value in last.items():
    assert summary["final"][name] == (None if np.isnan(value) else value)
  weights = flare_run.trainer.initial_weights.trainable
  size = 4 * sum(np.size(weight) for weight in weights)
  assert (summary["bytes_up"], summary["bytes_down"]) == (size, size)


def test_flare_measures_votes_and_distances(flare_run):
  clients = flare_run.folder.read("clients.csv")
  assert clients["votes"].between(0, 2).all()
  with np.load(flare_run.folder.path / "arrays.npz") as arrays:
    assert arrays["mmd"].shape == (3, 3)
    assert arrays["malicious"].tolist() == [False, False, True]


def test_same_config_gives_the_same_bytes(finish, fedavg_run):
  again = finish(**toy_runs.FEDAVG)
  for name in ("metrics.csv", "clients.csv"):
    assert content(again.folder, name) == content(fedavg_run.folder, name)


def test_complete_run_is_read_and_not_repeated(fedavg_run, runtime, never_train):
  again = loop.run(fedavg_run.config, runtime)
  assert again.summary == fedavg_run.summary
  assert again.trainer is None and again.states is None


def test_folder_of_another_config_raises_before_anything_is_trained(
  fedavg_run, runtime, shard_cache, never_train
):
  folder = fedavg_run.folder.path
  other = toy_runs.toy(folder, shard_cache, **toy_runs.FEDAVG, seed=1)
  before = content(fedavg_run.folder, "metrics.csv")
  with pytest.raises(OutputError, match="holds the run of another config"):
    loop.run(other, runtime)
  assert content(fedavg_run.folder, "metrics.csv") == before


def test_faults_are_told_before_a_folder_is_made(toy, runtime):
  config = toy(defense="flair", rounds=0)
  with pytest.raises(ConfigError, match=r"2 fault\(s\)"):
    loop.run(config, runtime)
  assert not os.path.exists(config.output_dir)


@pytest.mark.parametrize(
  ("settings", "sentence"),
  [
    ({"model": "kather_cnn"}, "kather_cnn: .* at least 32x32 pixels"),
    (
      {"defense": "flare", "defense_settings": {"temprature": 2.0}},
      "`defense_settings` must be settings that flare takes.*'temprature'",
    ),
    (
      {"defense": "fl_plas", "defense_settings": {"inner": "flair"}},
      "`defense_settings` must be settings that fl_plas takes.*'flair'",
    ),
    ({"max_train_images": 2}, "`num_clients` .* must be in 1..2"),
  ],
)
def test_what_does_not_fit_is_told_before_the_first_round(
  toy, runtime, settings, sentence
):
  config = toy(pretrain_on_aux=False, **settings)
  with pytest.raises(ValueError, match=sentence):
    loop.run(config, runtime)
  assert not os.path.exists(os.path.join(config.output_dir, "metrics.csv"))


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
  folder = records.RunFolder(config.output_dir, loop.describe(config))
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


def test_failed_run_is_marked_and_the_mark_goes_with_the_next_attempt(
  toy, monkeypatch, fedavg_run
):
  config = toy()

  def fail(*_, **__):
    raise ZeroDivisionError("no clients")

  monkeypatch.setattr(trainers, "build", fail)
  with pytest.raises(ZeroDivisionError):
    loop.run(config, None)
  assert progress.status(config) == "failed"
  assert claims.failure(config.output_dir) == "ZeroDivisionError: no clients"

  def interrupt(*_, **__):
    raise KeyboardInterrupt

  monkeypatch.setattr(trainers, "build", interrupt)
  with pytest.raises(KeyboardInterrupt):
    loop.run(config, None)
  assert progress.status(config) == "left"


def test_full_disk_is_not_the_failure_of_a_run(toy, monkeypatch):
  config = toy()

  def full(*_, **__):
    raise OutputError("no space")

  monkeypatch.setattr(trainers, "build", full)
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


def test_folder_that_cannot_be_written_raises_at_once(runtime, tmp_path, never_train):
  (tmp_path / "file").write_text("")
  config = toy_runs.toy(tmp_path / "file" / "run", tmp_path)
  with pytest.raises(OutputError, match="`output_dir` .* cannot be written"):
    loop.run(config, runtime)


def test_run_may_be_made_anew(fl_plas_run, toy, runtime, monkeypatch):
  config = toy(**toy_runs.FL_PLAS)
  folder = records.RunFolder(config.output_dir, loop.describe(config))
  folder.write_summary(fl_plas_run.summary)  # as if it were complete
  built = []

  def build(*arguments, **_):
    built.append(arguments)
    raise KeyboardInterrupt

  monkeypatch.setattr(trainers, "build", build)
  assert loop.run(config, runtime).summary == fl_plas_run.summary
  with pytest.raises(KeyboardInterrupt):
    loop.run(config, runtime, reuse=False)
  assert len(built) == 1


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


@pytest.mark.parametrize("defense", ["fedavg", "krum", "flare"])
def test_update_that_is_not_finite_is_rejected_and_the_run_goes_on(
  defense, finish, monkeypatch
):
  monkeypatch.setattr(
    training_attacks, "build_training_attack", lambda *_: toy_runs.SendsNaN()
  )
  result = finish(**{**toy_runs.FLARE, "defense": defense, "rounds": 2})
  table = result.folder.read("metrics.csv")
  assert table["num_rejected"].tolist() == [1, 1]
  assert np.isfinite(table[["accuracy", "train_loss"]].to_numpy()).all()
  weights = result.states[0].global_model_weights.trainable
  assert all(np.isfinite(w).all() for w in weights)
  clients = result.folder.read("clients.csv")
  assert (clients["weight"][clients["malicious"]] == 0).all()
