"""Published results: what is copied, and what README says of it."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from tests.experiments import fabricated_runs, fake_runs
from tff_defenses.experiments import (
  claims,
  commands,
  publish,
  reproduction,
  results_section,
)
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import OutputError

CARDS = ("scorecard.csv", "scorecard.md")


def test_what_a_reader_needs_is_copied_and_reports_alike(source, tmp_path):
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  names = {path.name for path in target.rglob("*") if path.is_file()}
  assert names >= {"plan.json", "config.json", "metrics.csv", "clients.csv"}
  files = {"data.json", "machines.json", "start.json"}
  assert {"scorecard.md", "flare-table2.png"} | files <= names
  assert not names & {"state", ".claim", "arrays.npz", "plr.npz", "report.html"}
  assert fabricated_runs.report_of(target) == fabricated_runs.report_of(source)


def test_a_run_that_has_only_begun_stays_behind(source, tmp_path):
  begun, other = sorted(path.parent for path in source.glob("*/config.json"))
  (begun / "summary.json").unlink()
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  assert [path.parent.name for path in target.glob("*/config.json")] == [other.name]


def test_a_folder_without_runs_is_refused(tmp_path):
  (tmp_path / "empty").mkdir()
  with pytest.raises(OutputError, match="must hold runs"):
    publish.publish(tmp_path / "empty", tmp_path / "published")
  assert not (tmp_path / "published").exists()


def test_a_folder_where_nothing_has_ended_is_refused_by_its_name(source, tmp_path):
  for file in source.glob("*/summary.json"):
    file.unlink()
  with pytest.raises(OutputError, match=rf"{source} must hold a run that has ended"):
    publish.publish(source, tmp_path / "published" / source.name)
  assert not (tmp_path / "published").exists()


def contents(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file()
  }


def test_publishing_again_keeps_nothing_of_runs_gone_or_failed_since(source, tmp_path):
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  failed, gone = sorted(path.parent for path in source.glob("*/summary.json"))
  (failed / "summary.json").unlink()
  claims.mark_failed(failed, ValueError("Disk full."))
  shutil.rmtree(gone)
  publish.publish(source, target)
  assert (target / failed.name / "failed.json").exists()
  assert not (target / failed.name / "summary.json").exists()
  assert not (target / gone.name).exists()
  assert fabricated_runs.report_of(target) == fabricated_runs.report_of(source)
  assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("step", ["copy", "swap"])
def test_an_error_leaves_the_published_copy_and_nothing_else(
  source, tmp_path, monkeypatch, step
):
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  before = contents(target)
  next(source.glob("*/summary.json")).unlink()
  rename, copyfile = pathlib.Path.rename, shutil.copyfile

  def full(path, to):
    if step == "copy" and pathlib.Path(path).suffix == ".png":
      raise OSError(28, "No space left on device")
    return copyfile(path, to)

  def taken(path, to):
    if step == "swap" and to == target and path.name == target.name:
      raise OSError(39, "Directory not empty")
    return rename(path, to)

  monkeypatch.setattr(shutil, "copyfile", full)
  monkeypatch.setattr(pathlib.Path, "rename", taken)
  with pytest.raises(OutputError, match="cannot be written"):
    publish.publish(source, target)
  assert contents(target) == before and list(target.parent.iterdir()) == [target]


def test_a_single_run_is_published_whole(tmp_path):
  source, target = tmp_path / "run", tmp_path / "published" / "run"
  fake_runs.write(ExperimentConfig(defense="krum", rounds=3, output_dir=str(source)))
  publish.publish(source, target)
  names = {path.name for path in target.iterdir()}
  assert names >= {"config.json", "metrics.csv", "timing.csv", "summary.json"}
  assert "written: " in commands.report(str(target))
  assert fabricated_runs.report_of(target) == fabricated_runs.report_of(source)


def test_runs_and_plans_further_down_are_published(source, tmp_path):
  shutil.move(source, tmp_path / "all" / "deep" / source.name)
  publish.publish(tmp_path / "all", tmp_path / "published" / "all")
  inner = tmp_path / "published" / "all" / "deep" / source.name
  assert (inner / "plan.json").exists() and len(list(inner.glob("*/summary.json"))) == 2


@pytest.mark.parametrize("inner", [".", "published/table"])
def test_a_folder_and_its_copy_must_lie_apart(source, inner):
  before = contents(source)
  for folder, target in ((source, source / inner), (source / inner, source)):
    with pytest.raises(OutputError, match="must lie apart"):
      publish.publish(folder, target)
  assert contents(source) == before


def test_a_published_figure_12_has_its_flags(tmp_path):
  source, target = tmp_path / "fig12", tmp_path / "published" / "fig12"
  plan = reproduction.plan("flare:fig12", scale=0.05, seeds=[0], output_dir=str(source))
  plan.save()
  for config in plan.configs():
    fake_runs.write(config)
  publish.publish(source, target)
  assert len(list(target.glob("*/clients.csv"))) == len(plan.configs())
  assert "report.html" in commands.report(str(target))
  assert (target / "figures" / "flare-fig12.png").exists()


def test_the_command_publishes_by_the_folders_name(source, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  publish.main([str(source)])
  assert json.loads((publish.PUBLISHED / source.name / "plan.json").read_text())


def test_the_command_without_a_folder_shows_how_to_call_it(capsys):
  with pytest.raises(SystemExit) as stop:
    publish.main([])
  assert stop.value.code == 2
  assert "usage: python -m tff_defenses.experiments.publish" in capsys.readouterr().err


def test_the_command_names_a_wrong_folder_in_one_sentence(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as stop:
    publish.main(["nowhere"])
  assert stop.value.code == 1
  printed = capsys.readouterr()
  assert printed.err.startswith("report: `output_dir` must be a folder with runs, got ")
  assert len(printed.err.splitlines()) == 1 and not printed.out
  assert not publish.PUBLISHED.exists()


def test_published_scorecards_are_as_they_would_be_today(tmp_path):
  kept = tmp_path / "published"
  shutil.copytree(pathlib.Path(__file__).parents[2] / publish.PUBLISHED, kept)
  assert publish.refresh(kept) == []  # else: `publish --refresh`, and commit


def test_scorecards_are_refreshed_when_the_rules_have_changed(source, tmp_path):
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  cards = {name: (target / name).read_text() for name in CARDS}
  (target / CARDS[0]).write_text(cards[CARDS[0]].replace("(reduced)", "(old)"))
  assert publish.refresh(tmp_path / "published") == [target / CARDS[0]]
  assert {name: (target / name).read_text() for name in CARDS} == cards


def test_a_scorecard_that_is_gone_is_written_anew(source, tmp_path):
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  (target / CARDS[1]).unlink()
  assert publish.refresh(tmp_path / "published") == [target / CARDS[1]]


def test_a_figure_of_runs_that_are_gone_is_not_published_again(source, tmp_path):
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  failed, gone = sorted(path.parent for path in source.glob("*/summary.json"))
  (failed / "summary.json").unlink()
  claims.mark_failed(failed, ValueError("Disk full."))
  shutil.rmtree(gone)
  publish.publish(source, target)
  assert not list(target.rglob("*.png"))
  text = results_section.section(tmp_path / "published")
  assert "| FLARE Table 2, Sec. 6.1 |" in text and "Again" not in text


def test_a_damaged_run_is_named_alike_wherever_the_copy_lies(source, tmp_path):
  damaged, _ = sorted(source.glob("*/config.json"))
  damaged.write_text('{"dataset": ')
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  card = (target / CARDS[1]).read_text()
  assert "config.json" in card and str(tmp_path) not in card.replace("\\", "")
  shutil.copytree(tmp_path / "published", tmp_path / "elsewhere")
  assert publish.refresh(tmp_path / "elsewhere") == []


def test_the_command_refreshes_all_copies(source, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  publish.main([str(source)])
  card = publish.PUBLISHED / source.name / CARDS[1]
  text = card.read_text()
  card.write_text("old")
  publish.main(["--refresh"])
  assert card.read_text() == text


@pytest.mark.parametrize("plan", ["{", '{"version": "0.0.0"}'])
def test_a_plan_that_cannot_be_read_stops_before_a_card_is_written(
  source, tmp_path, monkeypatch, capsys, plan
):
  """Without its plan a paper's table would be published as a plain grid."""
  monkeypatch.chdir(tmp_path)
  publish.main([str(source)])
  target = publish.PUBLISHED / source.name
  before = contents(target)
  (source / "plan.json").write_text(plan)
  (target / "plan.json").write_text(plan)
  for command in ([str(source)], ["--refresh"]):
    with pytest.raises(SystemExit) as stop:
      publish.main(command)
    assert stop.value.code == 1 and "plan.json" in capsys.readouterr().err
  after = contents(target)
  assert {name for name in before if before[name] != after[name]} == {
    pathlib.Path("plan.json")
  }


