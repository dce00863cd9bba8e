"""Robust federated learning experiments in TensorFlow Federated.

Without flags: the quick start. Two backdoors on real handwritten digits, with and
without a defense, in 2 to 4 minutes on two cores: a table, and figures in
results/quickstart.

  python run_experiments.py
  python run_experiments.py --list
  python run_experiments.py --check_env
  python run_experiments.py --preset=toy --defense=fedavg,krum,flare --attack=trigger \\
      --malicious_fraction=0.25
  python run_experiments.py --preset=fl_plas_mnist --defense=fl_plas --data_dir=~/data
  python run_experiments.py --reproduce=flare:table3 --dataset=fashion_mnist \\
      --scale=0.02 --data_dir=~/data
  python run_experiments.py --report=results/flare-table3-scale0.02

Flags replace settings of the preset. Flags marked [list] take several values, separated
by commas, and run all their combinations; "all" stands for every name. --reproduce runs
a table or figure of the papers and sets our numbers beside theirs; --report does so at
any time. --dry_run says what would be run and how long it would take here.

A run that is complete is not repeated; one that was broken off, even by `kill -9`, goes
on from its last checkpoint; a failed one is tried again. The same command may be given
several times at once, or with --jobs=N: the processes share the work. Only the command
without flags, the quick start, begins anew each time.
"""

import json
import logging
import os
import sys

from absl import app, flags

from tff_defenses import experiments, runtime
from tff_defenses.experiments import commands, flag_modes

# TensorFlow's start-up messages drown ours; set the variable yourself to see them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault(runtime.ONEDNN, "1")  # for all processes alike; 0 switches it off

FLAGS = flags.FLAGS
_PLACES = ("data_dir", "cache_dir", "output_dir")
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
  "num_byzantine": "malicious clients a round as told to the rule; default: the truth",
  "attack_start": "first round in which malicious clients attack",
  "attack_stop": "last such round; default: the last of all",
  "rounds": "rounds of training",
  "local_epochs": "passes of a client over its data each round",
  "batch_size": "images a training step",
  "classes_per_client": "for --partition=classes",
  "min_client_images": "for --partition=dirichlet: of the smallest client",
  "aux_class": "class of the server's auxiliary images (FLARE)",
  "aux_size": "number of auxiliary images (FLARE's m)",
  "root_per_class": "trusted images a class, for FLTrust; no client has them",
  "root_epochs": "passes over them each round; default: as --local_epochs",
  "max_train_images": "take only so many training images: a reduced run",
  "max_test_images": "score only so many test images: a reduced run",
  "eval_every": "rounds between two scorings",
  "warmup_rounds": "start after so many rounds of clean averaging (FL-PLAS)",
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
  "moving_statistics": "of BatchNorm in a global model: mean, or authors (FL-PLAS)",
  "eval_clients": "FL-PLAS: benign models scored: all, or sampled (of the round)",
  "shared_cut": "FL-PLAS: which layers are shared; default or a cut of the model",
  "augment": "of the clients' images: none, or crop_flip (FL-PLAS on CIFAR)",
  "pretrained_file": "start from these weights (.npz)",
}
_BOOLEANS = {
  "pretrain_on_aux": "start from a model trained on the auxiliary images (FLARE 5.2)",
  "as_published": "Dirichlet split as FL-PLAS's code has it",
  "drop_remainder": "leave out a client's incomplete last batch, if it has others",
  "warmup_on_all": "with --warmup_rounds: on all images, --max_train_images or not",
  "warmup_pooled": "with --warmup_rounds: passes over all clients' images together",
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
flags.DEFINE_alias("seeds", "seed")
flags.DEFINE_string(
  "reproduce", None, "table or figure of a paper, such as flare:table3; see --list"
)
flags.DEFINE_float("scale", None, "with --reproduce: share of the work, such as 0.05")
flags.DEFINE_boolean(
  "from_scratch", False, "with --reproduce: without FL-PLAS's pre-trained start"
)
_PARTS = {  # with --reproduce; may be repeated
  "rows": "only this row of the table, by its label in the scorecard or part of it",
  "variants": "also this other reading of the papers, by its name in "
  "docs/reproducing.md or part of it, or all",
}
for _name, _text in _PARTS.items():
  flags.DEFINE_multi_string(_name, [], f"with --reproduce: {_text}; may be repeated")
flags.DEFINE_string("report", None, "print and write the report of an output folder")
flags.DEFINE_integer("jobs", 1, "processes that share the runs", lower_bound=1)
flags.DEFINE_list(
  "workers", None, "host:port of running TFF workers to use, not one of this machine"
)
flags.DEFINE_boolean("resume", True, "--noresume runs anew what is already complete")
flags.DEFINE_boolean("tensorboard", False, "also write TensorBoard files")
flags.DEFINE_boolean("dry_run", False, "print the runs, estimate their hours, and stop")
flags.DEFINE_boolean("list", False, "print what exists and stop")
flags.DEFINE_boolean("check_env", False, "check this machine and stop")
_OURS = [flag.name for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__])]


