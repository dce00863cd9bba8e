"""Folders of finished runs that were never run, for tests of what is read from them."""

import json
import pathlib
import zlib

import numpy as np
import pandas as pd

from tff_defenses.experiments import datasets, plr_files, run_record

RATES = (
  "attack_success_rate",
  "target_confidence",
  "backdoor_accuracy",
  "backdoor_accuracy_nontarget",
)


def write(config, *, level=None, plrs=True):
  """The files of one run of an `ExperimentConfig`, in its folder; returns the folder.

  Args:
    config: Names folder, rounds, clients and who of them is malicious.
    level: Last round's attack success; None: by the defense.
    plrs: Whether a FLARE run has plr.npz.
  """
  folder = pathlib.Path(config.output_dir)
  folder.mkdir(parents=True)
  rng = np.random.default_rng(zlib.crc32(config.hash().encode()))
  if level is None:
    level = 0.02 if config.defense == "flare" else rng.uniform(0.2, 1.0)
  (folder / "config.json").write_text(json.dumps(run_record.describe(config)))
  metrics = put_metrics(folder, config.rounds, level, rng)
  malicious = np.isin(np.arange(config.num_clients), config.malicious_clients)
  put_clients(folder, config.rounds, malicious, config.defense == "flare")
  arrays = {"malicious": malicious}
  if config.defense == "flare":
    arrays["mmd"] = distances(malicious, rng)
    if plrs:
      put_plrs(folder, malicious, datasets.DATASETS[config.dataset].class_names, rng)
  np.savez(folder / "arrays.npz", **arrays)
  for name in ("data", "machines", "start"):
    (folder / f"{name}.json").write_text("{}")
  timing = {"round": range(1, config.rounds + 1), "seconds_aggregation": 0.1}
  pd.DataFrame(timing).to_csv(folder / "timing.csv", index=False)
  put_summary(folder, metrics, config)
  return folder


def put_metrics(folder, rounds, level, rng):
  """metrics.csv: accuracy rises to about 0.9, every attack's rate to `level`."""
  grown = np.linspace(0, 1, rounds) ** 0.4
  table = pd.DataFrame({"round": range(1, rounds + 1)})
  table["accuracy"] = 0.2 + 0.7 * grown + rng.normal(0, 0.01, rounds)
  for name in RATES:
    table[name] = np.clip(level * grown + rng.normal(0, 0.02, rounds), 0, 1)
  table["train_loss"] = 1.6 * (1 - grown) + 0.1
  table.to_csv(folder / "metrics.csv", index=False)
  return table


def put_clients(folder, rounds, malicious, by_trust):
  """clients.csv: equal weights, or malicious clients with less, but for round 2."""
  rows = []
  for number in range(1, rounds + 1):
    less = by_trust and number != 2
    raw = np.where(malicious & less, 0.1, 1.0)
    for client, weight in enumerate(raw / raw.sum()):
      flagged = malicious[client] and less
      rows.append((number, client, malicious[client], weight, flagged))
  columns = ["round", "client_index", "malicious", "weight", "flagged"]
  pd.DataFrame(rows, columns=columns).to_csv(folder / "clients.csv", index=False)


def distances(malicious, rng):
  """MMD: about 1 between benign clients, 5 to malicious ones."""
  count = len(malicious)
  apart = np.where(malicious[:, None] ^ malicious[None, :], 5.0, 1.0)
  noise = np.abs(rng.normal(1, 0.1, (count, count)))
  mmd = apart * (noise + noise.T) / 2 * 1e-3
  np.fill_diagonal(mmd, 0.0)
  return mmd


def put_plrs(folder, malicious, class_names, rng, *, images=20, width=16):
  """plr.npz: a cluster a class; malicious models are moved to one side."""
  count = len(class_names)
  kernel = rng.normal(size=(width, count))
  labels = np.repeat(np.arange(count), images)
  own = 2 * kernel.T[labels]  # [k, o]
  noise = rng.normal(0, 0.4, (len(malicious), len(labels), width))
  moved = malicious[:, None, None] * rng.normal(size=width) * 1.5
  plrs = np.float32(own + noise + moved)
  names = np.array(class_names)
  found = plr_files.Plrs(plrs, labels, np.float32(kernel), malicious, names, 21)
  plr_files.write(found, folder)


def put_summary(folder, metrics, config):
  """summary.json with the last row of metrics.csv."""
  last = metrics.iloc[-1].to_dict()
  over_rounds = float(metrics["attack_success_rate"].mean())
  summary = {
    "accuracy": last["accuracy"],
    "attack_success_rate_over_rounds": over_rounds,
    "bytes_up": 250_000,
    "bytes_down": 250_000,
    "seed": config.seed,
    "final": last,
  }
  (folder / "summary.json").write_text(json.dumps(summary))
