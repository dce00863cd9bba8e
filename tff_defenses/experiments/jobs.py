"""Several processes that share the runs of a grid.

Each is the same command line once more, with a TensorFlow Federated worker of its own:
count on two to three gigabytes a process with CIFAR-10. This process imports neither;
it looks at the folders, shows how far they are, and ends its children when it ends.
"""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

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
      runs are left.
  """
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


class _Child:
  """One process and its log; started again when it is killed."""

  def __init__(self, number, argv, logs):
    self.log = logs / f"{number}.log"
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
  left: Mapping[str, int] = progress.count(configs)
  if not left[progress.LEFT]:
    return
  if shutil.disk_usage(logs).free < _FULL_BYTES:
    raise OutputError(
      f"`output_dir` {logs.parent} cannot be written: the disk is full. Free some "
      "space or choose another folder; finished rounds are kept."
    )
  tail = claims.sentence(Exception(_tail(children[0].log)))
  raise WorkerError(
    f"all {len(children)} processes (`--jobs`) have ended and {left[progress.LEFT]} "
    f"runs are left. The same command goes on; the end of {children[0].log}: {tail}"
  )


def _tail(log):
  text = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
  return text.replace("\r", "\n")[-500:] or "(empty)"
