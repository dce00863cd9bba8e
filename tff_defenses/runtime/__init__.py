"""Where TFF computations run: an own local worker, or workers on other machines.

Importing this package imports neither TFF nor TensorFlow; making a `Runtime` does.
"""

from tff_defenses.runtime.context import (
  Runtime,
  use_local_worker,
  use_remote_workers,
)
from tff_defenses.runtime.environment import Finding, check, format_findings
from tff_defenses.runtime.errors import WorkerError, WorkerTimeoutError
from tff_defenses.runtime.remote import RemoteWorkers
from tff_defenses.runtime.worker import MAX_ISA, ONEDNN, LocalWorker

__all__ = [
  "MAX_ISA",
  "ONEDNN",
  "Finding",
  "LocalWorker",
  "RemoteWorkers",
  "Runtime",
  "WorkerError",
  "WorkerTimeoutError",
  "check",
  "format_findings",
  "use_local_worker",
  "use_remote_workers",
]
