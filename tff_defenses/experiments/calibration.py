"""How long runs will take, from short real runs on this machine.

One short run stands for all that train alike: the same data set, model, batch, kind of
attack and kind of defense (a global model, or personal ones). What it measures in its
second of three rounds is extrapolated: training with the images that all clients of a
round go through, aggregation and what a round costs beside it with the number of
clients, scoring with the test images. A warm start, which runs share, is charged to the
first that needs it, unless it is kept from earlier runs. Left out: differences between
the defenses' own aggregation, saving states, figures, and that processes slow each
other down.
"""

import dataclasses
import logging
import math
import pathlib
import tempfile
import time
from collections.abc import Sequence

import pandas as pd
import tqdm

from tff_defenses import aggregators
from tff_defenses.experiments import (
  claims,
  data_attacks,
  datasets,
  federation,
  loop,
  progress,
  shared_runs,
  warm_start,
  whole_files,
)
from tff_defenses.experiments.config import ExperimentConfig, attacks_kind
from tff_defenses.experiments.errors import DataError

COLUMNS = ("dataset", "defense", "attack", "seed", "rounds", "images", "hours")
_TEST_IMAGES = 500  # ours: scoring them costs more than calling the model
_ENOUGH_SECONDS = 0.5  # ours: of training; less is repeated with more images
_MORE = 8  # ours: times as many images

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Cost:
  """Seconds of a short run: to start, and the parts of its second round.

  `images` were trained on, `clients` took part, `tested` images were scored.
  """

  start: float
  training: float
  aggregation: float
  scoring: float
  other: float
  images: int
  clients: int
  tested: int


def estimate(
  configs: Sequence[ExperimentConfig],
  runtime,
  *,
  adopts: bool = True,
  resume: bool = True,
) -> pd.DataFrame:
  """Hours of each run from a short calibration, about 10 s for each kind of run.

  Args:
    configs: Checked.
    runtime: Runs the federated computations.
    adopts: Runs that neighbouring folders have finished will be taken over (see
      `shared_runs`) and count as finished.
    resume: False: nothing counts as finished, no round as done.

  Returns:
    A row a run with `COLUMNS`; images: all that its clients train on. Finished runs
    take no hours, broken-off ones what is left; NaN: no estimate, with a warning.
  """
  sizes = {c.dataset: c.data_dir for c in configs}
  sizes = {name: _size(name, data_dir) for name, data_dir in sizes.items()}
  costs: dict[tuple, _Cost | None] = {}
  finished = [resume and _is_finished(config, adopts) for config in configs]
  left = [
    c for c, is_finished in zip(configs, finished, strict=True) if not is_finished
  ]
  kinds = {_kind(config): config for config in reversed(left)}
  for kind, config in tqdm.tqdm(kinds.items(), desc="calibration", unit="kind"):
    costs[kind] = _calibrate(config, runtime, sizes[config.dataset])
  rows, starts = [], set()
  for config, is_finished in zip(configs, finished, strict=True):
    cost = None if is_finished else costs.get(_kind(config))
    makes_start = cost is not None and _makes_start(config, starts)
    size = sizes[config.dataset]
    done = progress.rounds_done(config) if resume else 0
    to_do = None if is_finished else config.rounds - done
    rows.append(_row(config, cost, size, to_do, makes_start))
  return pd.DataFrame(rows, columns=COLUMNS)


def text(frame: pd.DataFrame, jobs: int = 1) -> str:
  """The estimate as a table for the terminal, with the total.

  >>> row = ("mnist5k", "krum", "none", 0, 20, 4900, 1.5)
  >>> print(text(pd.DataFrame([row], columns=COLUMNS), 3).splitlines()[-1])
  1 run: 1.50 hours, at least 1.50 in 3 processes (`--jobs=3`)
  """
  hours, unknown = frame["hours"].sum(), int(frame["hours"].isna().sum())
  shown = frame.assign(hours=[_in_hours(value) for value in frame["hours"]])
  lines = [shown.to_string(index=False)]
  total = f"{len(frame)} run{'s' * (len(frame) != 1)}: {hours:.2f} hours"
  if jobs > 1:
    least = _least(frame["hours"], jobs)
    total += f", at least {least:.2f} in {jobs} processes (`--jobs={jobs}`)"
  if unknown:
    total += f"; {unknown} not estimated"
  return "\n".join([*lines, total])


def _least(hours, jobs):
  """Hours in several processes, at least: no run is shared by two of them."""
  busy = max(1, min(jobs, int((hours != 0).sum())))
  return max(hours.sum() / busy, hours.fillna(0).max())


def _in_hours(value):
  return "-" if math.isnan(value) else f"{value:.2f}"


def _kind(config):
  """Equal for runs whose training costs the same an image."""
  kind = attacks_kind(config.attack)
  return (
    *(config.dataset, config.model_name, config.batch_size, config.optimizer),
    *(config.augment, config.drop_remainder, _is_personal(config)),
    config.attack if kind == "training" else kind,
    config.measure,
  )


def _is_finished(config, adopts) -> bool:
  if progress.status(config) == progress.DONE:
    return True
  return adopts and shared_runs.is_finished_elsewhere(config)


def _makes_start(config, starts: set) -> bool:
  """Whether a run has to make its warm start; adds that to `starts`, made before."""
  if not config.warmup_rounds:
    return False
  folder = str(federation.cache_folder(config))
  start = folder, config.data_dir, warm_start.clean_config(config).hash()
  if start in starts:
    return False
  starts.add(start)
  return not _is_start_kept(config)


