"""What the command line does; TensorFlow is loaded only where something is run.

Nothing is printed here: each function returns the text that the user is to see.
"""

import logging
import os
from collections.abc import Callable, Sequence

from tff_defenses import aggregators
from tff_defenses.experiments import threat_model
from tff_defenses.experiments.config import ConfigError, ExperimentConfig
from tff_defenses.experiments.errors import OutputError

_logger = logging.getLogger(__name__)


def check_workers(configs: Sequence[ExperimentConfig], workers: Sequence[str]) -> None:
  """Refuses to split over several workers what TFF cannot split.

  That is rounds with two aggregations, and clients that keep a state: TFF 0.87 returns
  their states in another order (`runtime.execution`).

  Args:
    configs: Of the runs.
    workers: Addresses; none: a worker of this machine.

  Raises:
    ConfigError: names the attacks and defenses of such runs.
  """
  if len(workers) <= 1:
    return
  known, faults = aggregators.AGGREGATORS, []
  defenses = dict.fromkeys(config.defense for config in configs)
  states = [name for name in defenses if "client_state" in known[name].needs]
  if states:
    faults.append(
      "--workers must name a single worker for defenses whose clients keep a state "
      f"({', '.join(states)}), got {len(workers)}. Name one worker, or leave out these "
      "defenses."
    )
  twice = dict.fromkeys(c.attack for c in configs if threat_model.aggregates_twice(c))
  if twice:
    faults.append(
      "--workers must name a single worker for attacks that gather the updates before "
      f"the rule does ({', '.join(twice)}), got {len(workers)}. Name one worker, or "
      "leave out these attacks."
    )
  if faults:
    raise ConfigError("\n".join(faults))


def run(
  configs: Sequence[ExperimentConfig],
  make_runtime: Callable,
  *,
  plan=None,
  jobs: int = 1,
  argv: Sequence[str] = (),
  resume: bool = True,
  round_seconds: float | None = None,
  tensorboard: bool = False,
) -> tuple[str, bool]:
  """Runs the configs: one table of them, or the scorecard of a plan.

  Args:
    configs: Checked, of distinct folders.
    make_runtime: Makes the `Runtime`; not called if other processes do the work.
    plan: Of `--reproduce`; None: a grid.
    jobs: Processes that share the runs.
    argv: The command line, for these processes.
    resume: False: complete runs are repeated.
    round_seconds, tensorboard: See `loop.run`.

  Returns:
    The text, and whether all runs are done.
  """
  from tff_defenses.experiments import jobs as jobs_lib

  is_child = jobs_lib.CHILD_VARIABLE in os.environ
  if plan is not None and not is_child:
    from tff_defenses.experiments import shared_runs

    plan.save()
    if resume:
      shared_runs.adopt(configs)
  if jobs > 1:
    result = jobs_lib.run(configs, jobs, argv, reuse=resume)
  else:
    with make_runtime() as running:  # first: a wrong address is told at once
      from tff_defenses.experiments import grid

      result = grid.run(
        configs,
        running,
        reuse=resume,
        round_seconds=round_seconds,
        tensorboard=tensorboard,
      )
  if plan is None or is_child:
    return str(result), result.ok
  return report(plan.output_dir, plan), result.ok


def hours(
  configs: Sequence[ExperimentConfig],
  make_runtime: Callable,
  *,
  adopts: bool = False,
  resume: bool = True,
  jobs: int = 1,
) -> tuple[str, bool]:
  """The hours that the runs would take, after a short calibration.

  Args:
    configs, make_runtime, resume, jobs: See `run`.
    adopts: Whether runs that neighbouring folders have finished would be taken over.

  Returns:
    The text, and whether the runs would be begun: what refuses them is in the text.

  Raises:
    OutputError: a folder holds another run, which the runs themselves would refuse.
  """
  from tff_defenses.experiments import owners, run_record

  for config in configs:
    owners.check(config.output_dir, run_record.describe(config))
  with make_runtime() as running:
    from tff_defenses.experiments import calibration, progress, trial_builds

    frame = calibration.estimate(configs, running, adopts=adopts, resume=resume)
    text = calibration.text(frame, jobs)
    left = [c for c in configs if not resume or progress.status(c) != progress.DONE]
    try:
      trial_builds.check(left)
    except ConfigError as error:
      return f"{text}\n\nThese runs would be refused: {error}", False
  return text, True


def report(folder: str, plan=None) -> str:
  """Draws a plan's figures, writes the report's files and returns its text.

  Args:
    folder: Of earlier runs.
    plan: Whose cells the text shows; None: all. The files always hold all.

  Raises:
    OutputError: there is no such folder, no run in it, or it cannot be written.
  """
  from tff_defenses.experiments import report as report_lib

  content = report_lib.read(folder)
  if content.plan is not None:
    _draw(content)
    content = report_lib.read(folder)  # the page shows the figures
  from tff_defenses.experiments import report_files

  written = ", ".join(map(str, report_files.write_content(content)))
  shown = content if plan is None else report_lib.read(folder, plan)
  return f"{report_lib.render(shown)}\n\nwritten: {written}"


def _draw(content) -> None:
  """Draws a table's figures; one that fails is told, and the scorecard comes."""
  from tff_defenses.experiments import claims, paper_figures

  try:
    paper_figures.draw(content.plan, content.folder)
  except OutputError:
    raise  # the report could not be written either
  except Exception as error:
    _logger.warning("figures of %s: %s", content.folder, claims.sentence(error))
    paper_figures.file_of(content.plan, content.folder).unlink(missing_ok=True)


def quick_start(runtime, output_dir: str | None, cache_dir: str | None) -> str:
  """Runs the quick start and returns its table."""
  from tff_defenses.experiments import quickstart

  output = _quick_start_folder(output_dir)
  with runtime:
    table = quickstart.run(runtime, output, cache_dir=cache_dir)
  return f"\n{table}\n\nsummary and figures: {output}"


def quick_start_configs(
  output_dir: str | None, cache_dir: str | None
) -> list[ExperimentConfig]:
  """The runs of `quick_start`, in order."""
  from tff_defenses.experiments import quickstart

  output = _quick_start_folder(output_dir)
  parts = quickstart.configs(output, cache_dir=cache_dir)
  return [config for runs in parts.values() for config in runs]


def _quick_start_folder(output_dir):
  return os.path.join(output_dir or "results", "quickstart")
