"""Scores one round: the global model, or FL-PLAS's benign clients."""

import dataclasses

from tff_defenses.experiments import metrics
from tff_defenses.experiments.federation import Federation
from tff_defenses.learning import evaluation


@dataclasses.dataclass(frozen=True)
class Scorer:
  """Turns weights into a row of metrics.

  Args:
    evaluator: Of the experiment's model.
    federation: Says what is scored.
  """

  evaluator: evaluation.Evaluator
  federation: Federation

  def score_global(self, weights) -> dict[str, float]:
    """Metrics of the global model."""
    fed = self.federation
    row = {"accuracy": self.accuracy(weights)}
    if fed.targets is not None:
      probabilities = self.evaluator.probabilities(weights, fed.targets.images)
      row.update(self._target_metrics(probabilities))
    if fed.backdoor_images is not None:
      row.update(self._backdoor(self.evaluator.predict(weights, fed.backdoor_images)))
    return row

  def accuracy(self, weights) -> float:
    """Share of clean test images that a model reads right."""
    fed = self.federation
    predicted = self.evaluator.predict(weights, fed.test_images)
    return metrics.accuracy(predicted, fed.test_labels)

  def score_clients(self, all_weights) -> dict[str, float]:
    """Mean over benign clients' models (FL-PLAS Sec. 4), drawn this round or not."""
    fed = self.federation
    predicted = self.evaluator.predict_clients(all_weights, fed.test_images)
    row = {"accuracy": metrics.accuracy(predicted, fed.test_labels)}
    if fed.backdoor_images is not None:
      found = self.evaluator.predict_clients(all_weights, fed.backdoor_images)
      row.update(self._backdoor(found))
    return row

  def score_malicious(self, all_weights) -> dict[str, float]:
    """BA_atk (FL-PLAS Sec. 7.1): mean over malicious clients' own models.

    Empty without a backdoor.
    """
    fed = self.federation
    if fed.backdoor_images is None:
      return {}
    found = self.evaluator.predict_clients(all_weights, fed.backdoor_images)
    value = metrics.backdoor_accuracy(found, fed.backdoor_target)
    return {"backdoor_accuracy_malicious": value}

  def _target_metrics(self, probabilities):
    wanted = self.federation.targets.labels
    predicted = evaluation.classes(probabilities)
    return {
      "attack_success_rate": metrics.attack_success_rate(predicted, wanted),
      "target_confidence": metrics.target_confidence(probabilities, wanted),
    }

  def _backdoor(self, predicted):
    fed, target = self.federation, self.federation.backdoor_target
    return {
      "backdoor_accuracy": metrics.backdoor_accuracy(predicted, target),
      "backdoor_accuracy_nontarget": metrics.backdoor_accuracy_nontarget(
        predicted, fed.backdoor_labels, target
      ),
    }
