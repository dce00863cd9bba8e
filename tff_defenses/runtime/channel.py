"""gRPC channels to workers."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import grpc

_OPTIONS = (
  ("grpc.max_message_length", -1),  # no limit; gRPC's 4 MiB is less than a LeNet
  ("grpc.max_receive_message_length", -1),
  ("grpc.max_send_message_length", -1),
  ("grpc.initial_reconnect_backoff_ms", 100),  # ours: else a start takes 1 s
  ("grpc.min_reconnect_backoff_ms", 100),
)


def open_channel(address: str, *, use_proxy: bool = True) -> "grpc.Channel":
  """Opens a gRPC channel without a limit on the size of messages.

  Args:
    address: `host:port` of a worker.
    use_proxy: False ignores `http_proxy`, which gRPC else takes even for 127.0.0.1.

  Returns:
    The channel; it connects when it is first used or waited for.
  """
  import grpc

  proxy = ("grpc.enable_http_proxy", int(use_proxy))
  return grpc.insecure_channel(address, (*_OPTIONS, proxy))


def wait_until_ready(
  channel: "grpc.Channel", deadline: float, is_worth_waiting: Callable[[], bool]
) -> bool:
  """Waits until a worker answers.

  Args:
    channel: its channel.
    deadline: `time.monotonic()` at which to give up.
    is_worth_waiting: asked ten times a second; False gives up at once.

  Returns:
    Whether it answered.
  """
  import grpc

  ready = grpc.channel_ready_future(channel)
  while True:
    try:
      ready.result(timeout=0.1)
      return True
    except grpc.FutureTimeoutError:
      if time.monotonic() > deadline or not is_worth_waiting():
        ready.cancel()
        return False
