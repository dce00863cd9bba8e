"""Connections to workers that run on other machines."""

import concurrent.futures
import time
from collections.abc import Sequence

from tff_defenses.runtime import channel
from tff_defenses.runtime.errors import WorkerError


class RemoteWorkers:
  """Connections to running workers; offers what `Runtime` needs of a `LocalWorker`.

  Losing one worker loses them all: a round needs every partial aggregate. A worker goes
  on with a call that the driver gave up, and later calls may have to wait for it.

  Args:
    addresses: `host:port` of each worker, at least one, all different.
    connect_seconds: limit of connecting to all of them, > 0.

  Raises:
    ValueError: an argument is outside its range.
  """

  def __init__(self, addresses: Sequence[str], *, connect_seconds: float = 10):
    self.addresses = tuple(addresses)
    self.connect_seconds = connect_seconds
    self.channels: list = []
    self._failure = "not connected"
    self._check_settings()

  def __repr__(self) -> str:
    return f"RemoteWorkers(addresses={self.addresses})"

  def start(self) -> None:
    """Connects to all workers; does nothing if connected.

    Raises:
      WorkerError: a worker does not answer; the message names each that does not.
    """
    if self.is_alive:
      return
    deadline = time.monotonic() + self.connect_seconds
    channels = [channel.open_channel(address) for address in self.addresses]
    with concurrent.futures.ThreadPoolExecutor(len(channels)) as pool:
      answers = pool.map(
        lambda opened: channel.wait_until_ready(opened, deadline, lambda: True),
        channels,  # all at once: a dead one must not use up the others' time
      )
      found = zip(self.addresses, answers, strict=True)
      missing = [address for address, is_ready in found if not is_ready]
    if missing:
      for opened in channels:
        opened.close()
      raise WorkerError(
        f"use_remote_workers: each worker must answer within {self.connect_seconds} s, "
        f"got no answer from {', '.join(missing)}. On that machine run `worker_binary "
        "--port=...` (in the `data` folder of tensorflow_federated) and open the port."
      )
    self.channels = channels

  def stop(self) -> None:
    """Closes the connections; the workers go on running."""
    channels, self.channels = self.channels, []
    for opened in channels:
      opened.close()

  def kill(self) -> None:
    """Closes the connections from any thread; a call that waits returns."""
    self._failure = "given up by the driver"
    self.stop()

  @property
  def is_alive(self) -> bool:
    """Whether all workers are connected."""
    return bool(self.channels)

  @property
  def peak_bytes(self) -> int:
    """0: memory of other machines is not seen from here."""
    return 0

  @property
  def resident_bytes(self) -> int:
    """0, as `peak_bytes`."""
    return 0

  def describe_end(self) -> str:
    """Returns in words why there is no connection."""
    return f"The workers {', '.join(self.addresses)} are lost: {self._failure}."

  def has_failed(self, error) -> bool:
    """Returns whether a gRPC error means a lost worker, and then drops them all.

    UNAVAILABLE is a lost connection; FAILED_PRECONDITION comes from a worker that was
    started anew and does not know what it was told before. A computation's own error of
    that code cannot be told from it: it is reported as a lost worker, after a second
    try.
    """
    import grpc

    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION)
    if self.is_alive and error.code() in codes:
      self._failure = f"{error.code().name}, {error.details()}"
      self.stop()
    return not self.is_alive

  def _check_settings(self) -> None:
    hosts_and_ports = [str(address).rpartition(":") for address in self.addresses]
    if (
      not self.addresses
      or len(set(self.addresses)) < len(self.addresses)
      or not all(host and port.isdigit() for host, _, port in hosts_and_ports)
    ):
      raise ValueError(
        "use_remote_workers: `addresses` must be different `host:port`, at least one, "
        f"got {self.addresses!r}. Example: ['10.0.0.2:8000', '10.0.0.3:8000']."
      )
    if not self.connect_seconds > 0:
      raise ValueError(
        "use_remote_workers: `connect_seconds` must be > 0, got "
        f"{self.connect_seconds!r}. Leave it out to take the default of 10."
      )
