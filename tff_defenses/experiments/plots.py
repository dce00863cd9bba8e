"""Figures of one run or one comparison: success, trust, distances between clients.

References: FLARE Eq. (4) (MMD), Eq. (5) (trust); FL-PLAS Figs. 3, 5 (success and
accuracy).
Symbols: n clients.

Every function writes one PNG whole or not at all, and returns its path.
"""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import patches

from tff_defenses.experiments import plot_checks, plot_style

ANNOTATED = 12  # ours: more clients leave no room for numbers in the cells
NAMED = 5  # ours: more malicious clients share one legend entry
LABELLED = 20  # ours: more clients leave no room for a label each


def success_over_rounds(
  curves: Mapping[str, pd.DataFrame], path: str | os.PathLike, *, title: str
) -> pathlib.Path:
  """Attack success and accuracy over rounds, side by side, one line a defense.

  Args:
    curves: defense -> frame with columns round, accuracy, attack_success_rate
      (fractions). Rounds where a value is NaN are left out of its line.
    path: PNG to write.
    title: of the figure.

  Raises:
    ValueError: there is no curve, or a frame has no row or lacks a column.
  """
  who, columns = "success_over_rounds", ("attack_success_rate", "accuracy")
  if not curves:
    raise ValueError(
      f"{who}: `curves` must hold at least one defense, got none. Run one first."
    )
  for name, frame in curves.items():
    plot_checks.check_frame(who, f"curves[{name!r}]", frame, ("round", *columns))
  figure, (panels,) = plot_style.new_figure((9.5, 4.2), title, columns=2)
  for axes, column in zip(panels, columns, strict=True):
    _draw_curves(axes, curves, column)
    label = column.replace("_rate", "").replace("_", " ")
    axes.set(ylabel=f"{label} (fraction of images)", ylim=(-0.03, 1.03))
    rounds = pd.concat([frame["round"] for frame in curves.values()])
    plot_style.round_axis(axes, rounds.min(), rounds.max())
  plot_style.legend_below(figure, *panels[0].get_legend_handles_labels())
  return plot_style.write(figure, path)


def trust_over_rounds(
  clients: pd.DataFrame, path: str | os.PathLike, *, title: str
) -> pathlib.Path:
  """Weight of every client over rounds; malicious ones thick, dashed and marked.

  Args:
    clients: a row a client a round: round, client_index, malicious (bool), weight.
      A client that is absent or has a NaN weight leaves a gap.
    path: PNG to write.
    title: of the figure.

  Raises:
    ValueError: there is no row, a column is missing, or a client occurs twice in a
      round.
  """
  columns = ("round", "client_index", "malicious", "weight")
  plot_checks.check_frame("trust_over_rounds", "clients", clients, columns)
  plot_checks.check_once("trust_over_rounds", clients)
  table = clients.pivot(index="round", columns="client_index", values="weight")
  malicious = clients.groupby("client_index")["malicious"].any().to_numpy(bool)
  figure, ((axes,),) = plot_style.new_figure((7.6, 4.2), title)
  _draw_clients(axes, table.loc[:, ~malicious], table.loc[:, malicious])
  sizes = clients.groupby("round").size()
  equal = {"color": "black", "linestyle": (0, (2, 2)), "linewidth": 1.0}
  if sizes.nunique() == 1:
    axes.axhline(1 / sizes.iloc[0], label=f"equal weight, 1/{sizes.iloc[0]}", **equal)
  else:
    axes.step(sizes.index, 1 / sizes, where="mid", label="equal weight, 1/n", **equal)
  axes.set(ylabel="weight in the aggregate (fraction)")
  axes.set_ylim(-0.03 * axes.get_ylim()[1])  # a weight of 0 stays inside the frame
  plot_style.round_axis(axes, clients["round"].min(), clients["round"].max())
  figure.legend(loc="outside right center", handlelength=4, frameon=False)
  return plot_style.write(figure, path)


