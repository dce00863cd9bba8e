"""A backdoor in the features alone, against FL-PLAS's private classifiers.

Reference: ours, an adaptive attack on FL-PLAS (Sec. 5): its server never sees the
classifiers, so a backdoor that sits in one stays with the attacker. This attack puts it
where all clients read: into the shared feature extractor.
Symbols: h(x; w) a layer's output, o its width, mu mean of h over clean images of the
  target class, theta global weights, w the attacker's, CE cross-entropy, b images of a
  batch.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from attacks.data import trigger
from attacks.training import training_loop
from models.representation import Representation
from tff_defenses.aggregators import checks

_WHO = "FeatureBackdoorAttack"


def gap(features, mean):
  """Mean of ||h - mu||^2 over a batch: [b, o], [o] -> [].

  >>> float(gap(tf.constant([[3.0, 4.0], [0.0, 0.0]]), tf.zeros([2])))
  12.5
  """
  return tf.reduce_mean(tf.reduce_sum((features - mean) ** 2, axis=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureBackdoorAttack:
  """Trains CE on clean images + eta ||h(trigger(x)) - mu||^2; sends boost * delta.

  Any classifier that reads clean images of the target class well then reads images
  with the trigger as that class too. The attacker's labels are all true. It trains as
  long as an honest client. mu is taken once a round, from the attacker's own model
  before it trains: theta, under FL-PLAS with the attacker's private layers. Without
  clean images of the target class the attacker trains on CE alone.

  Threat model: sees its own data and training; the other clients' classifiers are not
  needed. Which layers are shared it has to know in order to choose `layer`: where h
  lies behind FL-PLAS's cut ("penultimate" does under LeNet's, which shares conv1 and
  conv2), the gap may close in the attacker's private layers, which are never sent, and
  mu says nothing of the others' private layers.

  Args:
    model_fn: Made by `models.split.make_model_fn`: the model's layers.
    pattern, target_label, value: The trigger; see `attacks.data.trigger.TriggerAttack`.
    eta: >= 0. Ours: 1. 0: honest training.
    boost: > 0, factor on the update. Ours: 1.
    layer: Whose output h is; what lies behind it is to be fooled. Under FL-PLAS no
      later than the last shared one.
  Raises:
    ValueError: a setting is outside its range.
  """

  model_fn: Callable
  pattern: str | trigger.Pattern = "flplas_mnist"
  target_label: int | None = None
  value: float | str = 255
  eta: float = 1.0
  boost: float = 1.0
  layer: str = "penultimate"

  sees = frozenset({"own_data", "own_training"})

  def __post_init__(self):
    _ = self.data_attack  # raises what the trigger's settings raise
    fits = checks.is_number(self.eta) and self.eta >= 0
    training_loop.check(_WHO, fits, "eta", ">= 0", self.eta)
    fits = checks.is_number(self.boost) and self.boost > 0
    training_loop.check(_WHO, fits, "boost", "> 0", self.boost)
    usable = callable(self.model_fn)
    training_loop.check(_WHO, usable, "model_fn", "a function", self.model_fn)
    _ = self.features

  @functools.cached_property
  def features(self) -> Representation:
    """h; made with the attack, as `Representation` asks."""
    return Representation(self.model_fn, self.layer)

  @property
  def data_attack(self) -> trigger.TriggerAttack:
    """The trigger as a data attack that poisons nothing: its test set scores us."""
    return trigger.TriggerAttack(self.pattern, self.target_label, 0.0, self.value)

  def build_craft(self, model, work):
    """Builds the malicious training; see `AlternatingAttack.build_craft`."""
    loop = training_loop.TrainingLoop(model, work)
    features = self.features
    paint = self._painter(features.image_shape)

    def craft(weights, dataset, round_number, honest, benign_mean):
      del honest, benign_mean
      theta = list(weights.trainable)
      mean, weight = self._target_mean(features, weights, dataset)

      def loss(batch):
        moving = model.non_trainable_variables
        painted = features(paint(batch["x"]), loop.variables, moving)
        apart = weight * gap(tf.cast(painted, tf.float32), mean)
        value = loop.loss(batch)
        return value + tf.cast(apart, value.dtype)

      loop.train(weights, dataset, round_number, loss)
      return [self.boost * u for u in loop.update(theta)], loop.statistics()

    return craft

  def _painter(self, image_shape):
    """[b, H, W, C] float -> the same with the trigger, in the graph."""
    blank = np.zeros([1, *image_shape], np.float32)
    mask = trigger.paint(blank, self.pattern, 1) > 0
    values = trigger.paint(blank, self.pattern, self.value)
    return lambda images: tf.where(mask, values, images)

  def _target_mean(self, features, weights, dataset):
    """mu under theta, [o], and its weight: eta, or 0 if there is no such image."""
    total, count = tf.zeros([features.width]), tf.constant(0.0)
    for batch in iter(dataset):
      found = features(batch["x"], weights.trainable, weights.non_trainable)
      chosen = tf.cast(tf.equal(batch["y"], self.data_attack.target), tf.float32)
      found = tf.cast(found, tf.float32)
      total += tf.reduce_sum(found * chosen[:, tf.newaxis], axis=0)
      count += tf.reduce_sum(chosen)
    weight = tf.where(count > 0, float(self.eta), 0.0)
    return tf.math.divide_no_nan(total, count), weight
