"""TFF execution contexts over workers. The only file here that imports TFF."""

from collections.abc import Callable

import grpc
import tensorflow_federated as tff

from tff_defenses.runtime.errors import WorkerError


class _ConnectedChannel:
  """What TFF's stub needs of a connected channel, without polling its state.

  The stub would subscribe and never unsubscribe, and gRPC's polling thread then fails
  with a traceback when the channel is closed.
  """

  def __init__(self, channel: grpc.Channel):
    self.unary_unary = channel.unary_unary

  def subscribe(self, callback: Callable, try_to_connect: bool = False) -> None:
    del callback, try_to_connect


class GuardedStub(tff.framework.RemoteExecutorStub):
  """Sends TFF's requests to one worker, and notices when that worker is gone.

  TFF repeats a request for ever when a worker cannot be reached. Here a lost worker
  is a `WorkerError`, which TFF passes on, and the same holds for a computation that
  fails by itself with one of the codes TFF would repeat.

  Args:
    channel: gRPC channel to the worker.
    worker: the `LocalWorker` or `RemoteWorkers` that owns the channel.
  """

  def __init__(self, channel: grpc.Channel, worker):
    self._stub = tff.framework.RemoteExecutorGrpcStub(_ConnectedChannel(channel))
    self._channel = channel
    self._worker = worker

  def get_executor(self, request):
    return self._send(self._stub.get_executor, request)

  def create_value(self, request):
    return self._send(self._stub.create_value, request)

  def create_struct(self, request):
    return self._send(self._stub.create_struct, request)

  def create_call(self, request):
    return self._send(self._stub.create_call, request)

  def create_selection(self, request):
    return self._send(self._stub.create_selection, request)

  def compute(self, request):
    return self._send(self._stub.compute, request)

  def dispose(self, request):
    return self._send_if_open(self._stub.dispose, request)

  def dispose_executor(self, request):
    return self._send_if_open(self._stub.dispose_executor, request)

  @property
  def _is_open(self) -> bool:
    return self._worker.is_alive and self._channel in self._worker.channels

  def _send_if_open(self, call: Callable, request):
    """Frees memory of the worker: nothing to do, or to report, if it is gone."""
    if not self._is_open:
      return None
    try:
      return self._send(call, request)
    except WorkerError:
      return None

  def _send(self, call: Callable, request):
    if not self._is_open:
      raise WorkerError(f"Runtime: no worker. {self._worker.describe_end()}")
    try:
      return call(request)
    except grpc.RpcError as error:
      if self._worker.has_failed(error):
        raise WorkerError(f"Runtime: {self._worker.describe_end()}") from error
      if isinstance(error, tff.framework.RetryableError):
        raise error.__context__ from None  # gRPC's own error: TFF repeats none of it
      raise
    except ValueError as error:  # gRPC's for a channel closed by another thread
      if self._is_open:
        raise
      raise WorkerError(f"Runtime: {self._worker.describe_end()}") from error


class SeveralWorkersContext(tff.framework.SyncContext):
  """TFF's context for several workers, without the computations it gets wrong.

  Values that stay with the clients come back in another order than the clients went
  out (TFF 0.87): the second worker's first. A client would go on with another's state.

  Args:
    context: TFF's.
    num_workers: For the message.
  """

  def __init__(self, context: tff.framework.SyncContext, num_workers: int):
    self._context = context
    self._num_workers = num_workers

  def invoke(self, comp, arg):
    if tff.types.contains(comp.type_signature.result, _is_at_clients):
      raise ValueError(
        "Runtime: a computation that returns values of the clients (FL-PLAS, `local` "
        f"and RSA keep a state of each) must run on one worker, got {self._num_workers}"
        ": TFF 0.87 returns them in another order. Name a single worker."
      )
    return self._context.invoke(comp, arg)


def _is_at_clients(part: tff.Type) -> bool:
  return isinstance(part, tff.FederatedType) and part.placement is tff.CLIENTS


def build_context(worker) -> tff.framework.SyncContext:
  """Builds the context that runs computations on a worker, or on several.

  Args:
    worker: a started `LocalWorker` or `RemoteWorkers`. With more than one channel,
      clients are split evenly over the workers and partial aggregates are merged.

  Returns:
    The context; it is not yet the default.
  """
  factories = [_executor_factory(GuardedStub(c, worker)) for c in worker.channels]
  settings = {
    "compiler_fn": tff.backends.native.desugar_and_transform_to_native,
    "transform_args": tff.tensorflow.transform_args,
    "transform_result": tff.tensorflow.transform_result,
  }
  if len(factories) == 1:
    return tff.framework.SyncExecutionContext(factories[0], **settings)
  merging = tff.backends.native.create_mergeable_comp_execution_context(
    [tff.framework.AsyncExecutionContext(f, **settings) for f in factories]
  )
  return SeveralWorkersContext(merging, len(factories))


def set_default_context(context: tff.framework.SyncContext) -> None:
  """Makes a context the one that computations of this thread run in."""
  tff.framework.set_default_context(context)


def run(context: tff.framework.SyncContext, computation: Callable, args: tuple):
  """Returns `computation(*args)`, run in a context, from any thread."""
  with tff.framework.get_context_stack().install(context):
    return computation(*args)


def _executor_factory(stub: GuardedStub) -> tff.framework.ExecutorFactory:
  def build_stack(cardinalities):
    executor = tff.framework.RemoteExecutor(stub)
    executor.set_cardinalities({tff.CLIENTS: 0, **cardinalities})
    return executor

  return tff.framework.ResourceManagingExecutorFactory(build_stack)
