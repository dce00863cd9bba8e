"""Robust federated learning experiments in TensorFlow Federated.

Without flags: the quick start. Two backdoors on real handwritten digits, with and
without a defense, in less than 3 minutes on two cores: a table, and figures in
results/quickstart.

  python run_experiments.py
  python run_experiments.py --list
  python run_experiments.py --check_env
  python run_experiments.py --preset=toy --defense=fedavg,krum,flare --attack=trigger \\
      --malicious_fraction=0.25
  python run_experiments.py --preset=flare_fashion_mnist --defense=fedavg,krum,flare \\
      --data_dir=~/data
  python run_experiments.py --preset=fl_plas_mnist --defense=fl_plas --data_dir=~/data

Flags replace settings of the preset. Flags marked [list] take several values, separated
by commas, and run all their combinations; "all" stands for every name. A run that is
complete is not repeated; one that was broken off goes on from its last checkpoint.
"""

import json
import logging
import os
import sys

from absl import app, flags

from tff_defenses import experiments, runtime

# TensorFlow's start-up messages drown ours; set the variable yourself to see them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FLAGS = flags.FLAGS
_LISTS = {
  "dataset": "data set [list]; see --list",
  "defense": "aggregation rule [list]; see --list",
  "attack": "attack, or none [list]; see --list",
  "partition": "iid, classes or dirichlet [list]",
}
_NUMBER_LISTS = {
  "malicious_fraction": (float, "share of malicious clients, 0.1 is 10 % [list]"),
  "seed": (int, "of data, model and attack; the same for all defenses [list]"),
}
_INTEGERS = {
  "num_clients": "clients in the federation",
  "clients_per_round": "clients drawn each round; default: all",
  "num_byzantine": "malicious clients a round that the rule is told; default: true",
  "attack_start": "first round in which malicious clients attack",
  "attack_stop": "last such round; default: the last of all",
  "rounds": "rounds of training",
  "local_epochs": "passes of a client over its data each round",
  "batch_size": "images a training step",
  "classes_per_client": "for --partition=classes",
  "aux_class": "class of the server's auxiliary images (FLARE)",
  "aux_size": "number of auxiliary images (FLARE's m)",
  "root_per_class": "trusted images a class, for FLTrust; no client has them",
  "root_epochs": "passes over them each round; default: as --local_epochs",
  "max_train_images": "take only so many training images: a reduced run",
  "max_test_images": "score only so many test images: a reduced run",
  "eval_every": "rounds between two scorings",
}
_FLOATS = {
  "alpha": "for --partition=dirichlet",
  "learning_rate": "of the clients",
  "momentum": "of SGD",
  "weight_decay": "added to the gradient",
  "rate_decay": "factor on the learning rate from round to round",
}
_STRINGS = {
  "model": "Keras model; default: the one made for the data set; see --list",
  "optimizer": "adam or sgd",
  "participation": "fixed_frequency or random",
  "shared_cut": "FL-PLAS: which layers are shared; default or a cut of the model",
  "augment": "crop_flip (FL-PLAS on CIFAR)",
}
_BOOLEANS = {
  "pretrain_on_aux": "start from a model trained on the auxiliary images (FLARE 5.2)",
  "as_published": "Dirichlet split as FL-PLAS's code has it",
  "drop_remainder": "leave out a client's incomplete last batch",
  "malicious_first": "the first clients are malicious, not the last",
}

for _name, _help in _LISTS.items():
  flags.DEFINE_list(_name, None, _help)
for _name, (_, _help) in _NUMBER_LISTS.items():
  flags.DEFINE_list(_name, None, _help)
for _name, _help in _INTEGERS.items():
  flags.DEFINE_integer(_name, None, _help)
for _name, _help in _FLOATS.items():
  flags.DEFINE_float(_name, None, _help)
for _name, _help in _STRINGS.items():
  flags.DEFINE_string(_name, None, _help)
for _name, _help in _BOOLEANS.items():
  flags.DEFINE_boolean(_name, None, _help)
