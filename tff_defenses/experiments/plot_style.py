"""How every figure looks, and how it is written: whole or not at all.

All figures can be read in grey: lines differ by dash and marker, not by colour alone.
"""

import os
import pathlib
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tff_defenses.experiments import whole_files

DPI = 150

# Okabe and Ito's colours without the yellow, which vanishes on white.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
BENIGN, MALICIOUS = "#8C9FB5", "#A50F15"  # light and dark in grey too


def line(number: int) -> dict[str, Any]:
  """Colour, dash and marker of the line of this number, as matplotlib takes them.

  >>> line(1)["marker"], line(12)["marker"]
  ('s', 's')
  >>> line(1)["linestyle"] == line(12)["linestyle"]
  False
  """
  return {
    "color": COLOURS[number % len(COLOURS)],
    "linestyle": DASHES[number % len(DASHES)],
    "marker": MARKERS[number % len(MARKERS)],
  }


def new_figure(size: tuple[float, float], title: str, *, rows: int = 1, columns=1):
  """A figure with its title, and its panels, [rows, columns]."""
  figure = Figure(size, DPI, layout="constrained")
  FigureCanvasAgg(figure)
  figure.suptitle(textwrap.fill(title, int(10 * size[0])))
  return figure, figure.subplots(rows, columns, squeeze=False)


def compose(
  draws: Sequence[Callable],
  path: str | os.PathLike,
  *,
  title: str,
  columns: int | None = None,
  size: tuple[float, float] = (4.7, 3.9),
  note: str | None = None,
) -> pathlib.Path:
  """A figure of several panels; those without a legend of their own share one.

  Args:
    draws: Functions that draw into the axes they are given, one a panel.
    path: PNG to write.
    title: Of the figure.
    columns: Of panels; None: two if there are two or four, else up to three.
    size: Inches a panel.
    note: A sentence in small print at the foot, such as which runs are missing.
  """
  columns = columns or (2 if len(draws) in (2, 4) else min(3, len(draws)))
  rows = -(-len(draws) // columns)
  whole = (max(columns * size[0], 6.4), rows * size[1] + 0.6)
  figure, grid = new_figure(whole, title, rows=rows, columns=columns)
  for axes in grid.flat[len(draws) :]:
    axes.set_axis_off()
  for draw, axes in zip(draws, grid.flat, strict=False):
    draw(axes)
  entries = {}
  for axes in grid.flat[: len(draws)]:
    if axes.get_legend() is None:
      handles, labels = axes.get_legend_handles_labels()
      entries.update(zip(labels, handles, strict=True))
  note = note and textwrap.fill(note, int(15 * whole[0]))
  if entries:
    legend_below(figure, list(entries.values()), list(entries), note=note)
  elif note:
    figure.supxlabel(note, fontsize=8)
  return write(figure, path)


def legend_below(figure, handles, labels, *, note: str | None = None) -> None:
  """One legend for all panels, under them; a note goes between the two."""
  widest = 0.75 + 0.085 * max(map(len, labels))  # inches: line and letters
  columns = max(1, min(len(labels), int(figure.get_figwidth() / widest)))
  where = {"loc": "outside lower center", "ncols": columns}
  style = {"handlelength": 4, "frameon": False, "title_fontsize": 8}
  figure.legend(handles, labels, title=note, **style, **where)


def round_axis(axes, first: int, last: int) -> None:
  """A horizontal axis of whole rounds."""
  axes.set(xlabel="round", xlim=(first - 0.5, last + 0.5))
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
  axes.grid(alpha=0.3)


def write(figure, path: str | os.PathLike) -> pathlib.Path:
  """Writes one PNG whole or not at all; makes its folder."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with whole_files.replacing(path) as stream:
    figure.savefig(stream, format="png")
  return path