def _is_start_kept(config) -> bool:
  """Whether the cache holds the warm start."""
  folder = federation.cache_folder(config) / "warm_starts"
  if not any(folder.glob("*.npz")):  # most often; spares reading the data
    return False
  dataset = datasets.load(config.dataset, config.data_dir)
  held = federation.hold_out(config, dataset)
  return warm_start.file_of(config, held).exists()


def _is_personal(config):
  return "client_state" in aggregators.AGGREGATORS[config.defense].needs


def _size(dataset, data_dir) -> tuple[int, int]:
  """Training and test images; zeros where the data are missing, with a warning."""
  try:
    found = datasets.load(dataset, data_dir)
  except ValueError as error:
    _logger.warning("%s", error)  # whole: its end says how to get them
    return 0, 0
  return len(found.train_labels), len(found.test_labels)


def _images(config, size) -> tuple[int, int]:
  """Training images that a client has on average, and test images."""
  train = min(size[0], config.max_train_images or size[0])
  return train // config.num_clients, min(size[1], config.max_test_images or size[1])


def _images_in_round(config, each) -> int:
  """Images that the clients of a round hold; attackers may have a set of their own."""
  malicious = config.num_malicious_drawn
  attack = data_attacks.make(config, datasets.DATASETS[config.dataset])
  theirs = each if attack is None else attack.num_images(each)
  return (config.num_drawn - malicious) * each + malicious * theirs


def _calibrate(config, runtime, size) -> _Cost | None:
  """Short runs with more and more images, until training takes a while."""
  most = _images(config, size)[0]
  each, cost = min(config.batch_size, most), None
  try:
    while size[0]:
      try:
        cost = _measure(config, runtime, size, each)
      except DataError:  # an attack may mix its own images with more than so few
        if each >= most:
          raise
      if each >= most or (cost and cost.training >= _ENOUGH_SECONDS):
        return cost
      each = min(_MORE * each, most)
  except Exception as error:
    _logger.warning("no estimate for %s: %s", _kind(config), claims.sentence(error))
  return cost


def _measure(config, runtime, size, each) -> _Cost:
  """Three rounds with `each` images a client.

  The first one builds the graphs, the last one may also score the malicious models.
  """
  tested = min(_TEST_IMAGES, _images(config, size)[1])
  cache = federation.cache_folder(config)  # workers elsewhere see no other folder
  cache.mkdir(parents=True, exist_ok=True)
  whole_files.remove_litter(cache, "calibration_*")  # of a dry run that was killed
  with tempfile.TemporaryDirectory(prefix="calibration_", dir=cache) as folder:
    short = dataclasses.replace(
      config,
      **{"rounds": 3, "local_epochs": 1, "eval_every": 1, "partition": "iid"},
      **{"attack_start": 1, "attack_stop": None, "warmup_rounds": 0},
      pretrained_file=None,
      max_train_images=each * config.num_clients,
      max_test_images=tested,
      output_dir=str(pathlib.Path(folder, "run")),
      cache_dir=str(pathlib.Path(folder, "shards")),
    )
    begun = time.monotonic()
    timing = loop.run(short, runtime, progress=False).folder.read("timing.csv")
    seconds = time.monotonic() - begun
  _, second, third = timing.to_dict("records")
  trained = _trained_models(config)  # the times are those of one of them
  parts = {n: trained * second[f"seconds_{n}"] for n in ("training", "aggregation")}
  parts["scoring"] = second["seconds_scoring"]
  return _Cost(
    **parts,
    # What the first round took more than another is part of it.
    start=seconds - 2 * second["seconds_round"] - third["seconds_round"],
    other=max(0.0, second["seconds_round"] - sum(parts.values())),
    images=_images_in_round(config, each),
    clients=config.num_drawn,
    tested=tested * _models(config),
  )


def _trained_models(config):
  """Models that a round trains: one, or a clean one beside it."""
  return 2 if config.measure == "extractor_swap" else 1


def _models(config):
  """Models that are scored: one, or that of each benign client."""
  return config.num_clients - config.num_malicious if _is_personal(config) else 1


def _row(config, cost, size, rounds, makes_start):
  each, tested = _images(config, size)
  in_round = _images_in_round(config, each) * config.local_epochs
  seconds = 0.0
  if rounds is not None:
    seconds = math.nan
    if cost is not None:
      seconds = _seconds(config, cost, in_round, tested, rounds)
      seconds += makes_start * _start_seconds(config, cost, size)
  return (
    *(config.dataset, config.defense, config.attack, config.seed, config.rounds),
    *(in_round * config.rounds, seconds / 3600),
  )


def _start_seconds(config, cost, size):
  """The warm start: rounds that train one model, perhaps on more images."""
  clean = warm_start.clean_config(config)
  images = _images(clean, size)[0] * clean.num_drawn * clean.local_epochs
  training = cost.training * images / cost.images / _trained_models(config)
  other = cost.other * clean.num_drawn / cost.clients
  return config.warmup_rounds * (training + other)


def _seconds(config, cost, in_round, tested, rounds):
  clients = config.num_drawn / cost.clients
  scorings = math.ceil(rounds / config.eval_every) * _models(config)
  scorings += config.num_malicious * _is_personal(config)  # once, after the last round
  training, other = cost.training * in_round / cost.images, cost.other * clients
  return (
    cost.start
    + rounds * (training + other)
    + rounds * cost.aggregation * clients
    + cost.scoring * scorings * tested / cost.tested
  )
