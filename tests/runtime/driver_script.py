"""A driver for test_worker.py: starts a worker, prints its pid, ends as it is told.

Ways to end: `return`, `raise`, `wait` (for a signal), `thread` (starts the worker in a
thread that ends, then waits). It imports gRPC, but not TFF.
"""

import sys
import threading
import time

from tff_defenses.runtime.worker import LocalWorker


def main(ending):
  worker = LocalWorker(concurrency=2)
  if ending == "thread":
    thread = threading.Thread(target=worker.start)
    thread.start()
    thread.join()
    time.sleep(0.3)  # the kernel would end the worker here, with the thread
  else:
    worker.start()
  sys.stdout.write(f"{worker.pid if worker.is_alive else 'dead'}\n")
  sys.stdout.flush()
  if ending == "raise":
    raise ValueError("the driver fails")
  if ending in ("wait", "thread"):
    for _ in range(600):  # a signal that another thread took wakes no long sleep
      time.sleep(0.1)


if __name__ == "__main__":
  main(sys.argv[1])
