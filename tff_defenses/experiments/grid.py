"""Runs several experiments in this process and shares them with other processes."""

import logging
import os
import shutil
import time
from collections.abc import Sequence

from tff_defenses.experiments import (
  claims,
  figures,
  grid_state,
  loop,
  progress,
  trial_builds,
)
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import OutputError, writing
from tff_defenses.experiments.jobs import CHILD_VARIABLE

_POLL_SECONDS = 1.0  # ours: between two looks at the runs of other processes

_logger = logging.getLogger(__name__)


def run(
  configs: Sequence[ExperimentConfig],
  runtime,
  *,
  reuse: bool = True,
  round_seconds: float | None = None,
  tensorboard: bool = False,
) -> grid_state.GridResult:
  """Runs what is left of the configs, draws the figures and tables the results.

  Several processes may be given the same configs: each run is claimed by one of them.
  This one takes what is free, then waits for the others, and takes over what they drop.
  A run that fails is marked and the next one is begun; a later call tries it again.

  Args:
    configs: Of distinct folders.
    runtime: Runs the federated computations.
    reuse: False: also repeats what is complete, once for all processes of `jobs.run`.
    round_seconds, tensorboard: See `loop.run`.

  Raises:
    ConfigError: a config has faults; nothing is run. OutputError: a folder holds
      another run, or cannot be written, as on a full disk; finished rounds are kept.
  """
  if CHILD_VARIABLE not in os.environ:  # else the parent has done it for all
    grid_state.check(configs)
    trial_builds.check(configs if not reuse else _undone(configs))
    grid_state.prepare(configs, reuse=reuse)
  else:
    trial_builds.check(_undone(configs))
  errors: dict[str, str] = {}
  settings = {"round_seconds": round_seconds, "tensorboard": tensorboard}
  with progress.Display(configs) as display:
    while waiting := [c for c in configs if not _is_settled(c, errors)]:
      held = [c for c in waiting if not _attempt(c, runtime, errors, display, settings)]
      if len(held) == len(waiting):
        time.sleep(_POLL_SECONDS)
      display.update()
  for config in configs:
    _draw(config)
  return grid_state.read(configs, errors)


def _undone(configs):
  return [c for c in configs if progress.status(c) != progress.DONE]


def _is_settled(config, errors) -> bool:
  """Whether a run is done or has failed, here or elsewhere."""
  ended = (progress.DONE, progress.FAILED)
  return config.output_dir in errors or progress.status(config) in ended


def _attempt(config, runtime, errors, display, settings) -> bool:
  """Runs a config, or finds it run; False: another process holds it."""
  if _is_settled(config, errors):
    return True
  try:
    loop.run(config, runtime, **settings)
  except claims.ClaimedError:
    return False
  except OutputError:
    raise  # nothing else could be written either
  except Exception as error:
    errors[config.output_dir] = f"{type(error).__name__}: {claims.sentence(error)}"
    _logger.error("%s failed: %s", config.output_dir, errors[config.output_dir])
    return True
  display.update()
  _draw(config)
  return True


def _draw(config) -> None:
  """Draws the figures of a finished run once; one that fails is told, no more."""
  path = progress.folder(config)
  if (path / "figures").exists() or progress.status(config) != progress.DONE:
    return
  try:
    with claims.claim(path), writing(path):
      if not (path / "figures").exists():  # another process may have been faster
        aside = path / ".figures"  # all of them or none, should we be stopped
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        figures.draw_folder(path, into=aside)
        aside.replace(path / "figures")
  except claims.ClaimedError:
    return  # it draws them now
  except OutputError:
    raise
  except Exception as error:
    _logger.warning("the figures of %s: %s", path, claims.sentence(error))
