"""FLARE's adaptive attack: a backdoor whose representations look like benign ones.

Reference: FLARE Sec. 7.4, Eq. (9)-(10): Eq. (7) and eta d_plr.
Symbols: w the attacker's weights, w_c the anchor, r(x) the representation of image x
  under w, P_y(w) the mean representation of class y under w, o its width, c classes,
  b images of a batch.
"""

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from attacks.training import alternating
from models.representation import Representation
from tff_defenses.aggregators import checks

FORMS = ("norm", "authors")


def class_means(plrs, labels, num_classes):
  """P_y over a batch: [b, o], [b] -> [c, o], and which classes occur, [c] bool.

  >>> means, present = class_means(tf.constant([[1.0], [3.0]]), [0, 0], 2)
  >>> means.numpy().tolist(), present.numpy().tolist()
  ([[2.0], [0.0]], [True, False])
  """
  means = tf.math.unsorted_segment_mean(plrs, labels, num_classes)
  counts = tf.math.unsorted_segment_sum(tf.ones_like(labels), labels, num_classes)
  return means, counts > 0


def distance_of_means(plrs, labels, anchor_means):
  """Eq. (10): sum of ||P_y(w) - P_y(w_c)||^2 over the batch's classes."""
  means, present = class_means(plrs, labels, anchor_means.shape[0])
  squares = tf.reduce_sum((means - anchor_means) ** 2, axis=1)  # [c]
  return tf.reduce_sum(tf.where(present, squares, 0.0))


def distance_as_published(plrs, labels, anchor_means):
  """Authors' code: half the square of the batch's mean of r(x) - P_y(w_c)."""
  gap = tf.reduce_mean(plrs - tf.gather(anchor_means, labels), axis=0)  # [o]
  return 0.5 * tf.reduce_sum(gap**2)


class ServerRepresentation(Representation):
  """r(x) as FLARE's server reads it: moving statistics are those of a new model."""

  def under(self, images, weights) -> tf.Tensor:
    """[b, H, W, C] and trainable variables -> [b, o] float32."""
    plrs = self(images, weights, self._pure.moving_statistics)
    return tf.cast(plrs, tf.float32)


@dataclasses.dataclass(frozen=True)
class PlrMatchingAttack(alternating.AlternatingAttack):
  """The alternating attack, whose stealth steps also match the anchor's PLRs.

  A stealth step is on CE(batch) + rho / 2 ||w - w_c||^2 + eta d_plr. The anchor's class
  means are taken once a round, over all that the attacker's dataset holds.

  Threat model: FLARE Sec. 7.4; as `AlternatingAttack`, and knows that the server
  compares representations.

  Args:
    model_fn: Made by `models.split.make_model_fn`: the model's layers.
    eta: Weight of d_plr, >= 0. Paper: not stated; authors' code: 0.1.
    form: d_plr: "norm", squared distances of class means, or "authors".
    layer: Whose output is the representation.
    images, labels: D_mal; see `AlternatingAttack`, as for all other settings.
  Raises:
    ValueError: a setting is outside its range.
  Deviations: Eq. (10) prints a sum of vector differences, which is no distance; "norm"
    sums their squared norms. A class that a batch lacks does not count in it.
    Representations are those of inference mode. A BatchNorm model is read with the
    moving statistics that it is made with, as FLARE's server reads it, at w and w_c
    alike: d_plr is 0 at w = w_c, however far training has moved its own.
  """

  _: dataclasses.KW_ONLY
  model_fn: Callable | None = None
  eta: float = 0.1
  form: str = "norm"
  layer: str = "penultimate"

  def __post_init__(self):
    super().__post_init__()
    self._check(self.strategy == "alternate", "strategy", "'alternate'", self.strategy)
    fits = checks.is_number(self.eta) and self.eta >= 0
    self._check(fits, "eta", ">= 0 (Eq. 9)", self.eta)
    self._check(self.form in FORMS, "form", "'norm' or 'authors'", self.form)
    self._check(callable(self.model_fn), "model_fn", "a function", self.model_fn)
    _ = self.plr_of

  @functools.cached_property
  def plr_of(self) -> ServerRepresentation:
    """r(x); made with the attack, as `Representation` asks."""
    return ServerRepresentation(self.model_fn, self.layer)

  @property
  def sees(self) -> frozenset[str]:
    """What the attacker knows."""
    return super().sees | {"aggregator"}

  def build_craft(self, model, work):
    """Builds the malicious training; see `AlternatingAttack.build_craft`."""
    return PlrMatchingTraining(self, model, work).craft()


class PlrMatchingTraining(alternating.AlternatingTraining):
  """The alternating loop with d_plr in its stealth steps."""

  def __init__(self, attack: PlrMatchingAttack, model, work):
    super().__init__(attack, model, work)
    self._plr_of = attack.plr_of

  def penalty(self, weights, dataset, anchor):
    """eta d_plr of a batch under the model's present trainable variables."""
    del weights
    means = self._anchor_means(dataset, anchor)
    distances = {"norm": distance_of_means, "authors": distance_as_published}
    d_plr = distances[self.attack.form]

    def of_batch(batch):
      plrs = self._plr_of.under(batch["x"], self.variables)
      return self.attack.eta * d_plr(plrs, batch["y"], means)

    return of_batch

  def _anchor_means(self, dataset, anchor):
    """P_y(w_c) over the dataset, [c, o]; zero for a class that it lacks."""
    num_classes = self._plr_of.num_classes
    sums = tf.zeros([num_classes, self._plr_of.width])
    counts = tf.zeros([num_classes])
    for batch in iter(dataset):
      plrs = self._plr_of.under(batch["x"], anchor)
      labels = batch["y"]
      ones = tf.ones_like(labels, tf.float32)
      sums += tf.math.unsorted_segment_sum(plrs, labels, num_classes)
      counts += tf.math.unsorted_segment_sum(ones, labels, num_classes)
    return tf.math.divide_no_nan(sums, counts[:, tf.newaxis])
