"""Finished runs of neighbouring output folders, taken over instead of run again.

Tables and figures of a paper often read the same runs (FL-PLAS Tables 4 and 5 are the
BA and the MA of one federation). A run's folder is named by the hash of its config, and
the same config gives the same files from the same images, so a copy is as good as a
repetition; timing.csv alone tells of another time, and perhaps of another machine.
"""

import functools
import json
import logging
import pathlib
import shutil
from collections.abc import Sequence

import tff_defenses
from tff_defenses.experiments import claims, datasets, held_out, whole_files
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import writing

_NOT_COPIED = shutil.ignore_patterns(
  *("checkpoint", "tensorboard", "figures"), ".*", "*.partial", "summary.json"
)

_OF_SERVER = ("aux_class", "aux_size", "aux_source", "root_per_class")

_logger = logging.getLogger(__name__)


def adopt(configs: Sequence[ExperimentConfig]) -> int:
  """Copies what neighbours have finished into the folders of runs not yet begun.

  Args:
    configs: Each with its own folder below an output folder; the neighbours are the
      other folders beside that output folder.

  Returns:
    How many runs were taken over.

  Raises:
    OutputError: the folder cannot be written.
  """
  found = [config for config in configs if _adopt(config)]
  if found:
    _logger.warning(
      "%d of %d runs were found finished in neighbouring folders and are taken over, "
      "with the seconds measured there.",
      len(found),
      len(configs),
    )
  return len(found)


def _adopt(config) -> bool:
  source = _finished_neighbour(config, warns=True)
  if source is None:
    return False
  return _copy(source, pathlib.Path(config.output_dir).expanduser())


def _finished_neighbour(config, *, warns=False) -> pathlib.Path | None:
  """A neighbour's folder with this run; None: there is none, or it has begun here."""
  target = pathlib.Path(config.output_dir).expanduser()
  if _has_begun(target, config):
    return None
  neighbours = target.parent.parent.glob(f"*/{target.name}")
  return next((n for n in neighbours if _is_same(n, config, warns)), None)


def _has_begun(target, config) -> bool:
  """Whether a folder holds what must not be overwritten.

  A copy that was stopped half-way has neither mark nor states: it is made again.
  """
  if any((target / name).exists() for name in ("summary.json", "checkpoint")):
    return True
  return _identity(target) not in (None, _wanted(config))  # another's: told later


def _is_same(folder, config, warns) -> bool:
  """Whether a folder holds this very run, finished, by this version, on these data."""
  if not (folder / "summary.json").exists() or _identity(folder) != _wanted(config):
    return False
  if _read_the_same(folder, config):
    return True
  if warns:
    _logger.warning(
      "%s is finished, but read other images than there are in `data_dir`, so it is "
      "not taken over.",
      folder,
    )
  return False


def _read_the_same(folder, config) -> bool:
  """Whether a run read the server's images of `data_dir`: the first of the data set.

  True where that cannot be told: an early run, or no data here.
  """
  try:
    found = json.loads((folder / "data.json").read_text())["server"]
    settings = {name: getattr(config, name) for name in _OF_SERVER}
    return found == _server_digest(config.dataset, config.data_dir, **settings)
  except (OSError, ValueError, KeyError, TypeError):  # DataError is a ValueError
    return True


@functools.lru_cache(maxsize=16)  # ours: a table has one or two
def _server_digest(dataset, data_dir, **settings):
  from tff_defenses.experiments import federation  # imports TensorFlow

  held = held_out.hold_out(datasets.load(dataset, data_dir), **settings)
  return federation.server_digest(held)


def _identity(folder):
  """Config and version of a folder's run; None where they cannot be read."""
  try:
    found = json.loads((folder / "config.json").read_text())
    return found["config_hash"], found["version"]
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _wanted(config):
  return config.hash(), tff_defenses.__version__


def _copy(source, target) -> bool:
  """Copies the files, the mark of a complete run last; False: somebody works there."""
  try:
    with claims.claim(target), writing(target):
      shutil.copytree(source, target, ignore=_NOT_COPIED, dirs_exist_ok=True)
      claims.forget_failure(target)
      for file in target.glob("*.*"):  # on the disk before the mark says so
        whole_files.sync(file)
      mark = (source / "summary.json").read_bytes()
      whole_files.write_bytes(target / "summary.json", mark)
  except claims.ClaimedError:
    return False
  return True


def is_finished_elsewhere(config: ExperimentConfig) -> bool:
  """Whether `adopt` would take a run over."""
  return _finished_neighbour(config) is not None
