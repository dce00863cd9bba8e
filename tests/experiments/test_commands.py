"""What the command line does, with runs that are only pretended."""

import contextlib
import dataclasses
import os
import pathlib
import types

import pytest

import tff_defenses
from tests.experiments import fabricated_runs, fake_runs
from tff_defenses.experiments import (
  calibration,
  commands,
  grid,
  jobs,
  presets,
  reproduction,
)
from tff_defenses.experiments.config import ConfigError, ExperimentConfig
from tff_defenses.experiments.errors import OutputError


class Result(str):
  ok = True


def plan_of(folder, defenses):
  return reproduction.plan(
    "flare:table3",
    seeds=[0],
    scale=0.01,
    datasets=["fashion_mnist"],
    defenses=defenses,
    output_dir=str(folder),
  )


@pytest.fixture
def plan(tmp_path):
  return plan_of(tmp_path / "out", ["krum", "flare"])


@pytest.fixture
def ran(monkeypatch):
  """Configs that were run, in this process or in others, and how it was asked to."""
  found = types.SimpleNamespace(here=[], elsewhere=[], settings=None)

  def run_here(configs, runtime, **settings):
    del runtime
    found.settings = settings
    left = [c for c in configs if not os.path.exists(c.output_dir)]
    found.here += left
    for config in left:
      fake_runs.write(config)
    return Result("table")

  def run_elsewhere(configs, number, argv, *, reuse):
    found.elsewhere.append((len(configs), number, argv, reuse))
    return Result("table")

  monkeypatch.setattr(grid, "run", run_here)
  monkeypatch.setattr(jobs, "run", run_elsewhere)
  return found


def test_a_plan_is_saved_run_and_reported(plan, ran, tmp_path):
  configs = plan.configs()
  text, ok = commands.run(configs, contextlib.nullcontext, plan=plan)
  assert ok and ran.here == configs
  assert "REDUCED SCALE 0.01" in text and "report.html" in text
  assert (
    "fMNIST, ASR" in text and "Kather, ASR" not in text
  )  # what was not asked for is in the files alone
  assert "Kather, ASR" in (tmp_path / "out" / "scorecard.md").read_text()
  names = {path.name for path in (tmp_path / "out").iterdir()}
  assert {"plan.json", "report.html", "scorecard.csv", "figures"} <= names


def test_a_second_table_takes_over_the_runs_of_the_first(plan, ran, tmp_path):
  commands.run(plan.configs(), contextlib.nullcontext, plan=plan)
  again = plan_of(tmp_path / "other", ["krum"])
  ran.here.clear()
  commands.run(again.configs(), contextlib.nullcontext, plan=again)
  assert ran.here == [] and len(again.configs()) == 2
  assert len(list((tmp_path / "other").glob("*/summary.json"))) == 2


def test_a_narrowed_call_finds_no_fault_with_the_other_runs(plan, ran, tmp_path):
  commands.run(plan.configs(), contextlib.nullcontext, plan=plan)
  fewer = plan_of(tmp_path / "out", ["krum"])
  text, _ = commands.run(fewer.configs(), contextlib.nullcontext, plan=fewer)
  assert "belong to no cell" not in text


def test_several_jobs_load_no_runtime_here(plan, ran):
  def refuse():
    raise AssertionError("the runtime belongs to the other processes")

  argv = ["run_experiments.py", "--jobs=3"]
  text, _ = commands.run(plan.configs(), refuse, jobs=3, argv=argv, resume=False)
  assert text == "table"
  assert ran.elsewhere == [(len(plan.configs()), 3, argv, False)]


@pytest.mark.parametrize("resume", [True, False])
def test_runs_of_this_process_are_made_as_asked(resume, plan, ran):
  asked = {"round_seconds": 9.0, "tensorboard": True}
  commands.run(plan.configs(), contextlib.nullcontext, resume=resume, **asked)
  assert ran.settings == {"reuse": resume, **asked}


def test_one_of_the_jobs_writes_no_report(plan, ran, monkeypatch, tmp_path):
  monkeypatch.setenv(jobs.CHILD_VARIABLE, "1")
  text, _ = commands.run(plan.configs(), contextlib.nullcontext, plan=plan)
  assert text == "table" and not (tmp_path / "out" / "report.html").exists()


