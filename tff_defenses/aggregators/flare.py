"""FLARE: clients weighted by how close their penultimate representations are.

Reference: Wang et al., ASIA CCS 2022, Eq. (4)-(6), Algorithm 1.
Symbols: n clients, m auxiliary samples, o PLR width, theta global weights, R_i the PLRs
  of client i's model on the auxiliary samples, [m, o], ct_i its votes, S_i its trust.
"""

import collections
import dataclasses
import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_defenses.aggregators import base, checks, kernel_mmd, rows, stacking

TEMPERATURE_MODES = ("paper", "mean_votes")


def mmd(r_i, r_j, *, form: str = "paper", gamma: float | None = None) -> tf.Tensor:
  """Eq. (4): maximum mean discrepancy of two models; two [m, o] -> [] float64.

  With A and C the sums of the kernel within R_i and R_j over a != b, X over all m * m
  cross pairs and X' over those without the m pairs of one and the same sample:
  "paper": (A + C - 2 X) / (m (m - 1)); "authors": (A + C) / (m (m - 1)) - 2 X / m^2,
  not below 0; "gretton": (A + C - 2 X') / (m (m - 1)), unbiased for paired samples.

  Args:
    r_i, r_j: PLRs, [m, o], m >= 2.
    form: One of `kernel_mmd.FORMS`.
    gamma: Of the kernel exp(-gamma ||a - b||^2); None: 1 / o.

  Raises:
    ValueError: an unknown form, m < 2, or another rank.

  >>> r_1, r_2 = tf.constant([[0.0], [1.0]]), tf.constant([[0.0], [2.0]])
  >>> round(float(mmd(r_1, r_2, gamma=1.0)), 6)
  -1.367879
  """
  plrs = tf.stack([tf.convert_to_tensor(r_i), tf.convert_to_tensor(r_j)])
  return pairwise_mmd(plrs, form=form, gamma=gamma)[0, 1]


def pairwise_mmd(plrs, *, form: str = "paper", gamma=None) -> tf.Tensor:
  """Eq. (4) for all pairs of models; [n, m, o] -> [n, n] float64, symmetric.

  The diagonal means nothing. See `mmd` for the arguments.
  """
  return kernel_mmd.clipped(kernel_mmd.statistic(plrs, form, gamma), form)


def num_neighbours(num_clients, fraction: float) -> tf.Tensor:
  """Algorithm 1, line 8: k = round(fraction * n), half to even; the client included."""
  product = fraction * tf.cast(num_clients, tf.float64)
  return tf.cast(tf.round(product), tf.int32)


def neighbour_votes(distances, fraction: float = 0.5) -> tf.Tensor:
  """Algorithm 1, lines 8-15: how often each client is a nearest neighbour.

  Every client ranks itself first, by identity, then the others by (distance, index);
  its neighbours are the first k of that list, hence k - 1 others.

  Args:
    distances: [n, n], symmetric; the diagonal is not looked at.
    fraction: k / n, in (0, 1].

  Returns:
    ct, [n] int32 in 0..n-1; sums to n (k - 1).

  Raises:
    ValueError: `fraction` is outside its range.
  """
  checks.check_fraction("neighbour_votes", "fraction", "k / n, Alg. 1", fraction)
  distances = tf.cast(distances, tf.float64)
  num_clients = tf.shape(distances)[0]
  first = tf.fill([num_clients], tf.constant(-np.inf, tf.float64))
  ranked = tf.argsort(tf.linalg.set_diag(distances, first), axis=1, stable=True)
  others = ranked[:, 1 : tf.maximum(num_neighbours(num_clients, fraction), 1)]
  return tf.math.bincount(tf.reshape(others, [-1]), minlength=num_clients)


def trust_scores(votes, temperature: float = 1.0, mode: str = "paper") -> tf.Tensor:
  """Eq. (5): softmax of votes over temperature; [n] -> [n] float32 that sums to 1.

  Args:
    votes: ct, [n].
    temperature: tau > 0. Paper: 1.
    mode: "paper", or "mean_votes": tau is multiplied with the mean number of votes, as
      the authors' code does.

  Raises:
    ValueError: an unknown mode, or `temperature` is not above 0.

  >>> [round(float(s), 6) for s in trust_scores(tf.constant([0, 1]))]
  [0.268941, 0.731059]
  """
  _check_temperature("trust_scores", temperature)
  checks.check_choice("trust_scores", "mode", mode, TEMPERATURE_MODES)
  votes = tf.cast(votes, tf.float32)
  scale = tf.constant(temperature, tf.float32)
  if mode == "mean_votes":
    mean = tf.reduce_mean(votes)
    scale *= tf.where(mean > 0, mean, 1.0)
  # The most votes first become 0: divided by a small scale they might be infinite.
  return tf.nn.softmax((votes - tf.reduce_max(votes)) / scale)


def aggregate(
  updates,
  *,
  plrs,
  temperature: float = 1.0,
  temperature_mode: str = "paper",
  neighbour_fraction: float = 0.5,
  mmd: str = "paper",
  bandwidth: float | str | None = None,
) -> tf.Tensor:
  """Eq. (6): sum of S_i times update i; [n, d] and PLRs [n, m, o] -> [d] float32."""
  settings = (temperature, temperature_mode, neighbour_fraction, mmd, bandwidth)
  return _rule(updates, plrs, *settings)[0]


