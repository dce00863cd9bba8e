"""Rows of metrics, with an evaluator that predicts what the test says."""

import types

import numpy as np
import pytest

from tff_defenses.experiments.scoring import Scorer

CLEAN, BACKDOORED = np.zeros((4, 1, 1, 1)), np.ones((4, 1, 1, 1))
LABELS = np.array([0, 1, 1, 2])


class ReadsTheWeights:
  """Predicts `weights["clean"]` on clean images, `weights["backdoored"]` on others."""

  def predict(self, weights, images):
    return np.array(weights["backdoored" if images.any() else "clean"])

  def predict_clients(self, all_weights, images):
    return np.stack([self.predict(weights, images) for weights in all_weights])

  def probabilities(self, weights, images):
    del images
    return np.array(weights["probabilities"])


def scorer(*, backdoor=False, targets=None):
  federation = types.SimpleNamespace(
    test_images=CLEAN,
    test_labels=LABELS,
    backdoor_images=BACKDOORED if backdoor else None,
    backdoor_labels=LABELS if backdoor else None,
    backdoor_target=2 if backdoor else None,
    targets=targets,
  )
  return Scorer(ReadsTheWeights(), federation)


def test_without_an_attack_only_accuracy_is_measured():
  row = scorer().score_global({"clean": [0, 1, 2, 2]})
  assert row == {"accuracy": 3 / 4}


def test_data_attack_adds_both_backdoor_accuracies():
  weights = {"clean": [0, 1, 1, 2], "backdoored": [2, 1, 2, 2]}
  assert scorer(backdoor=True).score_global(weights) == {
    "accuracy": 1.0,
    "backdoor_accuracy": 3 / 4,
    "backdoor_accuracy_nontarget": 2 / 3,
  }


def test_training_attack_adds_success_and_confidence_on_its_targets():
  targets = types.SimpleNamespace(images=CLEAN[:2], labels=np.array([1, 1]))
  weights = {"clean": [0, 0, 0, 0], "probabilities": [[0.2, 0.8], [0.7, 0.3]]}
  row = scorer(targets=targets).score_global(weights)
  assert row == {
    "accuracy": 1 / 4,
    "attack_success_rate": 1 / 2,
    "target_confidence": pytest.approx(0.55),
  }


def test_clients_are_scored_by_their_mean():
  clients = [
    {"clean": [0, 1, 1, 2], "backdoored": [2, 2, 2, 2]},
    {"clean": [1, 0, 0, 0], "backdoored": [0, 0, 0, 2]},
  ]
  assert scorer(backdoor=True).score_clients(clients) == {
    "accuracy": 1 / 2,
    "backdoor_accuracy": 5 / 8,
    "backdoor_accuracy_nontarget": 1 / 2,
  }
  assert set(scorer().score_clients(clients)) == {"accuracy"}


def test_malicious_models_are_scored_by_their_mean_and_backdoor_alone():
  """Three and one of four images read as the target 2: (3 / 4 + 1 / 4) / 2."""
  clients = [{"backdoored": [2, 2, 0, 2]}, {"backdoored": [0, 0, 0, 2]}]
  row = scorer(backdoor=True).score_malicious(clients)
  assert row == {"backdoor_accuracy_malicious": 1 / 2}
  assert scorer().score_malicious(clients) == {}
