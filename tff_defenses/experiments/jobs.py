"""Several processes that share the runs of a grid.

Each is the same command line once more, with a TensorFlow Federated worker of its own:
count on two to three gigabytes a process with CIFAR-10. This process imports neither;
it looks at the folders, shows how far they are, and ends its children when it ends.
"""

import contextlib
import logging
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent import futures

from tff_defenses.experiments import claims, grid_state, progress
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import OutputError, writing
from tff_defenses.runtime import process
from tff_defenses.runtime.errors import WorkerError

CHILD_VARIABLE = "TFF_DEFENSES_JOB"  # in the environment of the processes
_REPLACEMENTS = 3  # ours: of each process that is killed, as by a lack of memory
_POLL_SECONDS = 0.5
_END_SECONDS = 120  # ours: to draw the last figures
_FULL_BYTES = 2**20
_TAIL_BYTES = 2000
_NAMED = 3  # ours: runs that a message names

_logger = logging.getLogger(__name__)


def run(
  configs: Sequence[ExperimentConfig],
  jobs: int,
  argv: Sequence[str],
  *,
  reuse: bool = True,
) -> grid_state.GridResult:
  """Runs a grid in several processes.

  Args:
    configs: What `argv` stands for.
    jobs: Number of processes.
    argv: Script and flags, as `sys.argv`; each process gets `--jobs=1` after them.
    reuse: False: also repeats what is complete.

  Returns:
    As `grid.run`.

  Raises:
    ConfigError, OutputError: as `grid.run`. WorkerError: all processes have ended and
      runs are left, or are being run by another command.
  """
  grid_state.check(configs)
  if not reuse:  # nothing may be discarded for what would then be refused
    _try_builds(configs)
  grid_state.prepare(configs, reuse=reuse)
  logs = progress.log_folder(configs)
  with writing(logs):
    logs.mkdir(parents=True, exist_ok=True)
  few = max(1, min(jobs, len(configs)))
  with (
    contextlib.ExitStack() as stack,
    progress.Display(configs, jobs=few) as display,
  ):
    children = [_Child(k, argv, logs) for k in range(1, few + 1)]
    for child in children:
      stack.callback(child.end)
    _watch(configs, children, display)
  _check_finished(configs, children, logs)
  return grid_state.read(configs)


def _try_builds(configs):
  """`trial_builds.check` in a process of its own, since it loads TensorFlow."""
  spawn = multiprocessing.get_context("spawn")
  with futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
    pool.submit(_check_builds, list(configs)).result()


def _check_builds(configs):
  from tff_defenses.experiments import trial_builds

  trial_builds.check(configs)


class _Child:
  """One process and its log; started again when it is killed.

  Once it was seen to have ended for good, `code` is its exit code and `ended_at` the
  time.
  """

  def __init__(self, number, argv, logs):
    # Another command may be at work on the same runs, with logs in the same folder.
    self.log = logs / f"{os.getpid()}-{number}.log"
    self.code: int | None = None
    self.ended_at = math.inf
    self._command = [sys.executable, *argv, "--jobs=1"]
    self._environment = {**os.environ, CHILD_VARIABLE: str(number)}
    self._replacements = _REPLACEMENTS
    self._process: subprocess.Popen | None = None
    with writing(logs):
      self.log.write_bytes(b"")
    self._start()

  def is_running(self) -> bool:
    """Whether it runs; one that was killed is replaced some times."""
    code = self._process.poll()
    if code is None:
      return True
    if code >= 0 or not self._replacements:  # it has ended by itself, and said why
      self.code, self.ended_at = code, min(self.ended_at, time.monotonic())
      return False
    self._replacements -= 1
    name = signal.Signals(-code).name
    _logger.warning("a process was ended by %s and is replaced (%s).", name, self.log)
    self._start()
    return True

  def wait(self, deadline):
    with contextlib.suppress(subprocess.TimeoutExpired):
      self._process.wait(max(0.0, deadline - time.monotonic()))

  def end(self):
    process.end(self._process)

  def _start(self):
    with self.log.open("ab") as output:
      self._process = process.spawn(self._command, self._environment, output)


def _watch(configs, children, display):
  """Returns when every run is done or has failed, or no process is left."""
  while grid_state.is_left(configs):
    if not any([child.is_running() for child in children]):
      return
    display.update()
    time.sleep(_POLL_SECONDS)
  deadline = time.monotonic() + _END_SECONDS
  for child in children:
    child.wait(deadline)


def _check_finished(configs, children, logs):
  undone = _undone(configs)
  if not undone:
    return
  if shutil.disk_usage(logs).free < _FULL_BYTES:
    raise OutputError(
      f"`output_dir` {logs.parent} cannot be written: the disk is full. Free some "
      "space or choose another folder; finished rounds are kept."
    )
  raise WorkerError(
    f"all {len(children)} processes (`--jobs`) have ended and not all runs are done: "
    f"{undone}. The same command goes on; {_last_words(children, logs)}"
  )


def _undone(configs) -> str:
  """How many runs are left or running, and some of their names; empty if none is."""
  states = [(progress.status(c), progress.folder(c).name) for c in configs]
  words = {progress.LEFT: "left", progress.RUNNING: "running in another process"}
  parts = []
  for state, word in words.items():
    if names := [name for found, name in states if found == state]:
      more = ", ..." if len(names) > _NAMED else ""
      parts.append(f"{len(names)} {word} ({', '.join(names[:_NAMED])}{more})")
  return ", ".join(parts)


def _last_words(children, logs) -> str:
  """The end of the log of the last process that failed."""
  failed = [child for child in children if child.code]
  if not failed:
    return f"none of the processes failed; their logs are in {logs}."
  last = max(failed, key=lambda child: child.ended_at)
  tail = claims.sentence(Exception(_tail(last.log)))
  return f"the end of {last.log} (exit code {last.code}): {tail}"


def _tail(log):
  text = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
  return text.replace("\r", "\n")[-500:] or "(empty)"
