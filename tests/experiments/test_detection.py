"""Detection scores against numbers worked out by hand."""

import numpy as np
import pytest

from tff_defenses.experiments import detection

LAST_TWO = np.array([False, False, False, True, True])


def test_selected_clients_are_the_ones_not_flagged():
  measured = {
    "weight": [0.5, 0.5, 0.0, 0.0, 0.0],
    "selected": [True, True, False, False, False],
  }
  assert detection.flagged(measured).tolist() == [False, False, True, True, True]
  found = detection.scores(measured, LAST_TWO)
  # 3 flagged, 2 of them malicious; AUC: of 6 pairs 4 are won and 2 tied.
  assert found["detection_precision"] == pytest.approx(2 / 3)
  assert found["detection_recall"] == 1.0
  assert found["detection_auc"] == pytest.approx((4 + 2 / 2) / 6)
  assert found["detection_false_positive_rate"] == pytest.approx(1 / 3)
  assert found["malicious_weight"] == 0.0


def test_trust_below_an_equal_share_is_a_flag():
  measured = {"trust": [0.3, 0.3, 0.1, 0.25, 0.05]}
  assert detection.flagged(measured).tolist() == [False, False, True, False, True]
  found = detection.scores(measured, LAST_TWO)
  # Flags: clients 2 and 4, one of them malicious. Pairs won: 0.25 < 0.3 twice, 0.05
  # three times; lost: 0.25 > 0.1.
  assert found["detection_precision"] == 0.5
  assert found["detection_recall"] == 0.5
  assert found["detection_auc"] == pytest.approx(5 / 6)
  assert found["detection_false_positive_rate"] == pytest.approx(1 / 3)
  assert found["malicious_weight"] == pytest.approx(0.3)


def test_equal_weights_flag_nobody_and_tell_nothing():
  found = detection.scores({"weight": np.full(5, np.float32(0.2))}, LAST_TWO)
  assert found == {
    "detection_precision": 0.0,
    "detection_recall": 0.0,
    "detection_false_positive_rate": 0.0,
    "detection_auc": 0.5,
    "malicious_weight": pytest.approx(0.4),
  }


def test_weights_that_are_all_zero_give_the_malicious_nothing():
  assert detection.scores({"weight": [0.0] * 5}, LAST_TWO)["malicious_weight"] == 0.0


@pytest.mark.parametrize("malicious", [[False] * 5, [True] * 5])
def test_without_both_kinds_of_clients_there_is_no_score(malicious):
  assert detection.scores({"weight": [0.2] * 5}, np.array(malicious)) == {}


def test_a_rule_that_measures_nothing_has_no_score():
  assert detection.scores({}, LAST_TWO) == {}
  assert detection.flagged({}) is None
  assert detection.selected({}) is None


def test_without_a_selection_weight_above_zero_is_one():
  found = detection.selected({"weight": [0.0, 0.4, 0.6]})
  assert found.tolist() == [False, True, True]