@dataclasses.dataclass(frozen=True)
class FlareFactory(base.StackedModelAwareFactory):
  """Averages updates, weighting each client by its trust score.

  w_i = theta - update_i; R_i = plr_fn(w_i); M_ij = MMD(R_i, R_j) (Eq. 4); every client
  votes for its nearest neighbours; S = softmax of the votes (Eq. 5); the result is
  sum_i S_i update_i (Eq. 6).

  Type: next: <state@SERVER, W@SERVER, {W}@CLIENTS> -> <state, W, measurements>@SERVER;
    updates in TFF's sign (initial minus trained).
  Measurements: trust [n] float32, sums to 1; votes [n] int32 in 0..n-1; mmd [n, n]
    float32; clipped_fraction float32, the share of pairs whose statistic is negative;
    effective_clients float32, 1 / sum S^2; num_expected_neighbours int32, k - 1;
    num_rejected int32, clients whose update or PLR is not finite.
  Args:
    plr_fn: weights -> [m, o] float32; `models.split.plr_fn` makes one. If it has a
      method `many` ([n, d] -> [n, m, o]), that one is used.
    temperature: tau of Eq. (5), > 0. Paper: 1.
    temperature_mode: "paper", or "mean_votes" (authors' code).
    neighbour_fraction: share of the clients that are a client's neighbours, itself
      included, in (0, 1]. Paper: 0.5. Pass (k + 1) / n to count k others.
    mmd: "paper" (Eq. 4 as printed), "authors" (their code; clips at 0), "gretton".
    bandwidth: of the Gaussian kernel: None: gamma = 1 / o, as the authors' code; a
      number s: gamma = 1 / (2 s^2); "median": s = median distance of the round's PLRs.
  Raises:
    ValueError: a setting is outside its range; in create: what `plr_fn` gives is not
      [m, o], or m < 2. TypeError: `plr_fn` cannot be called; in create: W holds a
      non-float.
  Deviations: neighbours are ranked by identity first and ties by index. k is round(0.5
    n), half to even; the authors' code has int(n / 2), one less at n = 3, 7, 11. It
    drops the first column as "self": with statistics clipped at 0 a client may
    there vote for itself, and the last client, their attacker, never gets a vote.
    What lies behind the representations, the classifier, is not looked at: it weighs
    what its client's representations earn.
    Models with BatchNorm are read with the moving statistics that `plr_fn` holds, the
    same for all clients; `create` warns of it. Frozen layers are those of `plr_fn` too.
  """

  plr_fn: Callable
  _: dataclasses.KW_ONLY
  temperature: float = 1.0
  temperature_mode: str = "paper"
  neighbour_fraction: float = 0.5
  mmd: str = "paper"
  bandwidth: float | str | None = None

  def __post_init__(self):
    who = "FlareFactory"
    _check_temperature(who, self.temperature)
    checks.check_choice(
      who, "temperature_mode", self.temperature_mode, TEMPERATURE_MODES
    )
    checks.check_fraction(
      who, "neighbour_fraction", "k / n, Alg. 1", self.neighbour_fraction
    )
    checks.check_choice(who, "mmd", self.mmd, kernel_mmd.FORMS)
    kernel_mmd.check_bandwidth(who, self.bandwidth)
    if not callable(self.plr_fn):
      raise TypeError(
        f"{who}: `plr_fn` must be callable, got {type(self.plr_fn).__name__}. "
        "`models.split.plr_fn(model_fn, images)` makes one."
      )

  def _warn_of_model(self):
    if getattr(self.plr_fn, "has_moving_statistics", False):
      warnings.warn(
        "FlareFactory: the model of `plr_fn` has BatchNorm, whose initial moving "
        "statistics FLARE reads representations with: they say little about clients, "
        "and ties go to the lowest client index. Use a model without BatchNorm.",
        stacklevel=4,
      )

  def _server_step(self, weights, updates, specs):
    plrs = _all_plrs(self.plr_fn, weights - updates, specs)
    kernel_mmd.check_plrs("FlareFactory", plrs)
    finite_plr = tf.reduce_all(tf.math.is_finite(plrs), axis=[1, 2])
    keep = rows.finite_rows(updates) & finite_plr
    return rows.on_kept_rows(keep, self._rule, updates, plrs)

  def _rule(self, updates, plrs):
    return _rule(
      updates,
      plrs,
      self.temperature,
      self.temperature_mode,
      self.neighbour_fraction,
      self.mmd,
      self.bandwidth,
    )


def _rule(updates, plrs, temperature, temperature_mode, fraction, form, bandwidth):
  """The whole rule: ([d], measurements)."""
  statistic = kernel_mmd.statistic(plrs, form, kernel_mmd.gamma_of(plrs, bandwidth))
  distances = kernel_mmd.clipped(statistic, form)
  votes = neighbour_votes(distances, fraction)
  trust = trust_scores(votes, temperature, temperature_mode)
  num_clients = tf.shape(updates)[0]
  measurements = collections.OrderedDict(
    trust=trust,
    votes=votes,
    mmd=tf.cast(distances, tf.float32),
    clipped_fraction=kernel_mmd.negative_fraction(statistic),
    effective_clients=1.0 / tf.reduce_sum(trust**2),
    num_expected_neighbours=tf.maximum(num_neighbours(num_clients, fraction), 1) - 1,
  )
  return tf.linalg.matvec(updates, trust, transpose_a=True), measurements


def _all_plrs(plr_fn, weights, specs):
  """PLRs of all local models; flat weights [n, d] -> [n, m, o] float32."""
  if hasattr(plr_fn, "many"):
    return plr_fn.many(weights)
  return tf.map_fn(
    lambda row: tf.cast(plr_fn(stacking.unflatten(row, specs)), tf.float32),
    weights,
    fn_output_signature=tf.float32,
    parallel_iterations=1,
  )


def _check_temperature(who, value):
  advice = " The paper uses 1.0."
  checks.check_positive(who, "temperature", "tau, Eq. 5", value, advice=advice)
