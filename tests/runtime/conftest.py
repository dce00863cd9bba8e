"""A runtime of a module's own, and a computation for it."""

import numpy as np
import pytest

from tff_defenses.runtime import use_local_worker


@pytest.fixture(scope="module")
def own_runtime(runtime):
  """A runtime whose worker the tests may kill; puts the shared one back at the end."""
  del runtime  # it must be the default context before
  import tensorflow_federated as tff

  before = tff.framework.get_context_stack().current
  with use_local_worker() as running:
    yield running
  tff.framework.set_default_context(before)


@pytest.fixture(scope="module")
def total():
  """Adds the clients' numbers."""
  import tensorflow_federated as tff

  @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
  def total(values):
    return tff.federated_sum(values)

  return total
