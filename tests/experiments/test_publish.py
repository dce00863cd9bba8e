"""Published results: what is copied, and what README says of it."""

import pytest

from tests.experiments import fake_runs
from tff_defenses.experiments import publish, report, reproduction, results_section
from tff_defenses.experiments.errors import OutputError


@pytest.fixture
def source(tmp_path):
  """Two runs of FLARE's Table 2 at reduced scale, with what else a run leaves."""
  plan = reproduction.plan(
    "flare:table2",
    scale=0.1,
    seeds=[0],
    datasets=["fashion_mnist"],
    defenses=["fedavg", "krum"],
    output_dir=str(tmp_path / "flare-table2-scale0.1"),
  )
  plan.save()
  for config in plan.configs():
    folder = fake_runs.write(config)
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "state").write_text("big")
    (folder / ".claim").touch()
  return tmp_path / "flare-table2-scale0.1"


def test_what_a_reader_needs_is_copied_and_reports_alike(source, tmp_path):
  target = tmp_path / "published" / source.name
  publish.publish(source, target)
  names = {path.name for path in target.rglob("*") if path.is_file()}
  assert names >= {"plan.json", "config.json", "metrics.csv", "summary.json"}
  assert {"scorecard.md", "flare-table2.png"} <= names
  assert not names & {"state", ".claim", "arrays.npz", "plr.npz", "report.html"}
  assert report.text(target) == report.text(source)


def test_a_folder_without_runs_is_refused(tmp_path):
  with pytest.raises(OutputError, match="must hold runs"):
    publish.publish(tmp_path, tmp_path / "published")
  assert not (tmp_path / "published").exists()


def test_a_grid_is_published_but_is_no_papers_table(source, tmp_path):
  (source / "plan.json").unlink()
  publish.publish(source, tmp_path / "published" / source.name)
  names = {path.name for path in (tmp_path / "published").rglob("*")}
  assert {"scorecard.md", "config.json", "summary.json"} <= names
  assert results_section.section(tmp_path / "published") == "Nothing is published yet."


def test_readme_counts_reduced_cells_apart_and_shows_what_was_run(source, tmp_path):
  publish.publish(source, tmp_path / "published" / source.name)
  text = results_section.section(tmp_path / "published")
  head, _, row = text.splitlines()[:3]
  assert "reduced" in head and "| reproduced |" not in head
  assert row.startswith("| FLARE Table 2, Sec. 6.1 | 0.1 | 0 |")
  assert "REDUCED SCALE 0.1: not a reproduction" in text
  assert "fMNIST" in text and "CIFAR-10" not in text  # nothing was run there


def test_readme_gives_the_command_and_the_counts(source, tmp_path):
  publish.publish(source, tmp_path / "published" / source.name)
  text = results_section.section(tmp_path / "published")
  assert (
    "`uv run run_experiments.py --reproduce=flare:table2 --scale=0.1 "
    "--dataset=fashion_mnist --defense=fedavg,krum --attack=none --seeds=0 "
  ) in text
  assert "in the 1 scorecard so far: " in results_section.counts(tmp_path / "published")


def test_nothing_published_is_said(tmp_path):
  assert results_section.section(tmp_path) == "Nothing is published yet."
