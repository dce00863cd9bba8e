"""Runs one experiment: rounds of training, aggregation, scoring and recording."""

import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_defenses import runtime as runtime_lib
from tff_defenses.experiments import (
  checkpoint,
  claims,
  detection,
  federation,
  machine,
  owners,
  probe,
  records,
  round_tables,
  rule_chain,
  run_record,
  starts,
  trainers,
)
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import OutputError, writing
from tff_defenses.experiments.progress import rounds_bar

_logger = logging.getLogger(__name__)
_FROM_FINAL = (
  "accuracy",
  "attack_success_rate",
  "backdoor_accuracy",
  "backdoor_accuracy_nontarget",
  "target_confidence",
)
_SHOWN = {
  "accuracy": "acc",
  "attack_success_rate": "ASR",
  "backdoor_accuracy_nontarget": "BA",
}


@dataclasses.dataclass(frozen=True, eq=False)
class RunResult:
  """A finished run.

  Attributes:
    config: What was run.
    folder: Its files.
    summary: Content of summary.json.
  """

  config: ExperimentConfig
  folder: records.RunFolder
  summary: Mapping[str, Any]


def run(
  config: ExperimentConfig,
  runtime: "runtime_lib.Runtime",
  *,
  progress: bool = True,
  reuse: bool = True,
  round_seconds: float | None = None,
  tensorboard: bool = False,
) -> RunResult:
  """Runs an experiment and writes its files to `config.output_dir`.

  A folder that holds the same config, complete, is read and not run again; one that was
  broken off goes on from its last checkpoint.

  Args:
    config: Checked first; all faults are reported at once.
    runtime: Runs the federated computations.
    progress: Show a progress bar; in a log file a line now and then.
    reuse: False: start anew whatever the folder holds of this config.
    round_seconds: Limit of a round, and of what is trained before round 1; None: no
      limit.
    tensorboard: Also release the rounds' metrics to `tensorboard/` in the folder.
      Rounds that are done again after a stop appear there twice.

  Raises:
    ConfigError: the config has faults. DataError: data are missing or damaged.
    OutputError: the folder holds another run or cannot be written; ClaimedError, one of
      these, another process works on it. WorkerError: the worker died twice in a round,
      or took longer than `round_seconds`.
  """
  config.check()
  described = run_record.describe(config)
  owners.check(config.output_dir, described)
  with claims.claim(pathlib.Path(config.output_dir).expanduser()):
    folder = records.RunFolder(config.output_dir, described)
    if reuse and folder.is_complete:
      _logger.info("%s is complete; nothing to run.", folder.path)
      return RunResult(config, folder, folder.read_summary())
    claims.forget_failure(folder.path)
    limits = {"round_seconds": round_seconds}
    watching = {"progress": progress, "tensorboard": tensorboard}
    try:
      _run(config, runtime, folder, fresh=not reuse, **limits, **watching)
    except OutputError:
      raise  # of the disk, not of the run
    except Exception as error:
      with contextlib.suppress(OutputError):
        claims.mark_failed(folder.path, error)
      raise
    return RunResult(config, folder, folder.read_summary())


def _run(
  config, runtime, folder, *, fresh, round_seconds, progress, tensorboard
) -> None:
  """The rounds that are left, and the files that end a run."""
  _warn_outside_assumption(config)
  fed = federation.build(config)
  watching = {"progress": progress, "round_seconds": round_seconds}
  trainer = trainers.build(config, fed, runtime, **watching)
  runtime.shrink()  # earlier runs, or the common start, may have left a lot behind
  states = trainer.start(runtime, timeout_seconds=round_seconds)
  saved = checkpoint.Checkpoints(folder.path / "checkpoint", fresh=fresh)
  whole = 0 if fresh else folder.whole_rounds()
  done, *states = saved.load(*states, at_most=whole)
  folder.keep_data(fed.digests(), begun=done > 0)
  folder.keep_rounds(done)
  folder.keep_machine(machine.describe())
  if not done:
    scores = trainer.score(states)
    scores = {name: _plain(value) for name, value in scores.items()}
    folder.keep_start(scores, starts.digest(trainer.initial_weights))
  board = round_tables.tensorboard_manager(folder.path) if tensorboard else None
  bar = _bar(config, done, progress)
  for round_number in bar:
    states, row, measured = _run_round(
      config, runtime, trainer, states, round_number, folder, round_seconds
    )
    bar.set_postfix({s: f"{row[n]:.3f}" for n, s in _SHOWN.items() if n in row})
    _release(board, folder, row, round_number)
    last = round_number == config.rounds
    if last:  # before the state: a run that goes on after it has nothing measured
      folder.write_arrays(_arrays(trainer, measured))
    if last or round_number % config.checkpoint_every == 0:
      folder.sync_rounds()
      saved.save(round_number, *states)
    if not last:
      runtime.shrink_if_short()
  _keep_plrs(trainer, runtime, states, folder.path, round_seconds)
  folder.write_summary(_summary(config, folder, trainer.traffic()))


