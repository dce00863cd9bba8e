"""What is read from a run's folder, whole or not."""

import dataclasses
import json

import pytest

from tests.experiments import fabricated_runs as fabricated
from tff_defenses.experiments import claims, run_values
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import OutputError

CONFIG = ExperimentConfig(defense="krum", seed=4, rounds=20)
TIMING = (
  "round,seconds_training,seconds_aggregation,seconds_scoring,seconds_round,"
  "peak_memory_bytes\n1,10,8,0,20,500\n2,2,1,0,4,700\n3,4,3,0,8,600\n"
)


def test_values_are_summary_then_final_then_timing(tmp_path):
  final = {"accuracy": 0.1, "train_loss": 2.5, "backdoor_accuracy": 0.25}
  values = {"accuracy": 0.5, "backdoor_accuracy": None, "seconds_total": 1.0}
  folder = fabricated.put(tmp_path, CONFIG, final=final, **values)
  (folder / "timing.csv").write_text(TIMING)
  run = run_values.read(folder)
  assert (run.status, run.seed, run.rounds_done, run.version) == ("done", 4, 20, "1")
  assert run.values["accuracy"] == 0.5 and run.values["train_loss"] == 2.5
  assert run.values["backdoor_accuracy"] == 0.25  # the summary has none
  assert run.values["seconds_training"] == 16 and run.values["seconds_total"] == 32
  assert run.values["seconds_training_per_round"] == 3  # median of 2 and 4
  assert run.values["seconds_aggregation_per_round"] == 2
  assert run.values["peak_memory_bytes"] == 700 and "final" not in run.values


def test_a_single_round_is_its_own_median(tmp_path):
  folder = fabricated.put(tmp_path, CONFIG, accuracy=0.5)
  (folder / "timing.csv").write_text("".join(TIMING.splitlines(True)[:2]))
  assert run_values.read(folder).values["seconds_training_per_round"] == 10


@pytest.mark.parametrize(
  ("state", "status", "rounds"),
  [
    ({"accuracy": 0.5}, "done", 20),
    ({"rounds": 3}, "left", 3),
    ({"rounds": 0}, "left", 0),
    ({"error": "Disk full.", "rounds": 2}, "failed", 2),
  ],
)
def test_status_follows_from_the_files(tmp_path, state, status, rounds):
  run = run_values.read(fabricated.put(tmp_path, CONFIG, **state))
  assert (run.status, run.rounds_done, run.error) == (
    status,
    rounds,
    "ValueError: Disk full." if "error" in state else "",
  )
  assert bool(run.values) == (status == "done")


@pytest.mark.parametrize("error", [None, "Of an attempt before."])
def test_a_run_is_running_while_a_process_holds_it(tmp_path, error):
  folder = fabricated.put(tmp_path, CONFIG, rounds=3, error=error)
  with claims.claim(folder):
    run = run_values.read(folder)
  assert (run.status, run.rounds_done, run.error) == ("running", 3, "")
  assert run_values.read(folder).status == ("left" if error is None else "failed")


def test_a_half_written_last_round_does_not_count(tmp_path):
  folder = fabricated.put(tmp_path, CONFIG, rounds=2)
  with open(folder / "metrics.csv", "a") as file:
    file.write("3")
  assert run_values.read(folder).rounds_done == 2


def test_a_folder_without_config_holds_no_run(tmp_path):
  assert run_values.read(tmp_path) is None


def test_a_damaged_config_is_named(tmp_path):
  folder = fabricated.put(tmp_path, CONFIG, accuracy=0.5)
  (folder / "config.json").write_text('{"seed": ')
  with pytest.raises(OutputError, match=r"config\.json is damaged"):
    run_values.read(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_a_damaged_summary_is_no_result(tmp_path, text):
  folder = fabricated.put(tmp_path, CONFIG, accuracy=0.5)
  (folder / "summary.json").write_bytes(text.encode("utf-8", "surrogateescape"))
  run = run_values.read(folder)
  assert run.status == "left" and run.values == {}
  assert len(run.faults) == 1 and str(folder / "summary.json") in run.faults[0]


def test_a_damaged_timing_leaves_the_other_values(tmp_path):
  folder = fabricated.put(tmp_path, CONFIG, accuracy=0.5)
  (folder / "timing.csv").write_text("round,seconds_training\n1,abc\n")
  run = run_values.read(folder)
  assert run.number("accuracy") == 0.5 and "seconds_training" not in run.values
  assert "timing.csv" in run.faults[0]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), True, "0.5"])
