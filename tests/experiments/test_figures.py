"""Figures of finished runs: which are drawn, and from what."""

import dataclasses

import numpy as np
import pytest

from tff_defenses.experiments import figures, plots


def names(folder):
  return {path.name for path in folder.iterdir()}


def test_flare_draws_success_trust_distances_and_representations(
  flare_run, runtime, tmp_path
):
  figures.draw(flare_run, runtime, tmp_path)
  assert names(tmp_path) == {"success.png", "trust.png", "mmd.png", "plr.png"}
  assert all(path.stat().st_size > 1_000 for path in tmp_path.iterdir())


def test_other_rules_draw_success_and_weights(fl_plas_run, runtime, tmp_path):
  figures.draw(fl_plas_run, runtime, tmp_path)
  assert names(tmp_path) == {"success.png", "trust.png"}


def test_part_of_a_comparison_leaves_success_to_it(fl_plas_run, runtime, tmp_path):
  figures.draw(fl_plas_run, runtime, tmp_path, prefix="part2_")
  assert names(tmp_path) == {"part2_trust.png"}


def test_run_that_was_only_read_is_not_drawn_again(fedavg_run, tmp_path):
  figures.draw(dataclasses.replace(fedavg_run, trainer=None), None, tmp_path)
  assert names(tmp_path) == set()


@pytest.mark.parametrize(
  ("name", "column"),
  [
    ("flare_run", "attack_success_rate"),
    ("fedavg_run", "backdoor_accuracy_nontarget"),
  ],
)
def test_success_is_what_the_attacks_paper_calls_so(
  name, column, request, monkeypatch, tmp_path
):
  result, drawn = request.getfixturevalue(name), []
  monkeypatch.setattr(
    plots, "success_over_rounds", lambda curves, path, title: drawn.append(curves)
  )
  figures.draw_success({"rule": result}, tmp_path / "a.png", "title")
  curve, table = drawn[0]["rule"], result.folder.read("metrics.csv")
  assert curve["attack_success_rate"].tolist() == table[column].tolist()
  assert curve["round"].tolist() == [1, 2, 3]


def test_first_images_of_each_class_are_shown():
  labels = np.array([2, 0, 2, 2, 0, 5])
  assert figures._first_of_each(labels, 2).tolist() == [1, 4, 0, 2, 5]
