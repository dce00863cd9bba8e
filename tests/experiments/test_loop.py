"""Whole runs: their files, what they measure, repetition, NaN updates."""

import json
import os

import numpy as np
import pytest

import tff_defenses
from tests.experiments import toy_runs
from tests.experiments.toy_runs import content
from tff_defenses.experiments import (
  federation,
  loop,
  records,
  run_record,
  starts,
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


@pytest.mark.parametrize("name", ["fedavg_run", "fl_plas_run", "flare_run"])
def test_run_writes_its_files(name, request):
  result = request.getfixturevalue(name)
  found = {path.name for path in result.folder.path.iterdir()}
  tables = {"metrics.csv", "clients.csv", "timing.csv"}
  files = {"config.json", "data.json", "machines.json", "start.json", "summary.json"}
  files |= tables
  plrs = {"plr.npz"} if name == "flare_run" else set()
  assert found == files | plrs | {"arrays.npz", "checkpoint", ".claim"}
  assert list(result.summary) == list(records.SUMMARY_KEYS)
  assert result.folder.read_summary() == result.summary
  for table in ("metrics.csv", "timing.csv"):
    assert result.folder.read(table)["round"].tolist() == [1, 2, 3]


def test_start_is_scored_as_the_rounds_are(toy, runtime):
  result = loop.run(toy(rounds=1, **toy_runs.FEDAVG), runtime)
  found = json.loads(content(result.folder, "start.json"))
  fed = federation.build(result.config)
  trainer = trainers.build(result.config, fed, runtime)
  weights = found.pop("weights")
  assert found == trainer.score(trainer.start(runtime))
  assert found.keys() == {"accuracy", *BACKDOOR_KEYS}
  assert weights == starts.digest(trainer.initial_weights)
  other = toy(rounds=1, seed=result.config.seed + 1, **toy_runs.FEDAVG)
  differs = trainers.build(other, federation.build(other), runtime).initial_weights
  assert weights != starts.digest(differs)


def test_start_of_a_run_that_goes_on_stays(toy, count_rounds):
  count_rounds(toy(), fails_at=2)
  resumed, result = count_rounds(toy())
  assert resumed.stepped == [2, 3]
  assert json.loads(content(result.folder, "start.json"))["accuracy"] == 0.0


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
    assert (rows["update_norm"] > 0).all()


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
    ("bucketing", "krum inside of bucketing is used outside its assumption ("),
    ("bucketing", "4 of the 5 buckets of a round are malicious"),
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


@pytest.mark.parametrize(
  ("attack", "attack_settings"),
  [("trigger", {}), ("scaling", {"gamma": 50.0}), ("sign_flip", {"scale": 50.0})],
)
def test_before_its_first_round_an_attack_does_nothing(
  attack, attack_settings, toy, runtime, unattacked
):
  settings = {"attack": attack, "attack_settings": attack_settings}
  settings |= {"malicious_fraction": 0.34, "rounds": 2, "attack_start": 2}
  found = loop.run(toy(**settings), runtime).folder.read("metrics.csv")
  columns = ["accuracy", "train_loss"]
  assert found[columns].iloc[0].tolist() == unattacked[columns].iloc[0].tolist()
  assert found[columns].iloc[1].tolist() != unattacked[columns].iloc[1].tolist()
  if attack == "scaling":
    assert found["crafted_accuracy"].isna().tolist() == [True, False]


def test_what_attackers_craft_is_scored_as_a_model_of_its_own(toy, runtime):
  """Where all who are drawn attack, theta + delta_mal is the next global model."""
  drawn = {"num_clients": 10, "clients_per_round": 2, "malicious_fraction": 0.8}
  config = toy(attack="scaling", rounds=2, **drawn)
  found = loop.run(config, runtime).folder.read("metrics.csv")
  assert found["crafted_accuracy"].tolist() == found["accuracy"].tolist()


def test_nobody_is_to_be_detected_in_a_round_without_an_attack(toy, runtime):
  settings = {"attack": "sign_flip", "malicious_fraction": 0.34, "rounds": 2}
  config = toy(defense="multi_krum", attack_start=2, **settings)
  found = loop.run(config, runtime).folder.read("metrics.csv")
  assert found["detection_auc"].isna().tolist() == [True, False]


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


def test_complete_run_with_a_damaged_summary_is_one_sentence(toy, never_train):
  config = toy()
  folder = records.RunFolder(config.output_dir, run_record.describe(config))
  (folder.path / "summary.json").write_text("")
  with pytest.raises(OutputError, match=r"summary\.json .*damaged. Remove this file"):
    loop.run(config, None)


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
      "fl_plas: `inner` must be one of .*, got 'flair'. Did you mean 'flare'?",
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


def test_folder_that_cannot_be_written_raises_at_once(runtime, tmp_path, never_train):
  (tmp_path / "file").write_text("")
  config = toy_runs.toy(tmp_path / "file" / "run", tmp_path)
  with pytest.raises(OutputError, match="`output_dir` .* cannot be written"):
    loop.run(config, runtime)


def test_run_may_be_made_anew(fl_plas_run, toy, runtime, monkeypatch):
  config = toy(**toy_runs.FL_PLAS)
  folder = records.RunFolder(config.output_dir, run_record.describe(config))
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


def test_a_run_whose_clients_all_diverge_has_no_training_loss(toy, runtime):
  settings = {"optimizer": "sgd", "learning_rate": 1e38, "pretrain_on_aux": False}
  result = loop.run(toy(rounds=1, **settings), runtime, tensorboard=True)
  table = result.folder.read("metrics.csv")
  assert table["num_rejected"].tolist() == [3]
  assert table["train_loss"].isna().tolist() == [True]
  assert result.summary["final"]["train_loss"] is None


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
