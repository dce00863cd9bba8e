"""The figures of runs, drawn from their files alone."""

import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from tff_defenses.experiments import plot_style, plots, plr_files, plr_plots


def draw_folder(
  folder: str | os.PathLike,
  *,
  into: str | os.PathLike | None = None,
  prefix: str = "",
) -> list[pathlib.Path]:
  """All figures that the files of one run allow: success, trust, MMD and PLRs.

  Args:
    folder: Of the run, finished or not.
    into: Where the figures go; None: `figures` in the run's folder.
    prefix: Of the file names, for a run that is part of a comparison; that draws its
      own success, with all its defenses.

  Returns:
    What was written; empty before the first round is finished.
  """
  folder = pathlib.Path(folder).expanduser()
  into = folder / "figures" if into is None else pathlib.Path(into)
  config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
  title = f"{config['defense']} | {config['attack']} | {config['dataset']}"
  written = []
  if not prefix and (curve := _curve(folder)) is not None:
    curves = {config["defense"]: curve}
    path = into / "success.png"
    written.append(plots.success_over_rounds(curves, path, title=title))
  written += _draw_clients(folder, into, prefix, title)
  plrs = plr_files.read(folder)
  if plrs is not None:
    written.append(_draw_plrs(plrs, config, into / f"{prefix}plr.png", title))
  return written


def draw_comparison(
  folders: Mapping[str, str | os.PathLike], path: str | os.PathLike, title: str
) -> pathlib.Path | None:
  """Attack success and accuracy over rounds, one line a run.

  Args:
    folders: Label -> folder of a run. Those without a scored round are left out.
    path: PNG to write.
    title: Of the figure.

  Returns:
    What was written; None if no run has a scored round.
  """
  curves = {n: _curve(pathlib.Path(f).expanduser()) for n, f in folders.items()}
  curves = {name: curve for name, curve in curves.items() if curve is not None}
  return plots.success_over_rounds(curves, path, title=title) if curves else None


def _draw_clients(folder, into, prefix, title):
  """Weights over rounds; the distances between the clients of the last round."""
  clients = _read_table(folder / "clients.csv")
  if clients is None:
    return
  if clients["weight"].notna().any():
    yield plots.trust_over_rounds(clients, into / f"{prefix}trust.png", title=title)
  mmd = read_mmd(folder)
  if mmd is not None:
    path = into / f"{prefix}mmd.png"
    matrix, malicious, numbers = mmd
    yield plots.mmd_between_clients(matrix, malicious, path, numbers, title=title)


def read_mmd(
  folder: pathlib.Path,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
  """MMD between the clients of the last round, [n, n]; who is malicious, [n]; who, [n].

  None: the run is not finished, or its rule measures no MMD.
  """
  if not (folder / "arrays.npz").exists():
    return None
  with np.load(folder / "arrays.npz") as arrays:
    if "mmd" not in arrays:
      return None
    mmd = arrays["mmd"]
  clients = pd.read_csv(folder / "clients.csv")
  drawn = clients[clients["round"] == clients["round"].max()]
  malicious, numbers = drawn["malicious"], drawn["client_index"]
  return mmd, malicious.to_numpy(bool), numbers.to_numpy(int)


def _draw_plrs(plrs, config, path, title):
  def draw(axes):
    plr_plots.draw_scatter(axes, plrs, seed=config["seed"])

  title = f"{title}, round {plrs.round}"
  return plot_style.compose([draw], path, title=title, size=(6.4, 5.4))


def _curve(folder):
  """metrics.csv, the attack's success in one column whatever its paper calls it."""
  frame = _read_table(folder / "metrics.csv")
  if frame is None or "accuracy" not in frame:
    return None
  frame = frame.dropna(subset=["accuracy"])
  if "attack_success_rate" not in frame:
    frame["attack_success_rate"] = frame.get("backdoor_accuracy_nontarget", np.nan)
  return None if frame.empty else frame


def _read_table(file):
  """A table with a row at least, or None."""
  if not file.exists() or not file.stat().st_size:
    return None
  frame = pd.read_csv(file)
  return None if frame.empty else frame
