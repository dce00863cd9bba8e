"""Backdoors by alternating minimisation: reach the target, stay near the others.

Reference: FLARE Eq. (7), after Bhagoji et al., ICML 2019: minimise over delta
  L(D_mal) + lambda L(D_train) + rho ||delta - mean of the benign deltas||.
Symbols: theta global weights, w the attacker's, w_c the anchor that w stays close to,
  D_mal the targeted inputs with the attacker's labels, CE cross-entropy.
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from attacks.training import forms, training_loop
from tff_defenses.aggregators import checks

STRATEGIES = ("alternate", "converge")
ANCHORS = ("benign_mean", "self")
DISTANCES = ("squared", "norm")
ORDERS = ("stealth_first", "malicious_first")
_CONVERGED = 1e-6  # FLARE's code: the loss at which `converge` stops
_MAX_STEPS = 1000  # ours: the authors' loop has no end


@dataclasses.dataclass(frozen=True)
class AlternatingAttack:
  """What a malicious client sends instead of its honest update.

  "alternate": from `start`, one pass over the attack's batches: a stealth step on
  CE(batch) + rho / 2 ||w - w_c||^2; after every `stealth_steps` of them, unless
  CE(D_mal) is 0, one step on it, with an optimizer state of its own, whose displacement
  is multiplied by `boost`. "converge": only steps on CE(D_mal), from theta, at least
  `mal_epochs` and until its loss is 1e-6, at most 1000; the whole update is multiplied
  by `boost`.

  Threat model: FLARE Sec. 3.2, a white-box attacker. It holds clean data of its own;
  with the anchor "benign_mean" it also sees all honest updates of the round. Several
  malicious clients have the same target and act each for itself, unless an update
  attack such as `CopyFirst` makes them send one update.

  Args:
    images: D_mal, [t, H, W, C], pixels in 0..255 (or beyond: a trojan as published).
    labels: the attacker's labels, [t].
    strategy: "alternate" or "converge".
    anchor: w_c: "benign_mean", the mean of the honest local weights, which is also
      where training starts; or "self", the attacker's own honest training, starting
      from theta.
    boost: > 0.
    rho: Weight of the distance, >= 0.
    stealth_steps: >= 1.
    mal_epochs: "alternate": passes over the shard, >= 0; the dataset that the attack is
      given must hold that many (`attack_dataset_computation` of `build_fed_avg`).
      "converge", which reads no data: the least number of steps. 0: the honest update
      is sent, in either strategy.
    benign_epochs: E; the own anchor trains max(mal_epochs, E) epochs.
    distance: "squared", or "norm" as Eq. (7) prints it.
    order: "stealth_first" (authors' code) or "malicious_first" (Bhagoji's text).
    kernels_only: Leave biases out of boost and distance (authors' code).
    check_every: "converge" looks at the loss after so many steps, >= 1. FLARE's code:
      100, hence 101 steps at least if the first does not suffice.
    hold_off: "alternate" skips malicious steps while the target's confidence exceeds
      this share; None: never. FLARE's code: 0.8.
  Raises:
    ValueError: a setting is outside its range or not heeded by the strategy, or there
      is no targeted input.
  Deviations: lambda of Eq. (7) is 1. The authors' loop of "converge" has no last step.
    `hold_off` looks at the attacker's model before each malicious step; FLARE's code
    looks at the global model once a round and sends the honest update. Bhagoji's
    attackers may also anchor at others' earlier updates; there is no such anchor here.
    Steps use the client's optimizer (the paper's clients run Adam). Malicious steps run
    in inference mode (no dropout): the target is to be misread by the deployed model.
  """

  images: np.ndarray
  labels: np.ndarray
  _: dataclasses.KW_ONLY
  strategy: str = "alternate"
  anchor: str = "benign_mean"
  boost: float = 1.0
  rho: float = 0.1
  stealth_steps: int = 1
  mal_epochs: int = 2
  benign_epochs: int = 1
  distance: str = "squared"
  order: str = "stealth_first"
  kernels_only: bool = False
  check_every: int = 1
  hold_off: float | None = None

  def __post_init__(self):
    _check_targets(type(self).__name__, self.images, self.labels)
    for name, known in (
      ("strategy", STRATEGIES),
      ("anchor", ANCHORS),
      ("distance", DISTANCES),
      ("order", ORDERS),
    ):
      value = getattr(self, name)
      self._check(value in known, name, f"one of {', '.join(map(repr, known))}", value)
    boost, rho, held = self.boost, self.rho, self.hold_off
    self._check(checks.is_number(boost) and boost > 0, "boost", "> 0", boost)
    self._check(checks.is_number(rho) and rho >= 0, "rho", ">= 0 (Eq. 7)", rho)
    for name, least in (
      ("stealth_steps", 1),
      ("mal_epochs", 0),
      ("benign_epochs", 1),
      ("check_every", 1),
    ):
      value = getattr(self, name)
      fits = checks.is_whole(value) and value >= least
      self._check(fits, name, f"a whole number >= {least}", value)
    fits = held is None or (checks.is_number(held) and 0 <= held <= 1)
    self._check(fits, "hold_off", "None or in [0, 1]", held)
    for name in forms.UNHEEDED[self.strategy]:
      rule = f"left out with `strategy` {self.strategy!r}, which does not heed it"
      value = getattr(self, name)
      self._check(value == getattr(type(self), name), name, rule, value)

  @property
  def num_passes(self) -> int:
    """How many passes over the shard the attack's dataset must hold."""
    return self.mal_epochs if self.strategy == "alternate" else 0

  def _check(self, ok, name, rule, value) -> None:
    training_loop.check(type(self).__name__, ok, name, rule, value)

  @property
  def sees(self) -> frozenset[str]:
    """What the attacker knows."""
    return forms.sees(self.strategy, self.anchor)

  def build_craft(self, model: tff.learning.models.VariableModel, work):
    """Builds the malicious training.

    Args:
      model: Made inside the graph that will run the attack.
      work: The honest clients' `ClientWork`; its optimizer is used.

    Returns:
      craft(weights, dataset, round_number, honest, benign_mean) -> (update,
      statistics): `honest` is the client's own honest update and `benign_mean` the mean
      of the others', both initial minus trained, as is the result.
    """
    return AlternatingTraining(self, model, work).craft()


