"""Attack-Krum-Untargeted: the longest step backwards that Krum still picks.

References: Fang et al., USENIX Security 2020, Sec. 4.2; FLARE Eq. (8), Table 4.
Symbols: s sign of the benign change, lambda length of the step, theta global weights,
  n updates, f malicious, B the b known updates, d parameters, delta = w - theta.
"""

import dataclasses

import tensorflow as tf

from attacks.updates import base, krum_trial
from tff_defenses.aggregators import checks
from tff_defenses.aggregators.krum import KrumFactory

FORMS = ("paper", "authors")
DIRECTIONS = ("change", "weights")
_LEAST = {"paper": 1e-5, "authors": 1e-8}  # where the search gives up
_LARGEST = 1e30  # ours: a bound that overflowed would never be halved to its end


def reverse_direction(known: tf.Tensor, origin: tf.Tensor | None = None) -> tf.Tensor:
  """s, the sign of the sum of changes, or of weights `origin` + changes; -> [d].

  >>> reverse_direction(tf.constant([[1.0, -3.0], [1.0, 2.0]])).numpy().tolist()
  [1.0, -1.0]
  """
  moved = known if origin is None else known + origin
  return tf.sign(tf.reduce_sum(moved, axis=0))


def largest_lambda(picked, start, least: float) -> tf.Tensor:
  """Eq. (8): halves `start` until `picked(lambda)`; 0 if lambda falls below `least`.

  >>> float(largest_lambda(lambda step: step < 3.0, tf.constant(10.0), 1e-5))
  2.5
  """

  def go_on(step, found):
    return ~found & (step >= least)

  def halve(step, _):
    return 0.5 * step, picked(0.5 * step)

  start = tf.minimum(start, _LARGEST)
  step, found = tf.while_loop(go_on, halve, (start, picked(start)))
  return tf.where(found & (step >= least), step, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FangKrumAttack(base.UpdateAttack):
  """All malicious clients send -lambda s, with lambda as large as Krum lets pass.

  The search starts from a bound and halves lambda until the server's Krum picks a
  malicious client.

  Threat model: knows the server's rule and the benign updates ("full") or the malicious
  clients' honest ones ("partial").

  Measurements: lambda, the mean over the tensors in form "authors"; no_attack (1:
    nobody malicious, too little known, or no lambda found, where zeros are sent).
  Args:
    rule: the server's Krum; None: the paper's, with `num_byzantine`.
    num_byzantine: what the paper's Krum is told, f >= 0; None: the malicious clients of
      the round. Left out with a `rule`, which has its own.
    form: "paper", or "authors" (FLARE's code): each tensor for itself, lambda from 1
      down to 1e-8, Krum in its variant "authors".
    direction: s: "change", the sign of the mean change (Fang et al.), or "weights",
      that of the mean weights (FLARE's text).
    shapes: of the model's trainable variables in order; for form "authors" and for a
      rule that compares kernels only.
    knowledge: "full" or "partial": Krum is tried in small, on the malicious clients'
      honest updates and one crafted update, then two, up to f. This Krum is told the
      crafted ones of the trial and selects in proportion, one at least.
  Raises:
    ValueError: a setting is outside its range or not heeded, or `shapes` is missing.
  Deviations: the bound's d counts the parameters with s != 0. What
    Krum is told in the small trial is ours: the f of the whole round would leave it a
    single neighbour. A trial whose copies of the crafted update pass at any lambda, by
    being each other's neighbours, does not count: in the paper's Krum no more crafted
    updates than max(1, f - 2) are tried. What passes in small may fail at the server.
  """

  rule: KrumFactory | None = None
  num_byzantine: int | None = None
  form: str = "paper"
  direction: str = "change"
  shapes: tuple[tuple[int, ...], ...] | None = None
  knowledge: str = "full"
  measures = ("lambda",)
  needs_spread = True

  def __post_init__(self):
    super().__post_init__()
    who = "FangKrumAttack"
    checks.check_choice(who, "form", self.form, FORMS)
    checks.check_choice(who, "direction", self.direction, DIRECTIONS)
    if self.num_byzantine is not None:
      checks.check_at_least(who, "num_byzantine", "f", self.num_byzantine, 0)
    if not (self.rule is None or isinstance(self.rule, KrumFactory)):
      raise ValueError(
        f"{who}: `rule` must be a KrumFactory or None, got {self.rule!r}. The "
        "attack is made for Krum."
      )
    self._check_told()
    if self.shapes is None and "authors" in (self.form, self._variant):
      raise ValueError(
        f"{who}: `shapes` must be given with form or rule 'authors', got None. List "
        "the shapes of the model's trainable variables."
      )

  def _check_told(self):
    if self.num_byzantine is None:
      return
    for name in ("rule", "knowledge"):
      value = getattr(self, name)
      if value != getattr(FangKrumAttack, name):
        raise ValueError(
          f"FangKrumAttack: `num_byzantine` (f) must be left out with `{name}` "
          f"{value!r}, which does not heed it, got {self.num_byzantine}. It is for an "
          "attacker of full knowledge who has to guess the server's rule."
        )

  @property
  def sees(self) -> frozenset[str]:
    """The server's rule as well."""
    return super().sees | {"aggregator"}

  @property
  def _variant(self):
    return "paper" if self.rule is None else self.rule.variant

  def _crafted(self, view):
    origin = view.weights if self.direction == "weights" else None
    sign = reverse_direction(view.known, origin)
    if self.form == "authors":
      return self._by_tensor(view, sign)
    compared = sign, view.known
    if self._variant == "authors":
      compared = krum_trial.kernels(sign, view.known, self.shapes)
    step = self._search(view, *compared, self._variant)
    return -step * sign, {"lambda": step, "no_attack": tf.equal(step, 0.0)}

  def _by_tensor(self, view, sign):
    """Form "authors": a lambda for each variable."""
    sizes = krum_trial.sizes(self.shapes)
    signs, parts = tf.split(sign, sizes), tf.split(view.known, sizes, axis=1)
    pairs = zip(signs, parts, strict=True)
    steps = [self._search(view, s, part, "authors") for s, part in pairs]
    row = tf.concat([-a * s for a, s in zip(steps, signs, strict=True)], axis=0)
    mean = tf.add_n(steps) / len(steps)
    return row, {"lambda": mean, "no_attack": tf.equal(mean, 0.0)}

  def _search(self, view, sign, known, variant):
    """Lambda on the parameters that are compared."""
    trial = krum_trial.KrumTrial(known, sign)
    num_selected = 1 if self.rule is None else self.rule.num_selected
    least = _LEAST[self.form]

    def search(place, num_crafted, **told):
      start = tf.constant(1.0)
      if self.form == "paper":
        start = trial.bound(tf.shape(place)[0], num_crafted)

      def picked(step):
        return trial.picks_crafted(step, place, variant=variant, **told)

      return largest_lambda(picked, start, least)

    def search_in_small(count):
      place = trial.places_before(count)
      share = num_selected * tf.shape(place)[0] // view.num_rows
      told = {"num_byzantine": count, "num_selected": tf.maximum(share, 1)}
      return tf.cond(
        trial.copies_decide(count, variant=variant, **told),
        lambda: 0.0,
        lambda: search(place, count, **told),
      )

    if self.knowledge == "partial":
      return _one_by_one(search_in_small, view.num_malicious)
    told = {"num_byzantine": self._told(view), "num_selected": num_selected}
    return search(trial.places_among(view), view.num_malicious, **told)

  def _told(self, view):
    """f of the Krum that is tried."""
    if self.rule is not None:
      return self.rule.num_byzantine
    return view.num_malicious if self.num_byzantine is None else self.num_byzantine


def _one_by_one(search, most):
  """The first lambda found with 1, 2, .. `most` crafted updates beside B, or 0."""

  def go_on(count, step):
    return tf.equal(step, 0.0) & (count < most)

  def add_one(count, _):
    return count + 1, search(count + 1)

  _, step = tf.while_loop(go_on, add_one, (tf.constant(0), tf.constant(0.0)))
  return step
