"""The quick start: two backdoors on real digits, with and without a defense."""

import pathlib
import time

import pandas as pd

from tff_defenses.experiments import presets
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


def configs(
  output_dir: str, *, seed: int = 0, cache_dir: str | None = None
) -> dict[int, list[ExperimentConfig]]:
  """The runs of each part, in order; arguments as those of `run`."""
  output = pathlib.Path(output_dir).expanduser()
  return {
    part.number: [
      ExperimentConfig(
        **part.settings,
        defense=defense,
        seed=seed,
        cache_dir=cache_dir,
        output_dir=str(output / f"part{part.number}_{defense}"),
      )
      for defense in part.defenses
    ]
    for part in presets.QUICK_START
  }


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
  from tff_defenses.experiments import loop, report  # here: `configs` is cheap

  output = pathlib.Path(output_dir).expanduser()
  rows = []
  for number, runs in configs(output_dir, seed=seed, cache_dir=cache_dir).items():
    results = {}
    for config in runs:
      begun = time.monotonic()
      results[config.defense] = loop.run(config, runtime, reuse=False)
      seconds = time.monotonic() - begun
      rows.append(_row(number, results[config.defense], seconds))
    _draw(number, results, output / "figures")
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


def _draw(number, results, folder):
  """Success over rounds for a part; trust, MMD and PLRs where FLARE ran."""
  from tff_defenses.experiments import figures

  attack = next(iter(results.values())).config.attack
  title = f"Part {number}: {attack}"
  runs = {defense: result.folder.path for defense, result in results.items()}
  figures.draw_comparison(runs, folder / f"part{number}_success.png", title)
  if "flare" in runs:
    prefix = f"part{number}_flare_"
    figures.draw_folder(runs["flare"], into=folder, prefix=prefix)
