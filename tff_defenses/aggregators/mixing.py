"""Factories that mix the updates with one another before an inner rule sees them.

Reference: the wrappers `nearest_neighbour_mixing` and `bucketing`.
Symbols: k finite updates, m mixed rows, one or more clients behind each.
"""

import collections
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from tff_defenses.aggregators import base, mean, rows
from tff_defenses.aggregators.spec import WEIGHT_NAMES


class Mix(NamedTuple):
  """Rows made from the updates of a round.

  Attributes:
    mixed: [m, d] float32.
    row_of_client: [k] int32, the row that stands for each client.
    measurements: What the mixing itself measured.
  """

  mixed: tf.Tensor
  row_of_client: tf.Tensor
  measurements: rows.Measurements


class MixingFactory(base.StackedFactory):
  """Base of the wrappers; a subclass is a frozen dataclass with a field `inner`.

  It implements `_mix`. With a model-aware `inner` the wrapper is model-aware too.
  """

  def __new__(cls, inner=None, *args, **kwargs):
    wrapper = super().__new__(cls)
    if not isinstance(inner, base.ModelAwareFactory):
      return wrapper
    wrapper.__init__(inner, *args, **kwargs)
    return _ModelAwareMixing(wrapper)

  def _mix(self, updates: tf.Tensor, round_number: tf.Tensor) -> Mix:
    """Mixes the finite updates [k, d] of a round (from 1)."""
    raise NotImplementedError

  @property
  def needs_client_identity(self) -> bool:
    return needs_client_identity(self.inner)

  def _initial_state(self, specs):
    inner = _row_rule(self.inner)._initial_state(specs)
    return collections.OrderedDict(round=tf.constant(0), inner=inner)

  def _step(self, state, updates, client_index, specs):
    round_number = state["round"] + 1
    mix = self._mix(updates, round_number)
    index = client_index
    if not needs_client_identity(self.inner):
      index = tf.range(tf.shape(mix.mixed)[0])  # a bucket is no client
    inner, row, measured = _row_rule(self.inner)._step(
      state["inner"], mix.mixed, index, specs
    )
    new_state = collections.OrderedDict(round=round_number, inner=inner)
    return new_state, row, _to_clients(measured, mix)


@dataclasses.dataclass(frozen=True)
class _ModelAwareMixing(base.StackedModelAwareFactory):
  """A wrapper around a model-aware factory."""

  wrapper: MixingFactory

  def __repr__(self):
    return repr(self.wrapper)

  def on_shared(self, is_shared):
    inner = self.wrapper.inner.on_shared(is_shared)
    return dataclasses.replace(self.wrapper, inner=inner)

  def _warn_of_model(self):
    self.wrapper.inner._warn_of_model()

  def _initial_state(self, specs):
    inner = self.wrapper.inner._initial_state(specs)
    return collections.OrderedDict(round=tf.constant(0), inner=inner)

  def _step(self, state, weights, updates, specs):
    new_state = collections.OrderedDict(round=state["round"] + 1)

    def on_finite(updates):
      mix = self.wrapper._mix(updates, new_state["round"])
      new_state["inner"], row, measured = self.wrapper.inner._step(
        state["inner"], weights, mix.mixed, specs
      )
      measured["num_rejected_mixed"] = measured.pop("num_rejected")
      return row, _to_clients(measured, mix)

    keep = rows.finite_rows(updates)
    row, measurements = rows.on_kept_rows(keep, on_finite, updates)
    return new_state, row, measurements


class _RowMean(base.StackedFactory):
  """`FiniteMeanFactory` on rows: TFF's mean adds up on the way and sees no row."""

  def _rule(self, updates, specs):
    del specs
    ones = tf.ones_like(updates[:, 0])
    measurements = collections.OrderedDict(weight=ones / tf.reduce_sum(ones))
    return mean.aggregate(updates), measurements


def needs_client_identity(factory) -> bool:
  """Whether a rule remembers its clients from round to round."""
  return getattr(factory, "needs_client_identity", False)


def check_inner(who: str, inner) -> None:
  """Checks that a factory can be given mixed rows.

  Raises:
    TypeError: It cannot. ValueError: It is a mean that weighs by numbers of examples,
      or one that sums in its own way.
  """
  if isinstance(inner, mean.FiniteMeanFactory) and inner.weighting != "uniform":
    raise ValueError(
      f"{who}: `inner` must weigh all rows alike, got {inner!r}; mixed rows have no "
      "numbers of examples. Pass `td.FiniteMeanFactory()`."
    )
  if isinstance(inner, mean.FiniteMeanFactory) and inner.sum_factory is not None:
    raise ValueError(
      f"{who}: `inner` must not have a `sum_factory`, got {inner!r}; mixed rows are no "
      "longer clients' values that could be summed in secret. Leave `sum_factory` out."
    )
  if not isinstance(inner, _MIXABLE):
    raise TypeError(
      f"{who}: `inner` must be a rule on the matrix of updates, got "
      f"{type(inner).__name__}. Mixing needs every update in the clear at the server, "
      "so secure or DP sums cannot be inside it; put `td.FiniteMeanFactory()` or a "
      "robust rule inside, and `td.PartialAggregationFactory` around."
    )


_MIXABLE = (
  base.StackedFactory,
  base.StackedModelAwareFactory,
  mean.FiniteMeanFactory,
)


def _row_rule(inner) -> base.StackedFactory:
  return _RowMean() if isinstance(inner, mean.FiniteMeanFactory) else inner


def _to_clients(measured, mix: Mix):
  """What was measured of the rows, as values of the clients behind them."""
  row = mix.row_of_client
  sizes = tf.math.bincount(row, minlength=tf.shape(mix.mixed)[0], dtype=tf.float32)
  spread = collections.OrderedDict()
  for name, value in measured.items():
    if name in WEIGHT_NAMES:  # any other value of a row is that of each
      value = value / sizes
    if value.shape.rank > 0:
      value = tf.gather(value, row)
    if value.shape.rank > 1:
      value = tf.gather(value, row, axis=1)
    spread[name] = value
  for name, value in mix.measurements.items():
    both = name == "guarantee_holds" and name in spread
    spread[name] = value & spread[name] if both else value
  return spread