def test_only_finite_numbers_are_measurements(tmp_path, value):
  run = run_values.read(fabricated.put(tmp_path, CONFIG, accuracy=value))
  assert run.number("accuracy") is None


def test_runs_are_found_below_but_not_in_checkpoints(tmp_path):
  for seed, name in enumerate(("b", "a/deep", "a/checkpoint/x", ".hidden")):
    config = dataclasses.replace(CONFIG, seed=seed)
    fabricated.put(tmp_path, config, folder=name, accuracy=0.5)
  (tmp_path / "c").mkdir()
  (tmp_path / "c" / "config.json").write_text("")
  assert run_values.find(tmp_path) == [tmp_path / n for n in ("a/deep", "b", "c")]
  runs, faults = run_values.read_all(tmp_path)
  assert len(runs) == 2 and len(faults) == 1 and "c/config.json" in faults[0]


def test_a_run_in_several_folders_counts_once_and_is_told(tmp_path):
  for name in ("published/table", "table", "z"):
    fabricated.put(tmp_path / name, CONFIG, folder="run", accuracy=0.5)
  other = dataclasses.replace(CONFIG, seed=5)
  fabricated.put(tmp_path / "table", other, folder="other", accuracy=0.5)
  runs, faults = run_values.read_all(tmp_path)
  found = [str(run.folder.relative_to(tmp_path)) for run in runs]
  assert found == ["published/table/run", "table/other"] and len(faults) == 1
  assert "2 folder(s) repeat the run of another and are left out" in faults[0]
  assert "such as table/run, which repeats published/table/run." in faults[0]


@pytest.mark.parametrize("known", ["config_hash", "settings"])
def test_the_same_run_is_known_by_its_hash_or_by_settings_and_seed(tmp_path, known):
  first, second = (
    fabricated.put(tmp_path, CONFIG, folder=name, accuracy=0.5) for name in "ab"
  )
  config = json.loads((second / "config.json").read_text())
  if known == "settings":
    del config["config_hash"]
  else:
    del config["aux_size"]  # as a version before this setting would write it
  fabricated.write(second / "config.json", config)
  runs, faults = run_values.read_all(tmp_path)
  assert [run.folder for run in runs] == [first] and len(faults) == 1


def test_of_a_run_in_several_folders_the_finished_one_is_read(tmp_path):
  fabricated.put(tmp_path, CONFIG, folder="a", error="Disk full.", rounds=9)
  fabricated.put(tmp_path, CONFIG, folder="b", rounds=2)
  fabricated.put(tmp_path, CONFIG, folder="c", rounds=3)
  finished = fabricated.put(tmp_path, CONFIG, folder="d", accuracy=0.5)
  (run,), _ = run_values.read_all(tmp_path)
  assert run.folder == finished
  (finished / "summary.json").unlink()
  (run,), _ = run_values.read_all(tmp_path)
  assert run.folder.name == "a"  # its error is what the user is to see
  (tmp_path / "a" / "failed.json").unlink()
  (tmp_path / "a" / "metrics.csv").unlink()
  (run,), _ = run_values.read_all(tmp_path)
  assert run.folder.name == "c"


def test_the_key_leaves_out_seed_and_places(tmp_path):
  first = run_values.read(fabricated.put(tmp_path / "a", CONFIG, accuracy=0.5))
  other = ExperimentConfig(defense="krum", seed=9, rounds=20, output_dir="elsewhere")
  assert first.key == run_values.settings_key(other.settings())
  assert first.key != run_values.settings_key({**other.settings(), "rounds": 21})
