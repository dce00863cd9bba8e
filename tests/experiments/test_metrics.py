"""Metrics against numbers computed by hand, and empty sets."""

import numpy as np
import pytest

from tff_defenses.experiments import metrics

LABELS = np.array([0, 1, 2, 2, 1])
NOBODY = np.zeros(0, int)


def test_accuracy_by_hand():
  assert metrics.accuracy(np.array([0, 1, 2, 0, 0]), LABELS) == pytest.approx(3 / 5)


def test_accuracy_of_clients_is_the_mean_over_them():
  predicted = np.array([LABELS, [0, 0, 0, 0, 0]])  # 5 and 1 of 5
  assert metrics.accuracy(predicted, LABELS) == pytest.approx(6 / 10)


def test_backdoor_accuracy_counts_images_of_the_target_too():
  assert metrics.backdoor_accuracy(np.array([2, 2, 2, 0, 1]), 2) == pytest.approx(3 / 5)
  assert metrics.backdoor_accuracy(LABELS, 2) == pytest.approx(2 / 5)  # a clean model


def test_backdoor_accuracy_nontarget_leaves_them_out():
  predicted = np.array([2, 0, 2, 2, 1])  # of the true 0, 1, 1: one read as 2
  found = metrics.backdoor_accuracy_nontarget(predicted, LABELS, 2)
  assert found == pytest.approx(1 / 3)
  assert metrics.backdoor_accuracy_nontarget(LABELS, LABELS, 2) == 0.0


def test_backdoor_accuracy_nontarget_of_clients_is_the_mean_over_them():
  predicted = np.array([[2, 0, 2, 2, 1], [2, 2, 0, 0, 2]])  # 1 and 3 of 3
  found = metrics.backdoor_accuracy_nontarget(predicted, LABELS, 2)
  assert found == pytest.approx(4 / 6)


def test_attack_success_rate_by_hand():
  wanted = np.array([3, 3, 3, 3])
  found = metrics.attack_success_rate(np.array([3, 4, 3, 4]), wanted)
  assert found == pytest.approx(2 / 4)


def test_target_confidence_by_hand():
  probabilities = np.array([[0.1, 0.9], [0.6, 0.4]])
  found = metrics.target_confidence(probabilities, np.array([1, 0]))
  assert found == pytest.approx((0.9 + 0.6) / 2)


@pytest.mark.parametrize(
  ("name", "arguments"),
  [
    ("accuracy", (NOBODY, NOBODY)),
    ("backdoor_accuracy", (NOBODY, 0)),
    ("backdoor_accuracy_nontarget", (np.array([1, 2]), np.array([2, 2]), 2)),
    ("attack_success_rate", (NOBODY, NOBODY)),
    ("target_confidence", (np.zeros((0, 2)), NOBODY)),
  ],
)
def test_empty_set_raises_and_is_never_zero_over_zero(name, arguments):
  with pytest.raises(ValueError, match=f"^{name}: there must be an image to score"):
    getattr(metrics, name)(*arguments)
