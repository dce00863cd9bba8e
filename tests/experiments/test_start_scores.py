"""What runs start from, as a report says it."""

import dataclasses
import json

import pytest

from tests.experiments import fabricated_runs as fabricated
from tff_defenses.experiments import run_values, start_scores
from tff_defenses.experiments.config import ExperimentConfig

CONFIG = ExperimentConfig(dataset="mnist5k", model="lenet", attack="trigger")
LINE = "mnist5k, lenet, trigger, seed 0: accuracy 74.6 %, BA all 9.8 %, BA 0.4 %"
SCORES = {
  "accuracy": 0.7456,
  "backdoor_accuracy": 0.098,
  "backdoor_accuracy_nontarget": 0.004,
}


def put(folder, content, **changes):
  """A run with this start.json."""
  run = fabricated.put(folder, dataclasses.replace(CONFIG, **changes), accuracy=0.5)
  (run / "start.json").write_text(content)


def test_a_start_that_many_runs_share_is_one_line(tmp_path):
  for defense in ("fedavg", "krum"):
    put(tmp_path, json.dumps(SCORES), defense=defense)
  put(tmp_path, json.dumps({"accuracy": 0.1, "target_confidence": 0.2}), seed=1)
  runs, _ = run_values.read_all(tmp_path)
  other = "mnist5k, lenet, trigger, seed 1: accuracy 10.0 %"
  assert start_scores.of(runs) == [LINE, other]
  assert LINE in fabricated.report_of(tmp_path, width=200)


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"accuracy": null}'])
def test_a_start_that_cannot_be_read_has_no_line(tmp_path, content):
  put(tmp_path, content)
  fabricated.put(tmp_path, dataclasses.replace(CONFIG, seed=2), accuracy=0.5)
  assert start_scores.of(run_values.read_all(tmp_path)[0]) == []
