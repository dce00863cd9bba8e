"""Several runs and their table, with runs that are only pretended."""

import types

import pytest

from tests.experiments.toy_runs import toy
from tff_defenses.experiments import figures, grid, loop, records

SUMMARY = {
  **dict.fromkeys(records.SUMMARY_KEYS),
  "accuracy": 0.5,
  "backdoor_accuracy_nontarget": 0.25,
  "seconds_aggregation": 0.5,
  "seconds_total": 3.0,
}


@pytest.fixture
def calls(monkeypatch):
  """What was run and drawn, in order."""
  found = []

  def run(config, runtime, **settings):
    found.append(("run", config.defense, runtime, settings))
    return types.SimpleNamespace(config=config, summary=SUMMARY)

  monkeypatch.setattr(loop, "run", run)
  monkeypatch.setattr(
    figures, "draw", lambda result, runtime: found.append(("draw", result, runtime))
  )
  return found


def test_each_run_is_run_drawn_and_tabled(calls, tmp_path):
  configs = [
    toy(tmp_path, tmp_path, defense=defense, attack="trigger", malicious_fraction=0.34)
    for defense in ("fedavg", "flare")
  ]
  text = grid.run(configs, "runtime", reuse=False, round_seconds=9.0)
  assert [call[0] for call in calls] == ["run", "draw", "run", "draw"]
  settings = {"reuse": False, "round_seconds": 9.0}
  assert calls[2] == ("run", "flare", "runtime", settings)
  header, *rows = (line.split() for line in text.splitlines())
  assert rows[1] == [
    *("mnist5k", "flare", "trigger", "34", "0", "yes", "50.0", "25.0", "0.5", "3.0")
  ]
  assert "ASR" not in header  # nobody measured it


def test_runs_on_all_data_are_not_called_reduced(calls, tmp_path):
  config = toy(tmp_path, tmp_path, max_train_images=None, max_test_images=None)
  row = grid.run([config], None).splitlines()[1].split()
  assert row[:6] == ["mnist5k", "fedavg", "none", "0", "0", "no"]
