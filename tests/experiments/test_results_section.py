"""What README says of published results."""

import dataclasses
import json
import shutil

from tests.experiments import fake_runs
from tff_defenses.experiments import publish, reproduction, results_section


def run_table2(folder, *, scale, seed=0, defense="krum"):
  """Pretends runs of FLARE's Table 2 on Fashion-MNIST, beside those of the folder."""
  plan = reproduction.plan(
    "flare:table2",
    scale=scale,
    seeds=[seed],
    datasets=["fashion_mnist"],
    defenses=[defense],
    output_dir=str(folder),
  )
  plan.save()
  for config in plan.configs():
    fake_runs.write(config)


def readme(folder):
  return f"{results_section.section(folder)}\n\n{results_section.tables(folder)}"


def test_readme_counts_reduced_cells_apart_and_shows_what_was_run(source, tmp_path):
  publish.publish(source, tmp_path / "published" / source.name)
  text = readme(tmp_path / "published")
  head, _, row = text.splitlines()[:3]
  assert "reduced" in head and "| reproduced |" not in head
  assert row.startswith("| FLARE Table 2, Sec. 6.1 | 0.1 | 0 |")
  assert "REDUCED SCALE 0.1: not a reproduction" in text
  assert "fMNIST" in text and "CIFAR-10" not in text  # nothing was run there


def test_readme_gives_the_command_and_the_counts(source, tmp_path):
  publish.publish(source, tmp_path / "published" / source.name)
  text = readme(tmp_path / "published")
  assert (
    "`uv run run_experiments.py --reproduce=flare:table2 --scale=0.1 "
    "--dataset=fashion_mnist --defense=fedavg,krum --attack=none --seeds=0 "
  ) in text
  assert "in the table run so far: " in results_section.counts(tmp_path / "published")


def test_readme_tells_what_is_wrong_with_the_runs(source, tmp_path):
  folder = tmp_path / "published"
  publish.publish(source, folder / source.name)
  assert "Problems:" not in readme(folder)
  for number, file in enumerate(sorted(folder.rglob("summary.json"))):
    file.with_name("start.json").write_text(json.dumps({"weights": f"{number}"}))
  faults = readme(folder).split("Problems:\n\n")[1].split("\n\n")[0]
  assert faults.startswith("- report: runs on fashion\\_mnist must have started from")


def test_readme_has_a_command_for_each_set_of_seeds(source, tmp_path):
  run_table2(source, scale=0.1, seed=1)
  publish.publish(source, tmp_path / "published" / source.name)
  text = readme(tmp_path / "published")
  assert "--defense=fedavg --attack=none --seeds=0 " in text
  assert "--defense=krum --attack=none --seeds=0,1 " in text
  assert "| 0.1 | 0; 0, 1 |" in text


def test_a_value_that_was_run_at_two_scales_counts_once(source, tmp_path):
  folder, full = tmp_path / "published", tmp_path / "flare-table2"
  run_table2(full, scale=1.0)
  for made in (source, full):
    shutil.copytree(made, folder / made.name)
  assert "in the table run so far: " in results_section.counts(folder)
  *_, total = (r for r in results_section.section(folder).splitlines() if "| all" in r)
  numbers = [int(part) for part in total.split("|")[4:-1]]
  assert sum(numbers) == 18  # FLARE's Table 2 prints so many
  assert "| FLARE Table 2, Sec. 6.1 | full | 0 |" in results_section.section(folder)


def test_values_in_another_reading_are_counted_apart(source, tmp_path):
  folder, other = tmp_path / "published", tmp_path / "flare-table2-scale0.2"
  run_table2(other, scale=0.2, defense="flare")
  shutil.copytree(source, folder / source.name)
  assert "other readings" not in results_section.counts(folder)
  shutil.copytree(other, folder / other.name)
  assert (
    results_section.counts(folder).count("In other readings of the papers: 1 ") == 1
  )
  rows = results_section.section(folder).splitlines()
  total, readings = (next(r for r in rows if w in r) for w in ("| all", "| other read"))
  numbers = [
    [int(n.strip() or 0) for n in row.split("|")[4:-1]] for row in (total, readings)
  ]
  assert sum(numbers[0]) == 18 and sum(numbers[1]) == 1  # FLARE with mean votes


def test_nothing_published_is_said(tmp_path):
  for part in (results_section.section, results_section.tables):
    assert part(tmp_path) == "Nothing is published yet."


def test_figures_without_printed_values_are_linked_and_not_counted(source, tmp_path):
  folder = tmp_path / "published"
  figure = tmp_path / "flare-fig1"
  plan = reproduction.plan("flare:fig1", seeds=[0], output_dir=str(figure))
  plan.save()
  fake_runs.write(plan.configs()[0])
  (figure / "figures").mkdir()
  (figure / "figures" / "flare-fig1.png").touch()
  for made in (source, figure):
    shutil.copytree(made, folder / made.name)
  text = readme(folder)
  assert "(results/published/flare-fig1/figures/flare-fig1.png)" in text
  assert "| FLARE Fig. 1" not in text and "**FLARE Fig. 1" not in text
  assert "in the table run so far: " in results_section.counts(folder)


def test_values_within_their_band_are_counted_first():
  words = ["missing", "off (reduced)", "within band (reduced)", "reproduced"]
  found = results_section._in_order(words)
  assert found == ["reproduced", "within band (reduced)", "off (reduced)", "missing"]


def test_verdicts_of_fewer_runs_than_the_papers_are_counted(source, tmp_path):
  """FLARE's numbers are means of three, whatever seeds were asked for here."""
  folder = tmp_path / "published"
  shutil.copytree(source, folder / source.name)
  assert "2 of these rest on fewer runs than the paper's" in results_section.counts(
    folder
  )
  for seed in (1, 2):
    run_table2(source, scale=0.1, seed=seed, defense="krum")  # FedAvg has seed 0 alone
  shutil.rmtree(folder)
  shutil.copytree(source, folder / source.name)
  assert "1 of these rest on fewer runs" in results_section.counts(folder)


def test_runs_from_random_weights_are_not_counted_as_the_papers(source, tmp_path):
  plan = dataclasses.replace(reproduction.read(source), from_scratch=True)
  (source / "plan.json").unlink()
  plan.save()
  publish.publish(source, tmp_path / "published" / source.name)
  text = readme(tmp_path / "published")
  assert "| FLARE Table 2, Sec. 6.1, from random weights | 0.1 |" in text
  assert "From random weights." in text and "--scale=0.1 --from_scratch --data" in text
  assert "run so far: 0 reproduced;" in results_section.counts(tmp_path / "published")
