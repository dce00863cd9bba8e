"""How well a defense told the malicious clients of a round from the benign ones.

Reference: FLARE Sec. 7.4, Fig. 12(b): a client counts as detected if its trust is below
1 / n. Rules that select are read by their selection.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_defenses.aggregators.spec import WEIGHT_NAMES

_TOLERANCE = 1e-6  # ours: equal shares of float32 differ in their last digits


def client_weights(measurements: Mapping[str, Any]) -> np.ndarray | None:
  """What the rule gave each client, [n]; None if it measures no such thing."""
  for name in WEIGHT_NAMES:
    if name in measurements:
      return np.asarray(measurements[name], float)
  return None


def selected(measurements: Mapping[str, Any]) -> np.ndarray | None:
  """Which clients the rule used at all, [n] bool; None if that is not known."""
  chosen = measurements.get("selected")
  if chosen is not None:
    return np.asarray(chosen, bool)
  weight = client_weights(measurements)
  return None if weight is None else weight > 0


def flagged(measurements: Mapping[str, Any]) -> np.ndarray | None:
  """Which clients the rule takes for malicious, [n] bool.

  Those it did not select, where it measures `selected`; else those of less than an
  equal share of the weight.
  """
  if "selected" in measurements:
    return ~selected(measurements)
  weight = client_weights(measurements)
  if weight is None:
    return None
  share = weight.sum() / max(len(weight), 1)
  return weight < share * (1 - _TOLERANCE)


def scores(measurements: Mapping[str, Any], malicious: np.ndarray) -> dict[str, float]:
  """How well flags and weights tell malicious clients from benign ones, in [0, 1].

  Args:
    measurements: Of an aggregator.
    malicious: [n] bool, who really was.

  Returns:
    `detection_precision` (0 if nobody is flagged), `detection_recall`,
    `detection_false_positive_rate` (share of the benign clients that are flagged),
    `detection_auc`, the probability that a malicious client has less weight than a
    benign one (ties count half), and `malicious_weight`, the malicious clients' share
    of all weight (0 if nobody has any; under Krum: whether it picked one). Empty
    without weights, without a malicious or without a benign client.
  """
  weight, flags = client_weights(measurements), flagged(measurements)
  malicious = np.asarray(malicious, bool)
  if weight is None or malicious.all() or not malicious.any():
    return {}
  from sklearn import metrics

  given = {"zero_division": 0.0}
  return {
    "detection_precision": float(metrics.precision_score(malicious, flags, **given)),
    "detection_recall": float(metrics.recall_score(malicious, flags, **given)),
    "detection_false_positive_rate": float(np.mean(flags[~malicious])),
    "malicious_weight": float(weight[malicious].sum() / (weight.sum() or 1.0)),
    "detection_auc": float(metrics.roc_auc_score(malicious, -weight)),
  }
