"""Panels about representations: scatters, single data points, distances, flags.

References: FLARE Figs. 1(a), 6, 10 (PLRs of three classes), 4 (single data points),
1(b) (averaged MMD), 12(b) (flags).
Symbols: n clients, k images, c classes.

Each function draws into the axes it is given.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker

from tff_defenses.experiments import plot_checks, plot_style, plr_projection
from tff_defenses.experiments.plr_files import Plrs

_LEGEND = {"frameon": False, "fontsize": 8, "loc": "upper center"}
_BELOW = {**_LEGEND, "bbox_to_anchor": (0.5, -0.14)}
_DATA_POINTS = ("o", "P", "s")  # circle, plus and square, as in Fig. 4


def draw_scatter(
  axes, plrs: Plrs, *, classes: Sequence[int] | None = None, seed: int = 0
) -> None:
  """PLRs of benign and malicious models on the plane of three classes (FLARE Fig. 6).

  Args:
    axes: to draw into.
    plrs: of one run.
    classes: three of 0..c-1; None: drawn at random from those in `plrs.labels`.
    seed: of that draw.

  Raises:
    ValueError: as in `plr_projection.project_plrs`; shapes that disagree; fewer than
      three classes to draw from.
  """
  plot_checks.check_scatter(plrs.plrs, plrs.labels, plrs.malicious)
  classes = draw_classes(plrs.labels, seed) if classes is None else classes
  chosen = np.isin(plrs.labels, classes)
  points = plr_projection.project_plrs(plrs.plrs[:, chosen], plrs.kernel, classes)
  labels = plrs.labels[chosen]
  # Hollow over pale: in grey the malicious ones are the dark ones.
  for group, colours in (
    ("benign", (plot_style.BENIGN, "none")),
    ("malicious", (plot_style.MALICIOUS, plot_style.MALICIOUS)),
  ):
    rows = points[plrs.malicious == (group == "malicious")]
    for label, marker in zip(classes, plot_style.MARKERS, strict=False):
      x, y = rows[:, labels == label].reshape(-1, 2).T
      if len(x):
        style = {"marker": marker, "edgecolors": colours[0], "facecolors": colours[1]}
        name = f"{group}, {_class_name(plrs, label)}"
        axes.scatter(x, y, 22, linewidths=0.8, label=name, **style)
  _finish_plane(axes)
  axes.legend(ncols=2, **_BELOW)


def draw_data_points(axes, plrs: Plrs, *, seed: int = 0) -> None:
  """Each client's PLR of three images, one marker an image (FLARE Fig. 4).

  Args:
    axes: to draw into.
    plrs: of one run.
    seed: of the draw of three classes; the first image of each is shown.

  Raises:
    ValueError: as in `draw_scatter`.
  """
  points, names = data_points(plrs, seed=seed)
  for image, (name, marker) in enumerate(zip(names, _DATA_POINTS, strict=True)):
    for malicious, colour in (
      (False, plot_style.BENIGN),
      (True, plot_style.MALICIOUS),
    ):
      x, y = points[plrs.malicious == malicious, image].T
      style = {"marker": marker, "edgecolors": "black", "linewidths": 0.5}
      label = f"{'malicious' if malicious else 'benign'}, {name}"
      if len(x):
        axes.scatter(x, y, 42, color=colour, label=label, **style)
  _finish_plane(axes)
  axes.legend(ncols=2, **_BELOW)


def draw_inter_distances(axes, plrs: Plrs, *, seed: int = 0) -> None:
  """How far each client's PLR of an image is from the benign ones, on average (Fig. 4).

  Args:
    axes: to draw into.
    plrs, seed: as in `draw_data_points`.
  """
  points, names = data_points(plrs, seed=seed)
  apart = np.linalg.norm(points[:, np.newaxis] - points[np.newaxis], axis=-1)
  apart[np.eye(len(points), dtype=bool)] = np.nan
  mean = _mean_of_finite(apart[:, ~plrs.malicious])  # [n, 3]
  groups = {
    name: (mean[~plrs.malicious, i], mean[plrs.malicious, i])
    for i, name in enumerate(names)
  }
  draw_boxes(axes, groups)
  axes.set_ylabel("mean distance to benign clients' PLRs")


def draw_boxes(axes, groups: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
  """A box of the benign clients and a dot for each malicious one (FLARE Fig. 1b).

  Args:
    axes: to draw into.
    groups: label -> (values of benign clients, values of malicious clients).
  """
  for place, (benign, malicious) in enumerate(groups.values()):
    benign = benign[np.isfinite(benign)]
    style = {"patch_artist": True, "widths": 0.4}
    boxes = axes.boxplot([benign], positions=[place], **style)
    boxes["boxes"][0].set(facecolor=plot_style.BENIGN, label=_once("benign", place))
    boxes["medians"][0].set(color="black")
    beside = np.full(len(malicious), float(place))
    axes.scatter(
      beside,
      malicious,
      44,
      color=plot_style.MALICIOUS,
      marker="D",
      edgecolors="black",
      linewidths=0.5,
      zorder=3,
      label=_once("malicious", place),
    )
  axes.set_xticks(range(len(groups)), groups, fontsize=8)
  axes.set_xlim(-0.6, len(groups) - 0.4)
  low, high = axes.get_ylim()
  axes.set_ylim(min(low, 0), max(high, 0))  # Eq. (4) is negative for like models
  axes.grid(axis="y", alpha=0.3)
  axes.legend(ncols=2, **_BELOW)


def averaged_mmd(mmd: np.ndarray) -> np.ndarray:
  """Each client's mean MMD to the others; [n, n] -> [n], NaN where none is finite.

  >>> averaged_mmd(np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 5.0], [3.0, 5.0, 0.0]]))
  array([2., 3., 4.])
  """
  mmd = np.array(mmd, float)
  np.fill_diagonal(mmd, np.nan)
  return _mean_of_finite(mmd)


def draw_flags(axes, flags: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
  """Whether each flag is up in each round, a row a flag (FLARE Fig. 12b).

  Args:
    axes: to draw into.
    flags: name -> (rounds, [rounds] bool). Rounds without a value are left out.
  """
  names = list(flags)[::-1]  # the first one on top
  for place, name in enumerate(names):
    rounds, up = (np.asarray(values) for values in flags[name])
    up = up.astype(bool)
    axes.axhline(place, color="0.85", linewidth=0.8, zorder=0)
    for value, face in ((True, "black"), (False, "white")):
      style = {"marker": "os"[place % 2], "edgecolors": "black", "facecolors": face}
      count = np.full((up == value).sum(), place)
      axes.scatter(rounds[up == value], count, 38, zorder=3, **style)
  axes.set_yticks(range(len(names)), names)
  axes.set_ylim(-0.6, len(names) - 0.4)
  every = np.concatenate([np.asarray(rounds) for rounds, _ in flags.values()])
  plot_style.round_axis(axes, every.min(), every.max())
  axes.scatter([], [], 38, marker="o", color="black", label="yes")
  axes.scatter([], [], 38, marker="o", edgecolors="black", color="white", label="no")
  axes.legend(ncols=2, **_BELOW)


def data_points(plrs: Plrs, *, seed: int = 0) -> tuple[np.ndarray, list[str]]:
  """Three images of different classes on the plane; [n, 3, 2] and their classes."""
  plot_checks.check_scatter(plrs.plrs, plrs.labels, plrs.malicious)
  classes = draw_classes(plrs.labels, seed)
  shown = [int(np.flatnonzero(plrs.labels == label)[0]) for label in classes]
  points = plr_projection.project_plrs(plrs.plrs[:, shown], plrs.kernel, classes)
  return points, [_class_name(plrs, label) for label in classes]


def draw_classes(labels: np.ndarray, seed: int) -> list[int]:
  """Three of the classes in `labels`, at random.

  Raises:
    ValueError: there are fewer than three.
  """
  present = np.unique(labels)
  if len(present) < 3:
    raise ValueError(
      "plr_scatter: `labels` must hold at least 3 classes to draw from, got "
      f"{len(present)}. Give `classes`, or samples of more classes."
    )
  return sorted(np.random.default_rng(seed).choice(present, 3, replace=False).tolist())


def _mean_of_finite(values):
  """Mean over the second axis; NaN where nothing is finite."""
  finite = np.isfinite(values)
  count = finite.sum(axis=1)
  total = np.where(finite, values, 0.0).sum(axis=1)
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _class_name(plrs, label):
  return str(plrs.class_names[label])


def _once(label, place):
  """A legend entry for the first of several."""
  return label if place == 0 else "_nolegend_"


def _finish_plane(axes):
  axes.set(xlabel="first principal direction", ylabel="second principal direction")
  axes.set_aspect("equal", adjustable="datalim")
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
  axes.grid(alpha=0.3)
