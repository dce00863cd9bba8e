"""What the flags lead to, in this process: everything up to the runs themselves."""

import itertools
import logging
import os
import pathlib
import subprocess
import types

import pytest
from absl.testing import flagsaver

import run_experiments
from tff_defenses import runtime
from tff_defenses.experiments import commands
from tff_defenses.experiments.errors import OutputError

TOY = ("--preset=toy", "--attack=trigger", "--malicious_fraction=0.25")
REPRODUCE = (
  *("--reproduce=fl_plas:table4", "--scale=0.05", "--dataset=mnist"),
  *("--attack=trigger", "--defense=fl_plas,krum", "--seeds=0"),
)


class Recorder:
  """Stands for a function: keeps its arguments and gives, or raises, an answer."""

  def __init__(self, answer=None):
    self.answer, self.calls = answer, []

  def __call__(self, *arguments, **settings):
    self.calls.append(types.SimpleNamespace(arguments=arguments, settings=settings))
    if isinstance(self.answer, BaseException):
      raise self.answer
    return self.answer

  @property
  def call(self):
    """The only one."""
    (found,) = self.calls
    return found


@pytest.fixture
def recorders(monkeypatch):
  """In place of all that would run something or take long."""
  found = types.SimpleNamespace(
    run=Recorder(("the table", True)),
    hours=Recorder(("the hours", True)),
    quick_start=Recorder("the quick start"),
    report=Recorder("the report"),
    check=Recorder([]),
    use_local_worker=Recorder("a local worker"),
    use_remote_workers=Recorder("remote workers"),
  )
  for name, recorder in vars(found).items():
    owner = commands if hasattr(commands, name) else runtime
    monkeypatch.setattr(owner, name, recorder)
  return found


@pytest.fixture
def main(monkeypatch):
  """`run_experiments.main` behind flags, as a shell gives them; returns the status."""
  monkeypatch.setattr(logging, "captureWarnings", lambda on: None)  # would last
  monkeypatch.setattr(logging.getLogger("tensorflow"), "level", logging.WARNING)

  def call(*flags):
    argv = ["run_experiments.py", *flags]
    monkeypatch.setattr("sys.argv", argv)
    with flagsaver.flagsaver():
      return run_experiments.main(run_experiments.FLAGS(argv))

  return call


def test_lists_become_all_their_combinations(main, recorders, tmp_path):
  lists = ("--defense=fedavg,krum", "--attack=trigger,label_flip", "--seed=3,4")
  assert main(*TOY, *lists, "--rounds=2", f"--output_dir={tmp_path}") == 0
  configs, make_runtime = recorders.run.call.arguments
  assert [(c.defense, c.attack, c.seed) for c in configs] == list(
    itertools.product(("fedavg", "krum"), ("trigger", "label_flip"), (3, 4))
  )
  settings = {(c.dataset, c.rounds, c.malicious_fraction) for c in configs}
  assert settings == {("mnist5k", 2, 0.25)}
  assert {c.output_dir.rsplit("/", 1)[0] for c in configs} == {str(tmp_path)}
  assert make_runtime() == "a local worker"


def test_seeds_is_another_name_of_seed(main, recorders):
  assert main("--preset=toy", "--seeds=1,2") == 0
  assert [config.seed for config in recorders.run.call.arguments[0]] == [1, 2]


def test_settings_and_places_reach_the_config(main, recorders):
  flags = {
    "model": "lenet",
    "num_clients": 12,
    "learning_rate": 0.25,
    "as_published": True,
    "partition": "dirichlet",
    "data_dir": "data",
    "cache_dir": "shards",
    "output_dir": "out",
  }
  json = ('--defense_settings={"variant": "authors"}', "--defense=krum")
  assert main("--preset=toy", *json, *(f"--{n}={v}" for n, v in flags.items())) == 0
  (config,) = recorders.run.call.arguments[0]
  assert {name: getattr(config, name) for name in flags} == flags
  assert config.defense_settings == {"variant": "authors"}


def test_augmentation_of_a_preset_is_switched_off_by_none(main, recorders):
  for flags in ((), ("--augment=none",)):
    assert main("--preset=fl_plas_cifar10", *flags) == 0
  found = [call.arguments[0][0].augment for call in recorders.run.calls]
  assert found == ["crop_flip", None]