class AlternatingTraining(training_loop.TrainingLoop):
  """The loops of one attack on one model's variables."""

  def __init__(self, attack: AlternatingAttack, model, work):
    super().__init__(model, work)
    self.attack = attack
    self._counts = [not attack.kernels_only or v.shape.rank > 1 for v in self.variables]

  def craft(self):
    """The function that `AlternatingAttack.build_craft` promises."""
    if self.attack.mal_epochs == 0:
      return self.honest
    return self.converge if self.attack.strategy == "converge" else self.alternate

  def penalty(self, weights, dataset, anchor):
    """What else a stealth step minimises: a function of the batch, or None."""
    del weights, dataset, anchor

  def honest(self, weights, dataset, round_number, honest, benign_mean):
    """Without malicious epochs; the moving statistics stay those of the server."""
    del dataset, round_number, benign_mean
    return honest, list(weights.non_trainable)

  def alternate(self, weights, dataset, round_number, honest, benign_mean):
    """Strategy "alternate"; see `AlternatingAttack.build_craft`."""
    attack, theta = self.attack, list(weights.trainable)
    anchor = self._anchor(weights, dataset, round_number, honest, benign_mean)
    penalty = self.penalty(weights, dataset, anchor)
    start = anchor if attack.anchor == "benign_mean" else theta
    self.set(weights.non_trainable, start)
    stealth_state = self.start(round_number)
    malicious_state = self.start(round_number)
    malicious_first = attack.order == "malicious_first"
    steps = tf.constant(0)
    for batch in iter(dataset):
      due = tf.equal((steps + (0 if malicious_first else 1)) % attack.stealth_steps, 0)
      if malicious_first and due:
        malicious_state = self._malicious_step(malicious_state)
      stealth_state = self._stealth_step(stealth_state, batch, anchor, penalty)
      if not malicious_first and due:
        malicious_state = self._malicious_step(malicious_state)
      steps += 1
    return self.update(theta), self.statistics()

  def converge(self, weights, dataset, round_number, honest, benign_mean):
    """Strategy "converge"; see `AlternatingAttack.build_craft`."""
    del dataset, honest, benign_mean
    theta = list(weights.trainable)
    self.set(weights.non_trainable, theta)
    state = self.start(round_number)
    steps, loss = tf.constant(0), tf.constant(np.inf, tf.float32)
    least = self.attack.mal_epochs
    while steps < _MAX_STEPS and (loss > _CONVERGED or steps < least):
      state = self.step(state, self._target_loss)
      if tf.equal(steps % self.attack.check_every, 0):
        loss = tf.cast(self._target_loss(), tf.float32)
      steps += 1
    update = self.update(theta)
    boosted = [
      self.attack.boost * u if counts else u
      for u, counts in zip(update, self._counts, strict=True)
    ]
    return boosted, self.statistics()

  def _anchor(self, weights, dataset, round_number, honest, benign_mean):
    """w_c, a list of tensors."""
    attack, theta = self.attack, list(weights.trainable)
    if attack.anchor == "benign_mean":
      return [w - u for w, u in zip(theta, benign_mean, strict=True)]
    if attack.mal_epochs <= attack.benign_epochs:
      return [w - u for w, u in zip(theta, honest, strict=True)]
    self.set(weights.non_trainable, theta)
    state = self.start(round_number)
    for batch in iter(dataset):
      state = self.step(state, lambda b=batch: self.loss(b))
    return [v.read_value() for v in self.variables]

  def _stealth_step(self, state, batch, anchor, penalty):
    """CE(batch) + rho / 2 ||w - w_c||^2, and the penalty."""

    def loss():
      squares = [
        tf.reduce_sum((v - a) ** 2)
        for v, a, counts in zip(self.variables, anchor, self._counts, strict=True)
        if counts
      ]
      total = tf.add_n(squares)
      if self.attack.distance == "norm":
        # The small number keeps the gradient finite where the distance is zero.
        value = self.loss(batch) + self.attack.rho * tf.sqrt(total + 1e-12)
      else:
        value = self.loss(batch) + self.attack.rho * 0.5 * total
      return value if penalty is None else value + tf.cast(penalty(batch), value.dtype)

    return self.step(state, loss)

  def _malicious_step(self, state):
    """One boosted step on CE(D_mal), unless the target is reached well enough."""
    hold_off, loss = self.attack.hold_off, self._target_loss()
    # CE is the mean of -log confidence, so confident means a small loss.
    enough = 0.0 if hold_off is None else -np.log(max(hold_off, 1e-30))
    # Where nothing is left to gain, Adam's momentum alone would go on.
    if loss > 0.0 and loss >= enough:
      state = self._boosted_step(state)
    return state

  def _boosted_step(self, state):
    """One step on CE(D_mal); the displacement is multiplied by `boost`."""
    boost = self.attack.boost
    if boost == 1.0:
      return self.step(state, self._target_loss)
    before = [v.read_value() for v in self.variables]
    state = self.step(state, self._target_loss)
    for variable, old, counts in zip(self.variables, before, self._counts, strict=True):
      if counts:
        variable.assign(old + boost * (variable - old))
    return state

  def _target_loss(self):
    batch = collections.OrderedDict(
      x=tf.constant(self.attack.images, tf.float32),
      y=tf.constant(self.attack.labels, tf.int32),
    )
    return self.model.forward_pass(batch, training=False).loss


