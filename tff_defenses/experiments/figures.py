"""The figures of a finished run, drawn from its files."""

import numpy as np

from tff_defenses.experiments import plots, probe

_PLR_IMAGES = 20  # a class; FLARE Fig. 6 shows some tens


def draw(result, runtime, folder=None, *, prefix: str = "") -> None:
  """Draws what the run measured: success, trust, and for FLARE the MMD and the PLRs.

  Args:
    result: Of `loop.run`; nothing is drawn if the run was only read.
    runtime: Runs the one further round from which the PLRs come.
    folder: None: `figures` in the run's folder.
    prefix: Of the file names, for a run that is part of a comparison.
  """
  if result.trainer is None:
    return
  folder = folder or result.folder.path / "figures"
  config = result.config
  title = f"{config.defense} | {config.attack} | {config.dataset}"
  if not prefix:  # a comparison draws its own, with all its defenses
    draw_success({config.defense: result}, folder / "success.png", title)
  clients = result.folder.read("clients.csv")
  if clients["weight"].notna().any():
    plots.trust_over_rounds(clients, folder / f"{prefix}trust.png", title=title)
  with np.load(result.folder.path / "arrays.npz") as arrays:
    if "mmd" not in arrays:
      return
    drawn = clients[clients["round"] == clients["round"].max()]
    malicious = drawn["malicious"].to_numpy(bool)
    plots.mmd_between_clients(
      arrays["mmd"], malicious, folder / f"{prefix}mmd.png", title=title
    )
  if hasattr(result.trainer.process, "set_model_weights"):  # a global model
    _draw_plrs(result, runtime, folder / f"{prefix}plr.png", title)


def draw_success(results, path, title) -> None:
  """Attack success and accuracy over rounds, one line a defense."""
  curves = {defense: _curve(result) for defense, result in results.items()}
  plots.success_over_rounds(curves, path, title=title)


def _draw_plrs(result, runtime, path, title):
  """FLARE Sec. 4.3: the clients' PLRs on test images, one further round."""
  federation = result.trainer.federation
  shown = _first_of_each(federation.test_labels, _PLR_IMAGES)
  plrs = probe.client_plrs(
    result.trainer, runtime, result.states, federation.test_images[shown]
  )
  weights = result.states[0].global_model_weights
  kernel = result.trainer.scorer.evaluator.classifier_kernel(weights)
  plots.plr_scatter(
    plrs,
    federation.test_labels[shown],
    kernel,
    federation.malicious,
    path,
    seed=result.config.seed,
    title=title,
  )


def _curve(result):
  """metrics.csv, the attack's success in one column whatever its paper calls it."""
  frame = result.folder.read("metrics.csv").dropna(subset=["accuracy"])
  if "attack_success_rate" not in frame:
    frame["attack_success_rate"] = frame.get("backdoor_accuracy_nontarget", np.nan)
  return frame


def _first_of_each(labels, count):
  """Positions of the first `count` images of each class."""
  found = [np.flatnonzero(labels == c)[:count] for c in np.unique(labels)]
  return np.concatenate(found)