def test_without_more_flags_nothing_special_is_asked_for(main, recorders):
  assert main(*TOY) == 0
  assert recorders.run.call.settings == {
    "plan": None,
    "jobs": 1,
    "argv": ["run_experiments.py", *TOY],
    "resume": True,
    "round_seconds": None,
    "tensorboard": False,
  }


def test_flags_of_the_runs_are_passed_on(main, recorders):
  flags = ("--jobs=3", "--noresume", "--round_seconds=9", "--tensorboard")
  assert main(*TOY, *flags) == 0
  assert recorders.run.call.settings == {
    "plan": None,
    "jobs": 3,
    "argv": ["run_experiments.py", *TOY, *flags],  # for the other processes
    "resume": False,
    "round_seconds": 9.0,
    "tensorboard": True,
  }


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_the_status_tells_whether_all_runs_are_done(
  main, recorders, capsys, ok, status
):
  recorders.run.answer = ("the table", ok)
  assert main(*TOY) == status
  assert capsys.readouterr().out == "the table\n"


@pytest.mark.parametrize(
  ("error", "status", "words"),
  [
    (OutputError("the disk is full"), 1, "error: the disk is full"),
    (runtime.WorkerError("no worker"), 1, "error: no worker"),
    (ValueError("a bad value"), 1, "error: a bad value"),
    (KeyboardInterrupt(), 130, "error: interrupted; finished rounds are kept"),
  ],
)
def test_an_expected_error_is_one_line(main, recorders, capsys, error, status, words):
  recorders.run.answer = error
  assert main(*TOY) == status
  assert capsys.readouterr().err == f"{words}\n"


def test_a_programming_error_is_not_hidden(main, recorders):
  recorders.run.answer = TypeError("ours")
  with pytest.raises(TypeError, match="ours"):
    main(*TOY)


@pytest.mark.parametrize("flags", [TOY, REPRODUCE, (*TOY, "--dry_run")])
def test_a_limit_of_no_seconds_is_refused_before_anything_starts(
  main, recorders, capsys, flags
):
  assert main(*flags, "--round_seconds=0") == 1
  assert capsys.readouterr().err == (
    "error: --round_seconds must be > 0, got 0. Leave it out for no limit.\n"
  )
  assert recorders.run.calls == recorders.hours.calls == []


def test_reproduce_runs_the_narrowed_table(main, recorders, tmp_path):
  assert main(*REPRODUCE, f"--output_dir={tmp_path}", "--data_dir=data") == 0
  configs, plan = recorders.run.call.arguments[0], recorders.run.call.settings["plan"]
  assert (plan.name, plan.scale, plan.seeds) == ("fl_plas:table4", 0.05, (0,))
  assert plan.output_dir == str(tmp_path) and not plan.variants
  assert {c.defense for c in configs} == {"fl_plas", "krum"}
  assert {(c.dataset, c.attack, c.seed) for c in configs} == {("mnist", "trigger", 0)}
  assert {c.data_dir for c in configs} == {"data"}
  assert all(c.warmup_rounds > 0 for c in configs)


def test_from_scratch_leaves_the_common_start_out(main, recorders):
  assert main(*REPRODUCE, "--from_scratch") == 0
  assert recorders.run.call.settings["plan"].from_scratch
  assert {config.warmup_rounds for config in recorders.run.call.arguments[0]} == {0}


def test_variants_may_be_repeated(main, recorders):
  variants = ("--variants=split as published", "--variants=fl-plas, by examples")
  assert main(*REPRODUCE, *variants) == 0
  found = recorders.run.call.settings["plan"].variants
  assert set(found) == {"split as published", "FL-PLAS, by examples"}


def test_a_dry_run_foretells_and_runs_nothing(main, recorders, capsys):
  assert main(*TOY, "--dry_run", "--jobs=2", "--noresume", "--output_dir=out") == 0
  configs, make_runtime = recorders.hours.call.arguments
  assert recorders.hours.call.settings == {"adopts": False, "resume": False, "jobs": 2}
  assert capsys.readouterr().out == f"{configs[0].output_dir}\n\nthe hours\n"
  assert make_runtime() == "a local worker" and recorders.run.calls == []


