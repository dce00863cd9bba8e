"""What both papers measure, as fractions in [0, 1].

Reference: FLARE Sec. 6.2 (attack success rate, confidence), FL-PLAS Sec. 4 (MA, BA).
"""

import numpy as np


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
  """MA: share predicted correctly; [..., N] and [N] -> mean over all leading axes."""
  _check_not_empty("accuracy", labels)
  return float(np.mean(predicted == labels))


def backdoor_accuracy(predicted: np.ndarray, target: int) -> float:
  """BA over all backdoored images: share predicted as the target; [..., N] -> [].

  Images whose true class is the target count too, as in FL-PLAS's code: a clean model
  scores about 1 / c.
  """
  _check_not_empty("backdoor_accuracy", predicted)
  return float(np.mean(predicted == target))


def backdoor_accuracy_nontarget(
  predicted: np.ndarray, labels: np.ndarray, target: int
) -> float:
  """BA over the images whose true class is not the target; [..., N], [N] -> []."""
  others = labels != target
  _check_not_empty("backdoor_accuracy_nontarget", labels[others])
  return float(np.mean(predicted[..., others] == target))


def attack_success_rate(predicted: np.ndarray, attacker_labels: np.ndarray) -> float:
  """ASR (FLARE): share of the targeted inputs read as the attacker wants; [t], [t]."""
  _check_not_empty("attack_success_rate", attacker_labels)
  return float(np.mean(predicted == attacker_labels))


def target_confidence(probabilities: np.ndarray, attacker_labels: np.ndarray) -> float:
  """Mean probability of the attacker's label over the targets; [t, c], [t] -> []."""
  _check_not_empty("target_confidence", attacker_labels)
  rows = np.arange(len(attacker_labels))
  return float(np.mean(probabilities[rows, attacker_labels]))


def _check_not_empty(who: str, values: np.ndarray) -> None:
  if np.size(values) == 0:
    raise ValueError(
      f"{who}: there must be an image to score, got none. Choose another target or a "
      "data set that holds its class."
    )
