"""The papers' figures, from folders of runs that are only pretended."""

import dataclasses
import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.experiments import fake_runs
from tff_defenses.experiments import (
  paper_figures,
  papers,
  plot_style,
  reproduction,
)

SPECIAL = ("flare:fig1", "flare:fig4", "flare:fig6", "flare:fig10", "flare:fig12")


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """Few pixels are drawn fast."""
  monkeypatch.setattr(plot_style, "DPI", 40)


def plan_of(name, folder, *, seeds=(0,), scale=0.05, **narrowed):
  settings = {"scale": scale, "output_dir": str(folder / "runs"), **narrowed}
  return reproduction.plan(name, seeds=seeds, **settings)


def run_all(plan, *, but=0, **settings):
  """Writes the plan's runs, but for the last few."""
  configs = plan.configs()
  for config in configs[: len(configs) - but]:
    fake_runs.write(config, **settings)


def shown(figure):
  """Panels that are not blank."""
  return [axes for axes in figure.axes if axes.axison]


@pytest.mark.parametrize(
  ("name", "narrowed", "panels"),
  [
    ("flare:fig1", {}, 2),  # PLRs; averaged MMD
    ("flare:fig4", {}, 4),  # PLRs and distances, for two data sets
    ("flare:fig6", {}, 6),  # three data sets, two attacks
    ("flare:fig7", {"defenses": ["krum", "flare"]}, 4),
    ("flare:fig8", {"defenses": ["krum", "flare"]}, 2),
    ("flare:fig9", {"defenses": ["krum", "flare"]}, 2),
    ("flare:fig10", {}, 6),
    ("flare:fig11a", {}, 1),
    ("flare:fig11b", {}, 1),
    ("flare:fig12", {}, 3),  # confidence; flags with both readings of FLARE
    ("flare:aux_size", {}, 1),
    ("fl_plas:fig3", {"defenses": ["krum", "fl_plas"]}, 3),  # three data sets
    ("fl_plas:fig4", {"defenses": ["krum", "fl_plas"]}, 2),  # semantic, edge case
    ("fl_plas:fig5", {"defenses": ["krum", "fl_plas"]}, 3),
    ("fl_plas:fig6", {"defenses": ["krum", "fl_plas"]}, 2),
    ("fl_plas:fig7", {}, 2),  # loss, accuracy
    ("fl_plas:fig8", {"defenses": ["lfighter", "fl_plas"]}, 4),
  ],
)
def test_each_figure_has_the_papers_panels(name, narrowed, panels, tmp_path, figures):
  plan = plan_of(name, tmp_path, **narrowed)
  run_all(plan)
  (path,) = paper_figures.draw(plan, tmp_path)
  assert path == tmp_path / "figures" / f"{name.replace(':', '-')}.png"
  with Image.open(path) as image:
    assert np.ptp(np.asarray(image.convert("L"))) > 200
  assert len(shown(figures[0])) == panels
  title = figures[0].get_suptitle().replace("\n", " ")
  assert title.endswith("(reduced scale 0.05)") and plan.table.anchor in title


def test_attackers_of_figure_1b_are_the_dots(tmp_path, figures):
  plan = plan_of("flare:fig1", tmp_path)
  run_all(plan)
  paper_figures.draw(plan, tmp_path)
  boxes = shown(figures[0])[1]
  far = [dots.get_offsets()[:, 1] for dots in boxes.collections]
  lines = [line.get_ydata() for line in boxes.lines if len(line.get_ydata())]
  assert far and all(min(values) > max(map(max, lines)) for values in far)


def test_a_damaged_run_is_left_out(tmp_path, figures):
  plan = plan_of("flare:fig11a", tmp_path)
  run_all(plan)
  damaged = next(iter(plan.configs())).output_dir
  (pathlib.Path(damaged) / "config.json").write_text("{")
  assert paper_figures.draw(plan, tmp_path)


def test_titles_of_narrow_panels_stay_within_the_figure(tmp_path, figures):
  plan = plan_of("fl_plas:table2", tmp_path, datasets=["mnist"], variants=["all"])
  run_all(plan)
  for file in tmp_path.rglob("summary.json"):
    file.write_text(json.dumps({cell.metric: 0.5 for cell in plan.cells}))
  paper_figures.draw(plan, tmp_path)
  figure, renderer = figures[0], figures[0].canvas.get_renderer()
  boxes = [axes.title.get_window_extent(renderer) for axes in shown(figure)]
  assert len(boxes) == 8
  assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_every_table_and_figure_has_a_way_to_be_drawn():
  for name in papers.names():
    table = papers.load(name)
    by_x = table.x is not None or table.kind == "table"
    assert by_x or name in paper_figures._SPECIAL


def test_nothing_run_draws_nothing(tmp_path):
  plan = plan_of("flare:fig11a", tmp_path)
  assert paper_figures.draw(plan, tmp_path) == []
  assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("name", SPECIAL[:4])
