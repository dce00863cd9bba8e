"""FedAvg: TFF's own mean, shielded from updates that are not finite.

Reference: McMahan et al., AISTATS 2017; the undefended baseline of both papers.
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import base, checks, geometry, rows, stacking

WEIGHTINGS = ("uniform", "examples")
_NO_SUMS = (tff.aggregators.UnweightedMeanFactory, base.PlainFactory)


def aggregate(updates: tf.Tensor, *, num_examples=None) -> tf.Tensor:
  """Mean of the rows; [n, d] -> [d]; weighted by `num_examples` [n] if given.

  Without any example it is zero: the global weights then stay.
  """
  if num_examples is None:
    return geometry.mean(tf.convert_to_tensor(updates))
  counts = tf.cast(num_examples, tf.float32)
  weight = tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
  return geometry.combine(weight[tf.newaxis], updates)[0]


@dataclasses.dataclass(frozen=True)
class FiniteMeanFactory(base.PlainFactory):
  """Averages updates with `tff.aggregators.MeanFactory`, leaving out non-finite ones.

  TFF's mean used bare lets one client's NaN through to the finalizer, which then
  rejects the whole round: a single client could stop all progress.

  Type: next: <state@SERVER, {U}@CLIENTS> -> <state, U, measurements>@SERVER.
  Measurements: weight [n] float32, sums to 1; num_rejected int32.
  Args:
    weighting: "uniform" (both papers' code) or "examples" (n_i / n; FL-PLAS
      Algorithm 1), n_i being the images that client i trained on in an epoch, without
      a batch that it drops. Inside plain TFF they are unknown and equal.
    sum_factory: how the updates are summed: None: TFF's plain sum, or another factory
      whose result is the sum itself, since it is divided by the sum of the weights. A
      mean is the only rule here that can do with a sum; all others look at the single
      updates. (TFF 0.87's worker cannot run `tff.aggregators.SecureSumFactory`; a
      runtime with secure sums is needed.) What the constructors of
      `tff.aggregators.DifferentiallyPrivateFactory` make is a mean already
      (`gaussian_fixed` and the others divide by the clients of a round) and cannot be
      told from a sum here: use it in place of this factory, not inside it.
  Raises:
    ValueError: an unknown weighting. TypeError: `sum_factory` is no unweighted
      factory, or known to be a mean or a rule; in create: U holds a non-float.
  Deviations: as in TFF's mean, sums have the variables' own width: float16 holds no
    sum of many examples, so weigh such models uniformly; and updates that are finite
    times their weights may add up to infinity (two of 3e38), which loses the round.
    With clients that drop incomplete batches n_i is not the number of images that they
    hold.
  """

  weighting: str = "uniform"
  _: dataclasses.KW_ONLY
  sum_factory: tff.aggregators.UnweightedAggregationFactory | None = None

  def __post_init__(self):
    who, plain = "FiniteMeanFactory", tff.aggregators.UnweightedAggregationFactory
    checks.check_choice(who, "weighting", self.weighting, WEIGHTINGS)
    if not isinstance(self.sum_factory, plain | None):
      raise TypeError(
        f"{who}: `sum_factory` must be an unweighted TFF factory, got "
        f"{type(self.sum_factory).__name__}. For example tff.aggregators.SumFactory()."
      )
    if isinstance(self.sum_factory, _NO_SUMS):
      raise TypeError(
        f"{who}: `sum_factory` must return a sum, which this factory divides by the "
        f"weights, got {type(self.sum_factory).__name__}. Use that one by itself."
      )

  def create_informed(self, value_type: tff.Type) -> tff.templates.MeasuredProcess:
    stacking.check_value_type("FiniteMeanFactory", value_type)
    uniform = self.weighting == "uniform"
    mean = tff.aggregators.MeanFactory(
      value_sum_factory=self.sum_factory, no_nan_division=True
    ).create(value_type, tff.TensorType(np.float32))

    @tff.tensorflow.computation(value_type, base.INFO_TYPE)
    def shield(update, info):
      weight = tf.constant(1.0) if uniform else info["num_examples"]
      # As it enters the sum: a finite number times many examples may be none.
      summand = tf.nest.map_structure(lambda x: x * tf.cast(weight, x.dtype), update)
      finite = rows.all_finite(summand)
      clean = tf.nest.map_structure(lambda x: tf.where(finite, x, 0), update)
      weight = tf.where(finite, weight, 0.0)
      rejected = tf.cast(~finite, tf.float32)
      return clean, weight, collections.OrderedDict(row=[weight, rejected])

    table_type = collections.OrderedDict(row=tff.TensorType(np.float32, [2]))

    @tff.tensorflow.computation(stacking.stack_type(tff.to_type(table_type)))
    def measure(stack):
      table = stack["updates"]
      total = tf.reduce_sum(table[:, 0])
      return collections.OrderedDict(
        weight=tf.math.divide_no_nan(table[:, 0], total),
        num_rejected=tf.cast(tf.reduce_sum(table[:, 1]), tf.int32),
      )

    @tff.federated_computation(
      mean.initialize.type_signature.result,
      tff.FederatedType(value_type, tff.CLIENTS),
      tff.FederatedType(base.INFO_TYPE, tff.CLIENTS),
    )
    def next_fn(state, updates, info):
      shielded = tff.federated_map(shield, (updates, info))
      output = mean.next(state, shielded[0], shielded[1])
      row_type = shielded[2].type_signature.member
      stack = stacking.federated_stack(shielded[2], info, row_type)
      measurements = tff.federated_map(measure, stack)
      return tff.templates.MeasuredProcessOutput(
        output.state, output.result, measurements
      )

    return base.measured_process(mean.initialize, next_fn)