def test_a_report_of_nothing_is_refused(tmp_path):
  with pytest.raises(OutputError, match="without any"):
    commands.report(str(tmp_path))


def test_several_workers_are_refused_to_attacks_that_aggregate_twice():
  runs = [ExperimentConfig(attack=name) for name in ("trigger", "min_max", "sign_flip")]
  message = r"--workers must name a single worker.* \(min_max, sign_flip\), got 2\. "
  with pytest.raises(ConfigError, match=message):
    commands.check_workers(runs, ["a:1", "b:2"])
  commands.check_workers(runs[:1], ["a:1", "b:2"])
  commands.check_workers(runs, ["a:1"])
  commands.check_workers(runs, [])


def test_several_workers_are_refused_to_clients_that_keep_a_state():
  names = ("fedavg", "fl_plas", "local")
  runs = [ExperimentConfig(defense=name, attack="min_max") for name in names]
  with pytest.raises(ConfigError, match=r"\(fl_plas, local\), got 2\. ") as raised:
    commands.check_workers(runs, ["a:1", "b:2"])
  assert "(min_max), got 2." in str(raised.value)
  commands.check_workers(runs, ["a:1"])


def test_the_hours_are_those_of_runs_done_anew_if_asked(plan, monkeypatch):
  asked = []

  def estimate(configs, runtime, **settings):
    asked.append(settings)

  monkeypatch.setattr(calibration, "estimate", estimate)
  monkeypatch.setattr(calibration, "text", lambda frame, jobs: "hours")
  for resume in (True, False):
    given = {"adopts": True, "resume": resume}
    found = commands.hours(plan.configs(), contextlib.nullcontext, **given)
    assert found == ("hours", True)
  assert [settings["resume"] for settings in asked] == [True, False]


def test_what_would_refuse_the_runs_is_told_with_their_hours(plan, monkeypatch):
  monkeypatch.setattr(calibration, "estimate", lambda *args, **settings: None)
  monkeypatch.setattr(calibration, "text", lambda frame, jobs: "hours")
  config = dataclasses.replace(plan.configs()[0], dataset="mnist", data_dir="/none")
  text, ok = commands.hours([config], contextlib.nullcontext)
  assert text.startswith("hours\n\nThese runs would be refused: 1 fault(s)")
  assert "MNIST" in text and not ok


def test_the_hours_of_a_run_whose_folder_is_anothers_are_refused(plan):
  """Its rounds would be taken for this one's: less than no hours were left."""
  config = plan.configs()[0]
  fabricated_runs.put(
    pathlib.Path(config.output_dir),
    dataclasses.replace(config, rounds=500),
    rounds=400,
    folder=".",
    version=tff_defenses.__version__,
  )
  with pytest.raises(OutputError, match="holds the run of another .*rounds"):
    commands.hours([config], contextlib.nullcontext)


def test_a_figure_that_cannot_be_drawn_is_told_and_the_scorecard_comes(
  tmp_path, caplog
):
  narrow = {"seeds": [0], "defenses": ["flare"], "output_dir": str(tmp_path)}
  plan = reproduction.plan("flare:fig8", scale=0.02, **narrow)
  plan.save()
  runs = [fake_runs.write(config) for config in plan.configs()]
  commands.report(str(tmp_path))
  assert list((tmp_path / "figures").glob("*.png"))
  for run in runs:
    (run / "metrics.csv").write_text("")
  assert "Sec. 7.1.2" in commands.report(str(tmp_path))
  assert "figures of" in caplog.text and (tmp_path / "scorecard.md").exists()
  assert not list((tmp_path / "figures").glob("*.png"))  # it showed other numbers


def test_the_quick_starts_runs_are_those_of_all_its_parts():
  found = commands.quick_start_configs("here", "shards")
  expected = [d for part in presets.QUICK_START for d in part.defenses]
  assert [config.defense for config in found] == expected
  assert found[0].output_dir == os.path.join("here", "quickstart", "part1_fedavg")
  assert {config.cache_dir for config in found} == {"shards"}
  assert {c.attack for c in found} == {"krum_backdoor", "trigger"}
