"""How long runs will take, from short real runs on this machine.

One short run stands for all that train alike: the same data set, model, batch, kind of
attack and kind of defense (a global model, or personal ones). What it measures in its
second round is extrapolated: training with the images that all clients of a round go
through, aggregation and what a round costs beside it with the number of clients,
scoring with the test images. Left out: differences between the defenses' own
aggregation, saving states, figures, and that processes slow each other down.
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
from tff_defenses.experiments import claims, datasets, loop, progress
from tff_defenses.experiments.config import ExperimentConfig, attacks_kind

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


def estimate(configs: Sequence[ExperimentConfig], runtime) -> pd.DataFrame:
  """Hours of each run from a short calibration, about 10 s for each kind of run.

  Args:
    configs: Checked.
    runtime: Runs the federated computations.

  Returns:
    A row a run with `COLUMNS`; images: all that its clients train on. Finished runs
    take no hours, broken-off ones what is left; NaN: no estimate, with a warning.
  """
  sizes = {c.dataset: c.data_dir for c in configs}
  sizes = {name: _size(name, data_dir) for name, data_dir in sizes.items()}
  costs: dict[tuple, _Cost | None] = {}
  left = [c for c in configs if progress.status(c) != progress.DONE]
  kinds = {_kind(config): config for config in reversed(left)}
  for kind, config in tqdm.tqdm(kinds.items(), desc="calibration", unit="kind"):
    costs[kind] = _calibrate(config, runtime, sizes[config.dataset])
  rows = [_row(c, costs.get(_kind(c)), sizes[c.dataset], c in left) for c in configs]
  return pd.DataFrame(rows, columns=COLUMNS)


def text(frame: pd.DataFrame, jobs: int = 1) -> str:
  """The estimate as a table for the terminal, with the total.

  >>> row = ("mnist5k", "krum", "none", 0, 20, 4900, 1.5)
  >>> print(text(pd.DataFrame([row], columns=COLUMNS), 3).splitlines()[-1])
  1 run: 1.50 hours, 0.50 in 3 processes (`--jobs=3`)
  """
  hours, unknown = frame["hours"].sum(), int(frame["hours"].isna().sum())
  shown = frame.assign(hours=[_in_hours(value) for value in frame["hours"]])
  lines = [shown.to_string(index=False)]
  total = f"{len(frame)} run{'s' * (len(frame) != 1)}: {hours:.2f} hours"
  if jobs > 1:
    total += f", {hours / jobs:.2f} in {jobs} processes (`--jobs={jobs}`)"
  if unknown:
    total += f"; {unknown} not estimated"
  return "\n".join([*lines, total])


def _in_hours(value):
  return "-" if math.isnan(value) else f"{value:.2f}"


def _kind(config):
  """Equal for runs whose training costs the same an image."""
  kind = attacks_kind(config.attack)
  return (
    *(config.dataset, config.model_name, config.batch_size, config.optimizer),
    *(config.augment, config.drop_remainder, _is_personal(config)),
    config.attack if kind == "training" else kind,
  )


def _is_personal(config):
  return "client_state" in aggregators.AGGREGATORS[config.defense].needs


def _size(dataset, data_dir) -> tuple[int, int]:
  """Training and test images; zeros where the data are missing, with a warning."""
  try:
    found = datasets.load(dataset, data_dir)
  except ValueError as error:
    _logger.warning("%s", claims.sentence(error))
    return 0, 0
  return len(found.train_labels), len(found.test_labels)


def _images(config, size) -> tuple[int, int]:
  """Training images that a client has on average, and test images."""
  train = min(size[0], config.max_train_images or size[0])
  return train // config.num_clients, min(size[1], config.max_test_images or size[1])


def _calibrate(config, runtime, size) -> _Cost | None:
  """Short runs with more and more images, until training takes a while."""
  each, cost = min(config.batch_size, _images(config, size)[0]), None
  try:
    while size[0]:
      cost = _measure(config, runtime, size, each)
      most = _images(config, size)[0]
      if cost.training >= _ENOUGH_SECONDS or each >= most:
        return cost
      each = min(_MORE * each, most)
  except Exception as error:
    _logger.warning("no estimate for %s: %s", _kind(config), claims.sentence(error))
  return cost


def _measure(config, runtime, size, each) -> _Cost:
  """Two rounds with `each` images a client; the first one builds the graphs."""
  tested = min(_TEST_IMAGES, _images(config, size)[1])
  with tempfile.TemporaryDirectory(prefix="tff_defenses_calibration_") as folder:
    short = dataclasses.replace(
      config,
      **{"rounds": 2, "local_epochs": 1, "eval_every": 1, "partition": "iid"},
      **{"attack_start": 1, "attack_stop": None, "warmup_rounds": 0},
      **{"pretrained_file": None, "measure": None},
      max_train_images=each * config.num_clients,
      max_test_images=tested,
      output_dir=str(pathlib.Path(folder, "run")),
      cache_dir=str(pathlib.Path(folder, "shards")),
    )
    begun = time.monotonic()
    timing = loop.run(short, runtime, progress=False).folder.read("timing.csv")
    seconds = time.monotonic() - begun
  first, second = timing.to_dict("records")
  parts = {n: second[f"seconds_{n}"] for n in ("training", "aggregation", "scoring")}
  return _Cost(
    **parts,
    start=seconds - 2 * second["seconds_round"],  # that of the first round included
    other=max(0.0, second["seconds_round"] - sum(parts.values())),
    images=each * config.num_drawn,
    clients=config.num_drawn,
    tested=tested * _models(config),
  )


def _models(config):
  """Models that are scored: one, or that of each benign client."""
  return config.num_clients - config.num_malicious if _is_personal(config) else 1


def _row(config, cost, size, is_left):
  each, tested = _images(config, size)
  in_round = each * config.num_drawn * config.local_epochs
  seconds = 0.0
  if is_left:
    seconds = math.nan if cost is None else _seconds(config, cost, in_round, tested)
  return (
    *(config.dataset, config.defense, config.attack, config.seed, config.rounds),
    *(in_round * config.rounds, seconds / 3600),
  )


def _seconds(config, cost, in_round, tested):
  rounds = config.rounds - progress.rounds_done(config)
  clients = config.num_drawn / cost.clients
  scored = tested * _models(config) / cost.tested
  trained = cost.training * in_round / cost.images + cost.other * clients
  return (
    cost.start
    + (rounds + config.warmup_rounds) * trained
    + rounds * cost.aggregation * clients
    + math.ceil(rounds / config.eval_every) * cost.scoring * scored
  )
