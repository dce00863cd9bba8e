"""Figures of runs: which are drawn, and from which files."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.experiments import fake_runs, toy_runs
from tff_defenses.experiments import figures, plots


def names(paths):
  return {path.name for path in paths}


@pytest.fixture
def flare(tmp_path):
  """Folder of a FLARE run that is only pretended."""
  return fake_runs.write(toy_runs.toy(tmp_path / "flare", tmp_path, **toy_runs.FLARE))


@pytest.fixture
def fedavg(tmp_path):
  """Folder of a FedAvg run that is only pretended."""
  return fake_runs.write(toy_runs.toy(tmp_path / "avg", tmp_path, **toy_runs.FEDAVG))


def test_flare_draws_success_trust_distances_and_representations(flare):
  written = figures.draw_folder(flare)
  assert names(written) == {"success.png", "trust.png", "mmd.png", "plr.png"}
  assert set(written) == set((flare / "figures").iterdir())
  assert all(path.stat().st_size > 1_000 for path in written)


def test_other_rules_draw_success_and_weights(fedavg):
  assert names(figures.draw_folder(fedavg)) == {"success.png", "trust.png"}


def test_part_of_a_comparison_leaves_success_to_it(fedavg, tmp_path):
  written = figures.draw_folder(fedavg, into=tmp_path / "here", prefix="part2_")
  assert written == [tmp_path / "here" / "part2_trust.png"]


def test_run_that_goes_on_is_drawn_as_far_as_it_is(flare):
  for name in ("arrays.npz", "plr.npz", "summary.json"):
    (flare / name).unlink()
  assert names(figures.draw_folder(flare)) == {"success.png", "trust.png"}


def test_run_without_a_round_draws_nothing(flare):
  for name in ("arrays.npz", "plr.npz", "metrics.csv", "clients.csv"):
    (flare / name).unlink()
  assert figures.draw_folder(flare) == [] and not (flare / "figures").exists()
  path = flare / "a.png"
  assert figures.draw_comparison({"flare": flare}, path, "T") is None
  assert not path.exists()


def test_title_tells_defense_attack_and_data(flare, monkeypatch):
  seen = []
  monkeypatch.setattr(
    plots, "success_over_rounds", lambda curves, path, title: seen.append(title)
  )
  figures.draw_folder(flare)
  assert seen == ["flare | krum_backdoor | mnist5k"]


def test_success_is_what_the_attacks_paper_calls_so(fedavg, flare, monkeypatch):
  table = pd.read_csv(fedavg / "metrics.csv").drop(columns="attack_success_rate")
  table.to_csv(fedavg / "metrics.csv", index=False)
  drawn = []
  monkeypatch.setattr(
    plots, "success_over_rounds", lambda curves, path, title: drawn.append(curves)
  )
  figures.draw_comparison({"a": fedavg, "b": flare}, "a.png", "T")
  success = {name: curve["attack_success_rate"] for name, curve in drawn[0].items()}
  nontarget = pd.read_csv(fedavg / "metrics.csv")["backdoor_accuracy_nontarget"]
  assert success["a"].tolist() == nontarget.tolist()
  own = pd.read_csv(flare / "metrics.csv")["attack_success_rate"]
  assert success["b"].tolist() == own.tolist()


def test_rounds_that_were_not_scored_are_left_out(fedavg, tmp_path, monkeypatch):
  table = pd.read_csv(fedavg / "metrics.csv")
  table.loc[1, "accuracy"] = np.nan
  table.to_csv(fedavg / "metrics.csv", index=False)
  assert figures._curve(fedavg)["round"].tolist() == [1, 3]


def test_who_is_malicious_is_read_from_the_last_round(flare):
  mmd, malicious, numbers = figures.read_mmd(flare)
  assert mmd.shape == (3, 3) and malicious.tolist() == [False, False, True]
  assert numbers.tolist() == [0, 1, 2]


def test_distances_are_between_the_clients_that_were_drawn(flare, monkeypatch):
  table = pd.read_csv(flare / "clients.csv")
  table["client_index"] += 7
  table.to_csv(flare / "clients.csv", index=False)
  drawn = []
  monkeypatch.setattr(
    plots, "mmd_between_clients", lambda *given, title: drawn.append(given)
  )
  figures.draw_folder(flare)
  assert drawn[0][3].tolist() == [7, 8, 9]


def test_files_of_a_real_run_are_drawn(flare_run, tmp_path):
  written = figures.draw_folder(flare_run.folder.path, into=tmp_path)
  assert names(written) >= {"success.png", "trust.png", "mmd.png"}
  config = json.loads((flare_run.folder.path / "config.json").read_text())
  assert config["defense"] == "flare"
