"""Panels of lines and of dots: ours with its spread over seeds, the paper's beside it.

Every function draws into the axes it is given.
"""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker

from tff_defenses.experiments import plot_style

PAPER = "paper"
_HOLLOW = {"markerfacecolor": "none", "markeredgewidth": 1.3, "linestyle": "none"}
_NO_ENTRY = "_nolegend_"


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
  """One defense: mean over seeds, and what the paper prints.

  Attributes:
    label: in the legend.
    x, mean, std: [k]; std is NaN where there is one seed.
    paper: (x, y, bound) of the paper's points; bound: "above", "below" or None.
  """

  label: str
  x: np.ndarray
  mean: np.ndarray
  std: np.ndarray
  paper: tuple[tuple[float, float, str | None], ...] = ()


def draw_lines(
  axes, lines: Sequence[Line], *, numbers: Mapping[str, int] | None = None
) -> None:
  """Lines with a band of one standard deviation, and the paper's points, hollow.

  Args:
    axes: to draw into.
    lines: one a defense.
    numbers: label -> number of its style, shared by the panels of a figure; None: in
      the order of `lines`.
  """
  if numbers is None:
    numbers = {line.label: i for i, line in enumerate(lines)}
  for line in lines:
    number = numbers[line.label]
    style = plot_style.line(number)
    if len(line.x):
      every = max(1, len(line.x) // 8)
      axes.plot(
        line.x,
        line.mean,
        label=line.label,
        linewidth=1.4,
        markersize=3.5 + number % 3,
        markevery=(number % every, every),
        **style,
      )
      low, high = line.mean - line.std, line.mean + line.std
      band = {"color": style["color"], "alpha": 0.1, "linewidth": 0}
      axes.fill_between(line.x, low, high, where=np.isfinite(line.std), **band)
    for i, point in enumerate(line.paper):
      hollow = {"color": style["color"], "marker": style["marker"], "markersize": 9}
      label = _NO_ENTRY if i or len(line.x) else f"{line.label} (not run)"
      _draw_paper(axes, point, label=label, **hollow)
  axes.grid(alpha=0.3)
  if any(line.paper for line in lines):
    entry = {**_HOLLOW, "marker": "o", "color": "0.3", "markersize": 9}
    axes.plot([], [], label=f"hollow: {PAPER}", **entry)


def draw_dots(
  axes,
  labels: Sequence[str],
  *,
  paper: Sequence[tuple[float, str | None] | None],
  mean: Sequence[float],
  std: Sequence[float],
) -> None:
  """A column each: the paper's number hollow, ours filled with its spread.

  Args:
    axes: to draw into.
    labels: of the columns.
    paper: (number, bound) a column; None where the paper prints none.
    mean, std: a number a column; NaN where there is none.
  """
  places = np.arange(len(labels))
  shift = 0.14  # side by side, so that equal numbers are both seen
  ours = {"color": "black", "marker": "o", "markersize": 4.5, "capsize": 3}
  spread = np.nan_to_num(np.asarray(std, float))
  ours |= {"yerr": spread, "linestyle": "none", "label": "ours"}
  axes.errorbar(places + shift, mean, **ours)
  hollow = {"marker": "D", "color": plot_style.COLOURS[1], "markersize": 6}
  axes.plot([], [], label=PAPER, **hollow, **_HOLLOW)
  for place, point in zip(places, paper, strict=True):
    if point is not None:
      _draw_paper(axes, (place - shift, *point), label=_NO_ENTRY, **hollow)
  short = [textwrap.fill(label, 18) for label in labels]
  axes.set_xticks(places, short, rotation=40, ha="right", rotation_mode="anchor")
  axes.tick_params(axis="x", labelsize=8)
  axes.set_xlim(-0.6, len(labels) - 0.4)
  axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
  axes.grid(axis="y", alpha=0.3)


def _draw_paper(axes, point, *, label, **style):
  """A hollow marker; of a bound, with an arrow to where the value may lie."""
  x, y, bound = point
  axes.plot([x], [y], label=label, clip_on=False, **style, **_HOLLOW)
  if bound is not None:
    tip = 22 if bound == "above" else -22
    arrow = {"arrowstyle": "->", "color": style["color"], "linewidth": 1.2}
    where = {"xytext": (0, tip), "textcoords": "offset points"}
    axes.annotate("", (x, y), arrowprops={**arrow, "arrowstyle": "<-"}, **where)