def _keep_plrs(trainer, runtime, states, path, round_seconds) -> None:
  """plr.npz, if it can be made: one picture less is no reason to lose the run."""
  try:
    probe.keep(trainer, runtime, states, path, round_seconds=round_seconds)
  except OutputError:
    raise  # of the disk: the summary would not be written either
  except Exception as error:
    _logger.warning(
      "%s is finished, but the clients' representations (plr.npz) could not be kept, "
      "so their figure is missing: %s: %s",
      path,
      type(error).__name__,
      error,
    )


def _release(board, folder, row, round_number) -> None:
  """A round's metrics for TensorBoard, if it was asked for."""
  if board is not None:
    with writing(folder.path):
      round_tables.release(board, row, round_number)


def _bar(config, done, progress):
  name = f"{config.defense:>10s} | {config.attack}"
  shown = {"shown": progress, "leave": None}  # below the bar of a grid: taken away
  return rounds_bar(done, config.rounds, desc=name, **shown)


def _warn_outside_assumption(config):
  """Says once if the round holds more malicious clients than its rules can stand."""
  malicious = config.num_malicious_drawn
  for spec, seen, outer in rule_chain.unmet(config):
    _logger.warning(
      "%s is used outside its assumption (%s): %d of the %d %s of a round are "
      "malicious.",
      spec.name if outer is None else f"{spec.name} inside of {outer.name}",
      spec.assumption,
      min(malicious, seen),
      seen,
      "clients" if seen == config.num_drawn else "buckets",
    )


def _run_round(config, runtime, trainer, states, round_number, folder, round_seconds):
  """One round: new states, its row of metrics, the aggregator's measurements."""
  begun = time.monotonic()
  drawn = federation.draw_clients(config, round_number)
  before = states
  states, metrics = trainer.step(
    runtime, states, round_number, drawn, timeout_seconds=round_seconds
  )
  trained = time.monotonic()
  measured = metrics["aggregator"] if isinstance(metrics["aggregator"], dict) else {}
  malicious = trainer.federation.malicious
  attackers = (malicious & config.attacks_in(round_number))[drawn]
  row = {}
  if round_number % config.eval_every == 0 or round_number == config.rounds:
    row = trainer.score(states)
    if "crafted" in metrics:  # by a training attack on a global model
      row["crafted_accuracy"] = trainer.score_crafted(before, metrics["crafted"])
  row |= _measured(metrics, measured, attackers)
  if row["num_rejected"] == len(drawn):
    _logger.warning("round %d: no update was finite; the weights stay.", round_number)
  norms = dict(metrics["clients"]).get("update_norm")
  clients = records.client_rows(round_number, drawn, malicious, measured, norms)
  timing = {
    "seconds_training": float(metrics["clients"]["seconds_training"]),
    "seconds_aggregation": float(metrics["clients"]["seconds_aggregation"]),
    "seconds_scoring": time.monotonic() - trained,
    "seconds_round": time.monotonic() - begun,
    "peak_memory_bytes": runtime.peak_memory_bytes(),
  }
  folder.add_round(round_number, row, clients, timing)
  return states, row, measured


def _measured(metrics, measured, attackers) -> dict[str, float]:
  """What clients, rule and attack measured."""
  attacked = metrics["attack"] if "attack" in metrics else {}
  return {
    "train_loss": float(metrics["clients"]["train_loss"]),
    "num_rejected": int(measured.get("num_rejected", 0)),
    **_numbers(measured),
    **{f"attack_{name}": value for name, value in _numbers(attacked).items()},
    **detection.scores(measured, attackers),
  }


def _numbers(measured):
  """Single numbers that were measured, such as FLARE's share of clipped pairs."""
  return {
    name: float(value)
    for name, value in measured.items()
    if np.ndim(value) == 0 and name != "num_rejected" and not isinstance(value, dict)
  }


def _summary(config, folder, traffic):
  """The last round, which is scored in any case, the mean over rounds, the traffic."""
  table = folder.read("metrics.csv")
  rounds = table["round"]
  scored = table[(rounds % config.eval_every == 0) | (rounds == config.rounds)]
  final = {name: _plain(value) for name, value in scored.iloc[-1].items()}
  over_rounds = None
  if "attack_success_rate" in table:
    over_rounds = _plain(scored["attack_success_rate"].mean())
  return {
    **{name: final.get(name) for name in _FROM_FINAL},
    "attack_success_rate_over_rounds": over_rounds,
    **traffic,
    "seed": config.seed,
    "config_hash": config.hash(),
    "final": {**final, "round": int(final["round"])},
  }


def _plain(value):
  """A number for JSON, which knows no NaN: blank and infinite are null."""
  return float(value) if np.isfinite(value) else None


def _arrays(trainer, measured):
  """What the figures need of the last round."""
  arrays = {"malicious": trainer.federation.malicious}
  pairs = {n: v for n, v in measured.items() if np.ndim(v) == 2}
  return {**arrays, **pairs}
