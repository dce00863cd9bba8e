"""The errors of the runtime."""


class WorkerError(RuntimeError):
  """A worker cannot be started or reached, or was lost during a call."""


class WorkerTimeoutError(WorkerError):
  """A call did not return within its time limit, and its worker was given up."""