def test_runs_without_what_is_shown_draw_nothing(name, tmp_path):
  plan = plan_of(name, tmp_path)
  run_all(plan, plrs=False)
  for file in tmp_path.rglob("arrays.npz"):
    file.unlink()
  assert paper_figures.draw(plan, tmp_path) == []


def test_missing_runs_and_seeds_are_told(tmp_path, figures):
  plan = plan_of("flare:fig11a", tmp_path, seeds=(0, 1), scale=1, defenses=["flare"])
  run_all(plan, but=3)
  paper_figures.draw(plan, tmp_path)
  note = figures[0].legends[0].get_title().get_text()
  words = "2 seeds; spread: one standard deviation; runs missing: 3 of 20."
  assert note == words
  assert "reduced" not in figures[0].get_suptitle()


def test_seeds_without_a_run_are_not_counted(tmp_path, figures):
  plan = plan_of("flare:fig11a", tmp_path, seeds=(0,), scale=1, defenses=["flare"])
  run_all(plan)
  more = dataclasses.replace(plan, seeds=(0, 1, 2))
  paper_figures.draw(more, tmp_path)
  note = figures[0].legends[0].get_title().get_text()
  assert note.startswith("1 of 3 seeds; runs missing: ")


def test_axes_are_the_papers(tmp_path, figures):
  plan = plan_of("flare:fig11b", tmp_path)
  run_all(plan)
  paper_figures.draw(plan, tmp_path)
  (axes,) = figures[0].axes
  assert axes.get_xlabel() == "malicious clients"
  figures[0].canvas.draw()
  labels = [label.get_text() for label in axes.get_xticklabels()]
  assert labels == ["5%", "10%", "15%", "20%", "25%", "30%"]
  assert "attack success" in axes.get_ylabel()
  assert axes.get_ylim() == pytest.approx((-0.04, 1.04))


def test_tables_show_paper_and_ours_in_the_printed_unit(tmp_path, figures):
  plan = plan_of("flare:table2", tmp_path, datasets=["cifar10"])
  for config in plan.configs():
    folder = fake_runs.write(config)
    summary = json.loads((folder / "summary.json").read_text())
    summary["accuracy"] = 0.5
    (folder / "summary.json").write_text(json.dumps(summary))
  paper_figures.draw(plan, tmp_path)
  (axes,) = shown(figures[0])
  hollow = {
    line.get_ydata()[0]
    for line in axes.lines
    if line.get_markerfacecolor() == "none" and len(line.get_ydata())
  }
  assert {69.58, 55.19, 67.0} <= hollow  # FLARE Table 2: FedAvg, Krum, FLARE
  ours = axes.containers[0].lines[0].get_ydata()
  np.testing.assert_allclose(ours, 50.0)
  assert "(percent)" in axes.get_ylabel()


def test_rows_without_a_value_are_left_out(tmp_path, figures):
  plan = plan_of("fl_plas:table6", tmp_path, defenses=["fedavg", "krum"])
  run_all(plan)
  for file in tmp_path.rglob("timing.csv"):
    file.unlink()
  paper_figures.draw(plan, tmp_path)
  titles = [axes.get_title() for axes in shown(figures[0])]
  assert len(titles) == 2 and all(title.startswith("bytes") for title in titles)


def test_flags_of_the_adaptive_attack_by_hand(tmp_path):
  folder = tmp_path
  clients = [
    (1, 0, False, False),
    (1, 1, True, True),
    (1, 2, True, True),
    (2, 0, False, True),
    (2, 1, True, True),
    (2, 2, True, False),
  ]
  columns = ["round", "client_index", "malicious", "flagged"]
  pd.DataFrame(clients, columns=columns).to_csv(folder / "clients.csv", index=False)
  success = pd.DataFrame({"round": [1, 2, 3], "attack_success_rate": [0, 0.5, np.nan]})
  success.to_csv(folder / "metrics.csv", index=False)
  run = type("Run", (), {"run": type("Values", (), {"folder": folder})})
  detected, wrong = paper_figures._flags(run).values()
  assert dict(zip(*detected, strict=True)) == {1: True, 2: False}  # one missed
  assert dict(zip(*wrong, strict=True)) == {1: False, 2: True}  # round 3: not scored


def test_without_rows_a_client_the_flags_are_left_out_and_it_is_said(tmp_path, figures):
  plan = plan_of("flare:fig12", tmp_path)
  run_all(plan)
  for file in tmp_path.rglob("clients.csv"):
    file.unlink()
  assert len(paper_figures.draw(plan, tmp_path)) == 1
  (axes,) = shown(figures[0])
  assert "confidence" in axes.get_ylabel()
  note = figures[0].legends[0].get_title().get_text()
  assert note.startswith(
    "1 seed. Flags are drawn where a run's clients.csv is at hand."
  )


def test_each_run_is_looked_at_once_though_cells_share_it(tmp_path):
  plan = plan_of("flare:table3", tmp_path, defenses=["krum"], datasets=["cifar10"])
  run_all(plan)
  runs = paper_figures.paper_series.collect(plan)
  once = paper_figures._once(runs)
  assert len(runs) > len(once) == len(plan.configs())