def main(argv) -> int:
  """Runs what the flags say; returns the exit status."""
  if len(argv) > 1:
    return _fail(f"unknown argument {argv[1]!r}; flags look like --defense=flare")
  logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
  logging.captureWarnings(True)
  logging.getLogger("tensorflow").setLevel(logging.ERROR)  # advice on our own code
  try:
    return _dispatch()
  except KeyboardInterrupt:
    return _fail("interrupted; finished rounds are kept", status=130)
  except (OSError, ValueError, experiments.OutputError, runtime.WorkerError) as error:
    return _fail(error)


def _dispatch() -> int:
  """Does what the flags ask for; returns the exit status."""
  settings = _settings()
  given = {name: FLAGS[name].value for name in _OURS if name != "seeds"}
  given = {n: value for n, value in given.items() if value != FLAGS[n].default}
  mode = flag_modes.mode(given, bool(settings) or FLAGS.preset is not None)
  if mode == "list":
    from tff_defenses.experiments import listing

    print(listing.text())
    return 0
  if mode == "check_env":
    return _check_env()
  if mode == "report":
    print(commands.report(FLAGS.report))
    return 0
  if mode == "reproduce":
    plan = _plan(settings)
    return _run(plan.configs(), plan)
  places = {name: getattr(FLAGS, name) for name in _PLACES}
  if mode == flag_modes.RUNS:
    return _run(experiments.expand(FLAGS.preset, settings, **places))
  del places["data_dir"]  # its digits are at hand
  configs = commands.quick_start_configs(**places)
  commands.check_workers(configs, FLAGS.workers or ())
  if FLAGS.dry_run:
    return _foretell(configs, resume=False)
  print(commands.quick_start(_runtime(), **places))
  return 0


def _plan(settings):
  """The table or figure that --reproduce names, narrowed by the flags."""
  extra = sorted(set(settings) - {"dataset", "defense", "attack", "seed"})
  if FLAGS.preset is not None:
    extra = ["preset", *extra]
  if extra:
    names = ", ".join(f"--{name}" for name in extra)
    raise ValueError(
      f"--reproduce takes its settings from the table, got {names} as well. "
      "Narrow it by --dataset, --defense, --attack, --rows, --seeds; shrink it by "
      "--scale."
    )
  return experiments.plan(
    FLAGS.reproduce,
    scale=1.0 if FLAGS.scale is None else FLAGS.scale,
    seeds=settings.get("seed"),
    datasets=settings.get("dataset"),
    defenses=settings.get("defense"),
    attacks=settings.get("attack"),
    from_scratch=FLAGS.from_scratch,
    **{name: getattr(FLAGS, name) for name in (*_PARTS, *_PLACES)},
  )


def _run(configs, plan=None) -> int:
  commands.check_workers(configs, FLAGS.workers or ())
  if FLAGS.dry_run:
    return _foretell(configs, adopts=plan is not None, resume=FLAGS.resume)
  text, ok = commands.run(
    configs,
    _runtime,
    plan=plan,
    jobs=FLAGS.jobs,
    argv=sys.argv,
    resume=FLAGS.resume,
    round_seconds=FLAGS.round_seconds,
    tensorboard=FLAGS.tensorboard,
  )
  print(text)
  return 0 if ok else 1


def _foretell(configs, **settings) -> int:
  print("\n".join(config.output_dir for config in configs), flush=True)
  text, ok = commands.hours(configs, _runtime, jobs=FLAGS.jobs, **settings)
  print(f"\n{text}")
  return 0 if ok else 1


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
    kind = "whole numbers" if number is int else "numbers"
    raise ValueError(f"--{name} takes {kind}, got {','.join(texts)}.") from error


def _json(name, text):
  try:
    value = None if text is None else json.loads(text)
  except ValueError as error:
    raise ValueError(f'--{name} takes JSON such as {{"a": 1}}, got {text}.') from error
  if value is not None and not isinstance(value, dict):
    raise ValueError(f"--{name} takes a JSON object, got {text}.")
  return value


def _runtime():
  """TFF's default context; loading TFF takes its time, so it is made when needed."""
  print("loading TensorFlow Federated (about 12 s) ...", file=sys.stderr)
  if FLAGS.workers:
    return runtime.use_remote_workers(FLAGS.workers)
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
