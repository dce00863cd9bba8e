"""Finished runs of neighbouring output folders, taken over instead of run again.

Tables and figures of a paper often read the same runs (FL-PLAS Tables 4 and 5 are the
BA and the MA of one federation). A run's folder is named by the hash of its config, and
the same config gives the same files, so a copy is as good as a repetition; timing.csv
alone tells of another time, and perhaps of another machine.
"""

import json
import logging
import pathlib
import shutil
from collections.abc import Sequence

import tff_defenses
from tff_defenses.experiments import claims, whole_files
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import writing

_NOT_COPIED = shutil.ignore_patterns(
  *("checkpoint", "tensorboard", "figures"), ".*", "*.partial", "summary.json"
)

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
  source = _finished_neighbour(config)
  if source is None:
    return False
  return _copy(source, pathlib.Path(config.output_dir).expanduser())


def _finished_neighbour(config) -> pathlib.Path | None:
  """A neighbour's folder with this run; None: there is none, or it has begun here."""
  target = pathlib.Path(config.output_dir).expanduser()
  if _has_begun(target, config):
    return None
  neighbours = target.parent.parent.glob(f"*/{target.name}")
  return next((source for source in neighbours if _is_same(source, config)), None)


def _has_begun(target, config) -> bool:
  """Whether a folder holds what must not be overwritten.

  A copy that was stopped half-way has neither mark nor states: it is made again.
  """
  if any((target / name).exists() for name in ("summary.json", "checkpoint")):
    return True
  return _identity(target) not in (None, _wanted(config))  # another's: told later


def _is_same(folder, config) -> bool:
  """Whether a folder holds this very run, finished, by this version."""
  return (folder / "summary.json").exists() and _identity(folder) == _wanted(config)


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
