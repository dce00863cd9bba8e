"""What goes into the papers' figures, from folders of runs that are only pretended."""

import dataclasses
import json
import types

import numpy as np
import pandas as pd
import pytest

from tests.experiments import fake_runs, toy_runs
from tff_defenses.experiments import paper_series, papers

CELL = papers.Cell(
  table="flare:fig7",
  row="Krum, fMNIST",
  column="Krum",
  metric="target_confidence",
  unit="percent",
  reported=None,
  band=None,
  comparable=True,
  note="",
  preset="toy",
  settings={},
)


def cell(**changes):
  return dataclasses.replace(CELL, **changes)


@pytest.fixture
def plan(tmp_path):
  """Makes a plan of cells; their `settings` are those of the toy config."""

  def config_of(cell, seed):
    settings = {**toy_runs.FEDAVG, **cell.settings, "seed": seed}
    config = toy_runs.toy("here", "cache", **settings)
    return dataclasses.replace(config, output_dir=str(tmp_path / config.hash()))

  def make(cells, seeds=(0,), x="round"):
    table = types.SimpleNamespace(x=x, name="flare:fig7")
    return types.SimpleNamespace(
      cells=cells, seeds=seeds, table=table, config_of=config_of
    )

  return make


def put(plan, **values):
  """Writes all runs; `values`: metric -> rows of metrics.csv, a list a seed."""
  for cell in plan.cells:
    for i, seed in enumerate(plan.seeds):
      config = plan.config_of(cell, seed)
      folder = fake_runs.write(config, level=0.5)
      for name, seeds in values.items():
        table = pd.read_csv(folder / "metrics.csv").head(len(seeds[i]))
        table[name] = seeds[i]
        table.to_csv(folder / "metrics.csv", index=False)


def put_final(plan, cell, seed, **values):
  """Writes one run whose last values are given."""
  folder = fake_runs.write(plan.config_of(cell, seed))
  summary = {**json.loads((folder / "summary.json").read_text()), **values}
  (folder / "summary.json").write_text(json.dumps(summary))


def test_mean_and_spread_over_seeds_by_hand(plan):
  made = plan([cell(reported=90.0, bound="above")], seeds=(0, 1))
  put(made, target_confidence=[[0.1, 0.4, 0.8], [0.3, 0.4, 0.6]])
  (panel,) = paper_series.panels(paper_series.collect(made), "round")
  (line,) = panel.lines
  assert line.label == "Krum" and panel.title == "Krum, fMNIST"
  np.testing.assert_array_equal(line.x, [1, 2, 3])
  np.testing.assert_allclose(line.mean, [0.2, 0.4, 0.7])
  np.testing.assert_allclose(line.std, [0.02**0.5, 0, 0.02**0.5], atol=1e-12)
  assert line.paper == ((3.0, 0.9, "above"),)  # at the last round, as a fraction


def test_rounds_without_a_score_leave_gaps(plan):
  made = plan([CELL], seeds=(0, 1))
  put(made, target_confidence=[[0.1, np.nan, 0.8], [0.3, np.nan, 0.6]])
  (panel,) = paper_series.panels(paper_series.collect(made), "round")
  np.testing.assert_array_equal(panel.lines[0].x, [1, 3])


def test_columns_are_lines_and_metrics_are_panels(plan):
  other = {"defense": "krum"}
  made = plan(
    [
      cell(column="FedAvg"),
      cell(settings=other),
      cell(row="Krum, Acc", column="FedAvg", metric="accuracy"),
    ]
  )
  for each in made.cells[:2]:
    fake_runs.write(made.config_of(each, 0))
  first, second = paper_series.panels(paper_series.collect(made), "round")
  assert [line.label for line in first.lines] == ["FedAvg", "Krum"]
  assert (second.metric, second.title) == ("accuracy", "Krum, Acc")


def test_a_field_of_the_config_is_the_horizontal_axis(plan):
  sizes = (5, 2, 7)
  cells = [
    cell(
      row=f"m = {m}",
      metric="attack_success_rate_over_rounds",
      settings={"aux_size": m},
      reported=10.0 * m if m != 7 else None,
    )
    for m in sizes
  ]
  made = plan(cells, seeds=(0, 1), x="aux_size")
  for each, value in zip(cells, (0.5, 0.2, 0.7), strict=True):
    for seed, more in ((0, 0.0), (1, 0.1)):
      put_final(made, each, seed, attack_success_rate_over_rounds=value + more)
  (panel,) = paper_series.panels(paper_series.collect(made), "aux_size")
  (line,) = panel.lines
  np.testing.assert_array_equal(line.x, [2, 5, 7])
  np.testing.assert_allclose(line.mean, [0.25, 0.55, 0.75])
  np.testing.assert_allclose(line.std, [0.005**0.5] * 3)
  assert line.paper == ((2.0, 0.2, None), (5.0, 0.5, None))
  assert panel.title == "trigger, mnist5k"  # the rows have nothing in common


def test_what_is_not_run_is_left_out_but_for_the_papers_number(plan):
  made = plan([cell(column="FedAvg"), cell(settings={"defense": "krum"}, reported=50)])
  fake_runs.write(made.config_of(made.cells[0], 0))
  (panel,) = paper_series.panels(paper_series.collect(made), "round")
  ours, paper = panel.lines
  assert len(ours.x) == 3 and len(paper.x) == 0 and paper.paper == ((3.0, 0.5, None),)


def test_nothing_run_is_no_panel_and_a_run_that_goes_on_is_not_finished(plan):
  made = plan([cell(reported=50.0)])
  assert paper_series.panels(paper_series.collect(made), "round") == []
  folder = fake_runs.write(made.config_of(CELL, 0))
  (folder / "summary.json").unlink()
  assert paper_series.collect(made)[0].run is None


def test_readings_have_a_panel_of_their_own(plan):
  reading = cell(row="Krum, fMNIST [white]", reading_of="Krum, fMNIST")
  made = plan([CELL, dataclasses.replace(reading, settings={"rounds": 2})])
  for each in made.cells:
    fake_runs.write(made.config_of(each, 0))
  titles = [p.title for p in paper_series.panels(paper_series.collect(made), "round")]
  assert titles == ["Krum, fMNIST", "Krum, fMNIST [white]"]


def test_common_parts_of_the_rows_are_the_title(plan):
  shares = (0.34, 0.67)
  rows = [
    cell(row=f"MNIST, BA, {share:.0%}", settings={"malicious_fraction": share})
    for share in shares
  ]
  made = plan(rows)
  assert paper_series.panel_title(paper_series.collect(made)) == "MNIST, BA"


def test_numbers_that_are_no_percent_stay_as_they_are(plan):
  made = plan([cell(metric="train_loss", unit="loss", reported=0.1)])
  put(made)
  (panel,) = paper_series.panels(paper_series.collect(made), "round")
  assert panel.lines[0].paper == ((3.0, 0.1, None),) and panel.unit == "loss"