def test_an_error_is_published_without_the_folders_of_the_machine(source, tmp_path):
  failed = next(source.glob("*/summary.json")).parent
  (failed / "summary.json").unlink()
  error = f"load: {tmp_path}/data/train.gz must be whole, got 3 bytes/image."
  claims.mark_failed(failed, ValueError(error))
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  texts = [file.read_text() for file in target.rglob("*.*") if file.suffix != ".png"]
  assert not any(str(tmp_path) in text for text in texts)
  told = "load: train.gz must be whole, got 3 bytes/image."
  assert json.loads((target / failed.name / "failed.json").read_text())["error"] == told
  assert told in (target / "scorecard.md").read_text()


@pytest.mark.parametrize("arguments", [[], ["--refresh", "folder"]])
def test_publishing_needs_a_folder_or_refresh(arguments, capsys):
  with pytest.raises(SystemExit):
    publish.main(arguments)
  assert "name folders of runs, or give --refresh alone" in capsys.readouterr().err


@pytest.fixture
def run_published(tmp_path):
  """Calls the script with a `uv` that writes down its calls and runs nothing."""
  calls = tmp_path / "calls"
  calls.touch()
  (tmp_path / "bin").mkdir()
  (tmp_path / "bin" / "uv").write_text('#!/bin/sh\necho "$PWD $*" >> "$CALLS"\n')
  (tmp_path / "bin" / "uv").chmod(0o755)
  path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
  script = pathlib.Path(__file__).parents[2] / "results" / "run_published.sh"

  def call(*arguments):
    done = subprocess.run(
      [script, *arguments],
      cwd=tmp_path,
      env={**os.environ, "PATH": path, "CALLS": str(calls)},
      capture_output=True,
      text=True,
      timeout=60,
    )
    return done, calls.read_text().splitlines()

  return call