flags.DEFINE_string("preset", None, "named settings to start from; see --list")
flags.DEFINE_string(
  "defense_settings", None, 'JSON for the rule, for example {"temperature": 2.0}'
)
flags.DEFINE_string(
  "attack_settings", None, 'JSON for the attack, for example {"boost": 5.0}'
)
flags.DEFINE_string("data_dir", None, "folder with raw data files")
flags.DEFINE_string(
  "cache_dir", None, "folder for client shards; default: user's cache"
)
flags.DEFINE_string("output_dir", None, "folder for results; default: results")
flags.DEFINE_float("round_seconds", None, "stop if a round takes longer than this")
flags.DEFINE_boolean("fresh", False, "run anew what is already complete")
flags.DEFINE_boolean("dry_run", False, "print the runs and stop")
flags.DEFINE_boolean("list", False, "print what exists and stop")
flags.DEFINE_boolean("check_env", False, "check this machine and stop")


def main(argv) -> int:
  """Runs what the flags say; returns the exit status."""
  if len(argv) > 1:
    return _fail(f"unknown argument {argv[1]!r}; flags look like --defense=flare")
  logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
  logging.captureWarnings(True)
  logging.getLogger("tensorflow").setLevel(logging.ERROR)  # advice on our own code
  try:
    if FLAGS.list:
      from tff_defenses.experiments import listing

      print(listing.text())
      return 0
    if FLAGS.check_env:
      return _check_env()
    settings = _settings()
    if not settings and FLAGS.preset is None and not FLAGS.dry_run:
      return _quick_start()
    return _run_grid(settings)
  except KeyboardInterrupt:
    return _fail("interrupted; finished rounds are kept", status=130)
  except (OSError, ValueError, experiments.OutputError, runtime.WorkerError) as error:
    return _fail(error)


def _settings() -> dict:
  """The experiment's settings that were given as flags; lists stay lists."""
  found = {name: getattr(FLAGS, name) for name in (*_LISTS, *_INTEGERS, *_FLOATS)}
  found |= {name: getattr(FLAGS, name) for name in (*_STRINGS, *_BOOLEANS)}
  for name, (number, _) in _NUMBER_LISTS.items():
    found[name] = _numbers(name, number, getattr(FLAGS, name))
  for name in ("defense_settings", "attack_settings"):
    found[name] = _json(name, getattr(FLAGS, name))
  return {name: value for name, value in found.items() if value is not None}


def _numbers(name, number, texts):
  try:
    return None if texts is None else [number(text) for text in texts]
  except ValueError as error:
    raise ValueError(f"--{name} takes numbers, got {','.join(texts)}.") from error


def _json(name, text):
  try:
    value = None if text is None else json.loads(text)
  except ValueError as error:
    raise ValueError(f'--{name} takes JSON such as {{"a": 1}}, got {text}.') from error
  if value is not None and not isinstance(value, dict):
    raise ValueError(f"--{name} takes a JSON object, got {text}.")
  return value


def _run_grid(settings) -> int:
  """Runs all combinations of the list flags and prints one table."""
  configs = experiments.expand(
    FLAGS.preset,
    settings,
    data_dir=FLAGS.data_dir,
    cache_dir=FLAGS.cache_dir,
    output_dir=FLAGS.output_dir,
  )
  if FLAGS.dry_run:
    for config in configs:
      print(config.output_dir)
    return 0
  from tff_defenses.experiments import grid

  with _runtime() as running:
    table = grid.run(
      configs, running, reuse=not FLAGS.fresh, round_seconds=FLAGS.round_seconds
    )
  print(table)
  return 0


def _quick_start() -> int:
  output = os.path.join(FLAGS.output_dir or "results", "quickstart")
  with _runtime() as running:
    from tff_defenses.experiments import quickstart

    table = quickstart.run(running, output, cache_dir=FLAGS.cache_dir)
  print(f"\n{table}\n\nsummary and figures: {output}")
  return 0


def _runtime():
  print("loading TensorFlow Federated (about 12 s) ...", file=sys.stderr)
  return runtime.use_local_worker()


def _check_env() -> int:
  findings = runtime.check(start_worker=True)
  print(runtime.format_findings(findings))
  return 0 if all(finding.ok for finding in findings) else 1


def _fail(message, status: int = 1) -> int:
  print(f"error: {message}", file=sys.stderr)
  return status


def run() -> None:
  """Entry point: `python run_experiments.py`."""
  # Not `app.run`: TensorFlow 2.14 imported below it starts out without its eager
  # context, and Keras then builds no functional models.
  app.define_help_flags()  # app.run would
  sys.exit(main(app.parse_flags_with_usage(sys.argv)))


if __name__ == "__main__":
  run()
