"""The quick start: two backdoors on real digits, with and without a defense."""

import logging
import pathlib
import time

import numpy as np
import pandas as pd

from tff_defenses.experiments import loop, plots, presets, probe, report
from tff_defenses.experiments.config import ExperimentConfig

COLUMNS = (
  "part",
  "defense",
  "attack",
  "accuracy",
  "attack_success_rate",
  "backdoor_accuracy_nontarget",
  "seconds",
)
_PLR_IMAGES = 20  # a class, FLARE Fig. 6 shows some tens
_logger = logging.getLogger(__name__)


def run(
  runtime, output_dir: str, *, seed: int = 0, cache_dir: str | None = None
) -> str:
  """Runs both parts, writes summary.csv and the figures, and returns the table.

  Args:
    runtime: Runs the federated computations.
    output_dir: Gets a folder a run, `summary.csv` and `figures/`.
    seed: Of data, models and attacks; the same for all defenses.
    cache_dir: Where client shards lie; None: the user's cache.
  """
  output = pathlib.Path(output_dir)
  rows = []
  for part in presets.QUICK_START:
    results = {}
    for defense in part.defenses:
      begun = time.monotonic()
      config = ExperimentConfig(
        **part.settings,
        defense=defense,
        seed=seed,
        cache_dir=cache_dir,
        output_dir=str(output / f"part{part.number}_{defense}"),
      )
      results[defense] = loop.run(config, runtime, reuse=False)
      rows.append(_row(part.number, results[defense], time.monotonic() - begun))
    _draw(part.number, results, runtime, output / "figures")
  frame = pd.DataFrame(rows, columns=COLUMNS)
  frame.to_csv(output / "summary.csv", index=False)
  return report.table(frame.to_dict("records"))


def _row(number, result, seconds):
  summary = result.summary
  return {
    "part": number,
    "defense": result.config.defense,
    "attack": result.config.attack,
    "accuracy": summary["accuracy"],
    "attack_success_rate": summary["attack_success_rate"],
    "backdoor_accuracy_nontarget": summary["backdoor_accuracy_nontarget"],
    "seconds": round(seconds, 1),
  }


def _draw(number, results, runtime, folder):
  """Success over rounds for a part; trust, MMD and PLRs where FLARE ran."""
  attack = next(iter(results.values())).config.attack
  curves = {defense: _curve(result) for defense, result in results.items()}
  plots.success_over_rounds(
    curves, folder / f"part{number}_success.png", title=f"Part {number}: {attack}"
  )
  if "flare" in results:
    draw_flare(results["flare"], runtime, folder, prefix=f"part{number}_")


def draw_flare(result, runtime, folder, *, prefix: str = "") -> None:
  """Trust per client, MMD between clients and their PLRs of one FLARE run."""
  title = f"FLARE | {result.config.attack} | {result.config.dataset}"
  clients = result.folder.read("clients.csv")
  plots.trust_over_rounds(clients, folder / f"{prefix}trust.png", title=title)
  arrays = np.load(result.folder.path / "arrays.npz")
  plots.mmd_between_clients(
    arrays["mmd"], arrays["malicious"], folder / f"{prefix}mmd.png", title=title
  )
  federation = result.trainer.federation
  shown = _few_of_each(federation.test_labels, _PLR_IMAGES)
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
    folder / f"{prefix}plr.png",
    seed=result.config.seed,
    title=title,
  )


def _curve(result):
  """metrics.csv with the attack's success in one column, whatever the papers call it."""
  frame = result.folder.read("metrics.csv")
  if "attack_success_rate" not in frame:
    frame["attack_success_rate"] = frame.get("backdoor_accuracy_nontarget", np.nan)
  return frame


def _few_of_each(labels, count):
  """Positions of the first `count` images of each class."""
  found = [np.flatnonzero(labels == c)[:count] for c in np.unique(labels)]
  return np.concatenate(found)
