"""Factories that mix the updates with one another before an inner rule sees them.

Reference: the wrappers `nearest_neighbour_mixing` and `bucketing`.
Symbols: k finite updates, m mixed rows, one or more clients behind each.
"""

import collections
import dataclasses
import functools
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


class MixingFactory:
  """Base of the wrappers; a subclass is a frozen dataclass with a field `inner`.

  It implements `_mix`. With a model-aware `inner` the wrapper is model-aware too, else
  it is a plain factory: what is made is an instance of the wrapper and of one of both.
  """

  def __new__(cls, inner=None, *args, **kwargs):
    wanted = _class_for(cls._wrapper_class(), isinstance(inner, base.ModelAwareFactory))
    made = object.__new__(wanted)
    if not isinstance(made, cls):  # a copy with an inner rule of the other kind
      made.__init__(inner, *args, **kwargs)
    return made

  def __reduce__(self):
    names = [field.name for field in dataclasses.fields(self)]
    settings = {name: getattr(self, name) for name in names}
    return functools.partial(self._wrapper_class(), **settings), ()

  @classmethod
  def _wrapper_class(cls) -> type:
    """The class that was written, for those that `_class_for` makes of it."""
    return cls.__bases__[0] if issubclass(cls, _KINDS) else cls

  def _mix(self, updates: tf.Tensor, round_number: tf.Tensor) -> Mix:
    """Mixes the finite updates [k, d] of a round (from 1)."""
    raise NotImplementedError

  @property
  def needs_client_identity(self) -> bool:
    return needs_client_identity(self.inner)


class _PlainMixing(base.StackedFactory):
  """A wrapper around a plain rule."""

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


class _ModelAwareMixing(base.StackedModelAwareFactory):
  """A wrapper around a model-aware factory."""

  def on_shared(self, is_shared):
    return dataclasses.replace(self, inner=self.inner.on_shared(is_shared))

  def _warn_of_model(self):
    self.inner._warn_of_model()

  def _initial_state(self, specs):
    inner = self.inner._initial_state(specs)
    return collections.OrderedDict(round=tf.constant(0), inner=inner)

  def _step(self, state, weights, updates, specs):
    new_state = collections.OrderedDict(round=state["round"] + 1)

    def on_finite(updates):
      mix = self._mix(updates, new_state["round"])
      new_state["inner"], row, measured = self.inner._step(
        state["inner"], weights, mix.mixed, specs
      )
      # A rule that looks at rows which are not finite too rejects none.
      rejected = measured.pop("num_rejected", tf.constant(0))
      measured["num_rejected_mixed"] = rejected
      return row, _to_clients(measured, mix)

    keep = rows.finite_rows(updates)
    row, measurements = rows.on_kept_rows(keep, on_finite, updates)
    return new_state, row, measurements


_KINDS = (_PlainMixing, _ModelAwareMixing)


@functools.cache
def _class_for(wrapper: type, model_aware: bool) -> type:
  """The wrapper's class, of one kind of factory."""
  kind = _KINDS[model_aware]
  names = ("__module__", "__qualname__", "__doc__")
  copied = {name: getattr(wrapper, name) for name in names}
  return type(kind)(wrapper.__name__, (wrapper, kind), copied)


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