def mmd_between_clients(
  mmd: np.ndarray,
  malicious: np.ndarray,
  path: str | os.PathLike,
  numbers: Sequence[int] | None = None,
  *,
  title: str,
) -> pathlib.Path:
  """Heat map of the distances between clients (Eq. 4); malicious ones have a star.

  The diagonal is blank; pairs without a finite distance (rejected clients) are hatched.

  Args:
    mmd: [n, n], NaN allowed.
    malicious: [n] bool.
    path: PNG to write.
    numbers: of the clients, [n]; None: 0 to n - 1.
    title: of the figure.

  Raises:
    ValueError: `mmd` is empty or not square, or `malicious` has another length.
  """
  mmd, malicious = np.array(mmd, float), np.asarray(malicious, bool)
  plot_checks.check_mmd(mmd, malicious)
  mmd[~np.isfinite(mmd)] = np.nan
  np.fill_diagonal(mmd, np.nan)
  largest = np.abs(mmd[np.isfinite(mmd)]).max(initial=0.0)
  power = math.floor(math.log10(largest)) if largest > 0 else 0
  power = 0 if power in (0, 1) else power  # other values are shown scaled
  scaled = mmd / 10.0**power
  bounds = np.append(scaled[np.isfinite(scaled)], 0.0)
  figure, ((axes,),) = plot_style.new_figure((6.4, 5.6), title)
  axes.patch.set(facecolor="white", hatch="////", edgecolor="0.8")
  image = axes.imshow(
    np.ma.masked_invalid(scaled), "cividis", vmin=bounds.min(), vmax=bounds.max() or 1.0
  )
  for i in range(len(mmd)):
    axes.add_patch(patches.Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor="white"))
  if len(mmd) <= ANNOTATED:
    _annotate(axes, scaled, image)
  _label_clients(axes, malicious, range(len(mmd)) if numbers is None else numbers)
  unit = rf" ($\times 10^{{{power}}}$)" if power else ""
  figure.colorbar(image, label=f"MMD between PLRs{unit}", shrink=0.9)
  return plot_style.write(figure, path)


def _draw_curves(axes, curves, column):
  if all(frame[column].isna().all() for frame in curves.values()):
    axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
  for i, (name, frame) in enumerate(curves.items()):
    known = frame[["round", column]].dropna()
    every = max(1, len(known) // 8)
    axes.plot(
      known["round"],
      known[column],
      label=name,
      linewidth=1.4,
      **plot_style.line(i),
      markerfacecolor="none",
      markersize=4.5 + i % 4,  # lines on top of each other stay visible
      markevery=(i % every, every),
    )


def _draw_clients(axes, benign, malicious):
  thin = {"color": plot_style.BENIGN, "linewidth": 0.9, "marker": ".", "markersize": 3}
  for i, client in enumerate(benign):
    label = None if i else f"benign ({benign.shape[1]})"
    axes.plot(benign.index, benign[client], label=label, **thin)
  thick = {"color": plot_style.MALICIOUS, "linewidth": 2.2, "linestyle": "--"}
  for i, client in enumerate(malicious):
    label, marker, size = f"malicious, client {client}", plot_style.line(i)["marker"], 6
    if malicious.shape[1] > NAMED:
      label = None if i else f"malicious ({malicious.shape[1]})"
      marker, size, thick["linewidth"] = "^", 4, 1.2
    line = {"marker": marker, "markersize": size, "label": label, **thick}
    axes.plot(malicious.index, malicious[client], **line)


def _annotate(axes, values, image):
  for (row, column), value in np.ndenumerate(values):
    if np.isfinite(value):
      dark = image.norm(value) < 0.5
      style = {"color": "white" if dark else "black", "fontsize": 7.5}
      axes.text(column, row, f"{value:.2f}", ha="center", va="center", **style)


def _label_clients(axes, malicious, numbers):
  count = len(malicious)
  step = math.ceil(count / LABELLED)
  for axis in (axes.xaxis, axes.yaxis):
    shown = range(0, count, step)
    stars = ["*" if malicious[i] and step == 1 else "" for i in shown]
    labelled = zip(shown, stars, strict=True)
    axis.set_ticks(shown, [f"{numbers[i]}{star}" for i, star in labelled])
    if step > 1:  # not every client has a label: the stars get a line of their own
      axis.remove_overlapping_locs = False
      axis.set_ticks(*_stars(malicious), minor=True)
      axis.set_tick_params(which="major", pad=12)
      axis.set_tick_params(which="minor", length=0, pad=1)
    axis.set_label_text("client (* malicious)")


def _stars(malicious):
  positions = np.flatnonzero(malicious)
  return positions, ["*"] * len(positions)