def test_a_dry_run_of_what_would_be_refused_fails(main, recorders, monkeypatch, capsys):
  monkeypatch.setattr(commands, "hours", lambda *_, **__: ("and why", False))
  assert main(*TOY, "--dry_run") == 1
  assert capsys.readouterr().out.endswith("\n\nand why\n")


def test_a_dry_run_of_a_table_counts_what_neighbours_have_done(main, recorders):
  assert main(*REPRODUCE, "--dry_run") == 0
  assert recorders.hours.call.settings == {"adopts": True, "resume": True, "jobs": 1}


def test_workers_are_those_that_are_named(main, recorders, monkeypatch):
  # `make_runtime` reads the flag when it is called, which is during the run.
  monkeypatch.setattr(
    commands, "run", lambda configs, make_runtime, **_: (make_runtime(), True)
  )
  assert main(*TOY, "--workers=a:1,b:2") == 0
  assert recorders.use_remote_workers.call.arguments == (["a:1", "b:2"],)
  assert recorders.use_local_worker.calls == []


def test_two_workers_are_refused_where_a_round_aggregates_twice(
  main, recorders, capsys
):
  assert main(*TOY, "--attack=krum_backdoor", "--workers=a:1,b:2", "--dry_run") == 1
  assert "--workers must name a single worker" in capsys.readouterr().err
  assert recorders.hours.calls == recorders.run.calls == []


def test_two_workers_are_refused_for_the_quick_start(main, recorders, capsys):
  assert main("--workers=a:1,b:2") == 1
  assert "clients keep a state (fl_plas)" in capsys.readouterr().err
  assert recorders.quick_start.calls == []


def test_no_flags_are_the_quick_start(main, recorders, capsys):
  assert main("--output_dir=out", "--cache_dir=shards") == 0
  call = recorders.quick_start.call
  assert call.arguments == ("a local worker",)
  assert call.settings == {"output_dir": "out", "cache_dir": "shards"}
  assert capsys.readouterr().out == "the quick start\n" and recorders.run.calls == []


def test_report_is_of_the_named_folder(main, recorders, capsys):
  assert main("--report=results/a") == 0
  assert recorders.report.call.arguments == ("results/a",)
  assert capsys.readouterr().out == "the report\n"


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_check_env_starts_a_worker_and_tells_what_is_wrong(
  main, recorders, capsys, ok, status
):
  sound = runtime.Finding("Python", "3.11", True, "")
  recorders.check.answer = [sound, runtime.Finding("disk", "full", ok, "Delete some.")]
  assert main("--check_env") == status
  assert recorders.check.call.settings == {"start_worker": True}
  assert capsys.readouterr().out.rstrip() == runtime.format_findings(
    recorders.check.answer
  )


def commands_of(script, argument, tmp_path):
  """The arguments that a script of `results` gives to `uv`, which runs nothing."""
  uv, calls = tmp_path / "bin" / "uv", tmp_path / "calls"
  uv.parent.mkdir()
  uv.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "" >> "$CALLS"\n')
  uv.chmod(0o755)
  path = f"{uv.parent}{os.pathsep}{os.environ['PATH']}"
  place = {"PATH": path, "CALLS": str(calls), "DATA": str(tmp_path)}
  folder = pathlib.Path(run_experiments.__file__).parent / "results"
  given = [folder / script, argument]
  subprocess.run(given, env={**os.environ, **place}, check=True, timeout=60)
  return [call.split("\n") for call in calls.read_text().strip().split("\n\n")]


@pytest.mark.parametrize(
  "group", ["flare", "strength", "fl_plas", "federations", "byzantine"]
)
def test_every_run_of_the_findings_can_be_made(group, main, recorders, tmp_path):
  *runs, publishing = commands_of("run_findings.sh", group, tmp_path)
  assert publishing[-1] == f"results/findings-{group}" and runs
  for call in runs:
    assert call[:2] == ["run", "run_experiments.py"]
    assert main(*call[2:]) == 0
  hashes = [c.hash() for call in recorders.run.calls for c in call.arguments[0]]
  assert len(set(hashes)) == len(hashes)
