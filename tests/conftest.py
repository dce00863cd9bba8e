"""Fixtures of all tests. No test imports TFF before this file has set its logging."""

import os
import signal

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # before TensorFlow is imported anywhere

import numpy as np
import pytest

# A background job ignores Ctrl-C, and so would all processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def runtime():
  """TFF's default context for the whole test run, on a worker of its own."""
  from tff_defenses.runtime import use_local_worker

  with use_local_worker() as running:
    yield running


@pytest.fixture(autouse=True)
def _its_runtime_is_default(request):
  """A test runs on the runtime it asked for, whatever ran before it."""
  for name in ("own_runtime", "runtime"):
    if name in request.fixturenames:
      request.getfixturevalue(name).make_default()
      return


@pytest.fixture
def rng():
  """NumPy generator with a fixed seed."""
  return np.random.default_rng(0)