def test_all_published_runs_need_a_data_folder(run_published):
  done, calls = run_published()
  assert done.returncode == 2 and not calls
  (line,) = done.stderr.splitlines()
  assert "needs the folder of the data sets, got nothing: call " in line


def test_all_published_runs_take_a_data_folder_seen_from_the_caller(
  run_published, tmp_path
):
  done, calls = run_published("some data", "2")
  root = pathlib.Path(__file__).parents[2]
  assert done.returncode == 0 and all(call.startswith(f"{root} ") for call in calls)
  runs = [call for call in calls if "--reproduce=" in call]
  assert runs and all(f"--data_dir={tmp_path}/some data --jobs=2" in r for r in runs)
  assert sum("experiments.publish results/" in call for call in calls) == len(runs)


def test_all_published_runs_exist(run_published):
  _, calls = run_published("/data")
  for call in calls:
    flags = dict(re.findall(r"--(\w+)=(.*?)(?= --|$)", call))
    if "reproduce" not in flags:
      continue
    listed = {
      f"{name}s": flags[name].split(",")
      for name in ("dataset", "defense", "attack")
      if name in flags
    }
    table = reproduction.plan(
      flags["reproduce"],
      scale=float(flags.get("scale", 1.0)),
      seeds=[int(seed) for seed in flags.get("seeds", "0").split(",")],
      variants=[flags["variants"]] if "variants" in flags else [],
      **listed,
    )
    assert table.configs()


def test_all_published_runs_take_an_absolute_data_folder(run_published):
  _, calls = run_published("/data")
  assert "--data_dir=/data --jobs=1" in calls[0]


def test_a_grid_is_published_but_is_no_papers_table(source, tmp_path):
  (source / "plan.json").unlink()
  publish.publish(source, tmp_path / "published" / source.name)
  names = {path.name for path in (tmp_path / "published").rglob("*")}
  assert {"scorecard.md", "config.json", "summary.json"} <= names
  assert results_section.section(tmp_path / "published") == "Nothing is published yet."