def krum_backdoor(
  images, labels, *, form: str = "white_box", **settings
) -> AlternatingAttack:
  """Attack-Krum-Backdoor (FLARE Eq. 7), made to be picked by Krum.

  Args:
    images, labels: D_mal; see `AlternatingAttack`.
    form: "white_box" (anchor and start at the benign mean), "self" (anchor from own
      data, boost 2, 10 epochs) or "authors" (their command line: boost 10, 2 epochs).
    **settings: Those of `AlternatingAttack`; they replace the form's.
  """
  return _build("krum_backdoor", forms.KRUM, form, images, labels, settings)


def coomed_backdoor(
  images, labels, *, form: str = "converge", **settings
) -> AlternatingAttack:
  """Attack-Coomed-Backdoor, made to pass the coordinate median.

  Args:
    images, labels: D_mal; see `AlternatingAttack`.
    form: "converge" (authors' code) or "paper" (Eq. 7, the same objective).
    **settings: Those of `AlternatingAttack`; they replace the form's.
  """
  return _build("coomed_backdoor", forms.COOMED, form, images, labels, settings)


def _build(who, known_forms, form, images, labels, settings):
  if form not in known_forms:
    known = ", ".join(map(repr, known_forms))
    raise ValueError(f"{who}: `form` must be one of {known}, got {form!r}.")
  settings = forms.settings(known_forms[form], settings)
  return AlternatingAttack(images, labels, **settings)


def _check_targets(who, images, labels) -> None:
  if len(images) == 0 or np.ndim(images) != 4 or len(images) != len(labels):
    raise ValueError(
      f"{who}: `images` (D_mal) must be [t, H, W, C] with t >= 1, and as "
      f"many labels, got {np.shape(images)} and {np.shape(labels)}. Choose a target."
    )
