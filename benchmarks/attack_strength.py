"""Do attacks bite? Each against the rule it was made for, and against the mean.

Run by hand:

    python benchmarks/attack_strength.py   # all that digits can show, about 20 minutes
    python benchmarks/attack_strength.py --attack fang_krum sign_flip --seeds 0 1 2

Real digits (`mnist5k`), LeNet, ten clients, few images and rounds: enough to see
whether an attack works at all, no measure of a defense. Every run of a seed has the
same data, start and client order; the runs without an attack are the baseline of their
rule. Who is malicious: one of ten for FLARE's backdoors (sec. 7.1) and for model
replacement, three of ten for all others (FLARE sec. 7.2 for untargeted attacks).

The table says what the attack did: accuracy without and with it; success in the last
round (ASR, or BA without images of the target class; "-": untargeted) and, of ASR, its
mean over rounds; the share of the weight that malicious clients got, their fair share
in brackets; in how many rounds a malicious update was used at all.
"""

import argparse
import logging
import os
import pathlib
import sys

import pandas as pd

RULES = {  # attack -> the rule it was made for; beside it runs the mean
  "trigger": "fedavg",  # FL-PLAS sec. 6.1: no rule in particular
  "label_flip": "fedavg",
  "distributed_trigger": "fedavg",
  "krum_backdoor": "krum",  # FLARE sec. 7.1
  "coomed_backdoor": "median",  # FLARE sec. 7.1
  "plr_matching": "flare",  # FLARE sec. 7.4
  "scaling": "fedavg",  # Bagdasaryan et al. 2020
  "projected": "norm_clipping",  # Wang et al. 2020
  "feature_backdoor": "fl_plas",  # ours
  "fang_krum": "krum",  # FLARE sec. 7.2
  "fang_trimmed_mean": "trimmed_mean",  # FLARE sec. 7.2
  "little_is_enough": "trimmed_mean",  # Baruch et al. 2019
  "inner_product": "krum",  # Xie et al. 2019
  "min_max": "multi_krum",  # Shejwalkar and Houmansadr 2021
  "min_sum": "multi_krum",  # Shejwalkar and Houmansadr 2021
  "sign_flip": "fedavg",
  "gaussian": "fedavg",
}
ONE_ATTACKER = ("krum_backdoor", "coomed_backdoor", "plr_matching", "scaling")
SETTINGS = {
  "dataset": "mnist5k",
  "model": "lenet",
  "num_clients": 10,  # FLARE sec. 6.1
  "rounds": 6,  # ours
  "local_epochs": 2,  # ours
  "batch_size": 16,  # ours: enough steps on few images
  "max_train_images": 1_500,  # ours
  "max_test_images": 500,  # ours
  "pretrain_on_aux": False,  # ours: a baseline that owes nothing to FLARE
}
SLOW = {  # more rounds: an ordinary step a round, unboosted, needs time to be learnt
  "trigger": 12,
  "label_flip": 12,
  "distributed_trigger": 12,
  "projected": 12,
}
ATTACK_SETTINGS = {
  "coomed_backdoor": {"boost": 10.0},  # authors' command line; 1 never reached it
  "projected": {"data_settings": {"fraction": 0.5}},  # ours
  "gaussian": {"std": 1.0},
  "sign_flip": {"scale": 5.0},  # ours: three of ten must outweigh the other seven
  "scaling": {"data_settings": {"fraction": 0.5}},  # ours
}


def configs(attack: str, rule: str, seed: int, folder: pathlib.Path):
  """(with the attack, without it) for one rule."""
  from tff_defenses.experiments.config import ExperimentConfig

  fraction = 0.1 if attack in ONE_ATTACKER else 0.3
  common = {**SETTINGS, "defense": rule, "seed": seed, "malicious_fraction": fraction}
  common["rounds"] = SLOW.get(attack, SETTINGS["rounds"])
  attacked = ExperimentConfig(
    **common,
    attack=attack,
    attack_settings=ATTACK_SETTINGS.get(attack, {}),
    output_dir=str(folder / f"{attack}-{rule}-{seed}"),
  )
  # The rule is told the same number of malicious clients in both runs.
  calm = ExperimentConfig(
    **common,
    num_byzantine=attacked.told_byzantine,
    output_dir=str(
      folder / f"none-{rule}-{attacked.told_byzantine}-{common['rounds']}-{seed}"
    ),
  )
  return attacked, calm


def compare(attack: str, rule: str, seed: int, folder, runtime) -> dict:
  """One row of the table."""
  from tff_defenses.experiments import loop

  attacked, calm = configs(attack, rule, seed, folder)
  result, baseline = loop.run(attacked, runtime), loop.run(calm, runtime)
  clients = result.folder.read("clients.csv")
  malicious = clients[clients["malicious"]]
  used = malicious[malicious["selected"].astype(bool)]["round"].nunique()
  per_round = malicious.groupby("round")["weight"].sum()
  return {
    "attack": attack,
    "rule": rule,
    "seed": seed,
    "accuracy without %": 100 * baseline.summary["accuracy"],
    "with %": 100 * result.summary["accuracy"],
    "success %": _success(result.summary),
    "over rounds %": _over_rounds(result.summary),
    "weight": f"{per_round.mean():.2f} ({attacked.num_malicious_drawn / 10:.1f})",
    "used in rounds": f"{used}/{attacked.rounds}",
  }


def _success(summary):
  """ASR where there are targets, else BA; None for untargeted attacks."""
  for name in ("attack_success_rate", "backdoor_accuracy_nontarget"):
    if summary[name] is not None:
      return 100 * summary[name]
  return None


def _over_rounds(summary):
  mean = summary["attack_success_rate_over_rounds"]
  return None if mean is None else 100 * mean


def _parse_flags():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--attack", nargs="+", choices=RULES, default=list(RULES), help="default: all")
  add("--seeds", nargs="+", type=int, default=[0], help="default: 0")
  add(
    "--output_dir",
    type=pathlib.Path,
    default=pathlib.Path("results/attack_strength"),
    help="runs found here complete are not repeated (default: %(default)s)",
  )
  return parser.parse_args()


def main() -> None:
  options = _parse_flags()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  logging.getLogger("tff_defenses").setLevel(logging.ERROR)
  from tff_defenses import runtime as runtime_lib

  rows = []
  with runtime_lib.use_local_worker() as runtime:
    for attack in options.attack:
      for rule in dict.fromkeys((RULES[attack], "fedavg")):
        for seed in options.seeds:
          rows.append(compare(attack, rule, seed, options.output_dir, runtime))
          print(pd.DataFrame(rows[-1:]).to_string(header=False), file=sys.stderr)
  frame = pd.DataFrame(rows)
  print(frame.to_string(index=False, float_format="%.1f", na_rep="-"), flush=True)
  options.output_dir.mkdir(parents=True, exist_ok=True)
  frame.to_csv(options.output_dir / "table.csv", index=False)


if __name__ == "__main__":
  main()
