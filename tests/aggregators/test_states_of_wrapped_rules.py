"""A wrapper that changes nothing gives what its rule gives in later rounds, too.

The rules remember: clipping its last result, FLAME the round that its noise hangs on.
"""

import collections

import numpy as np
import pytest

from tests import doubles
from tff_defenses.aggregators import (
  base,
  bucketing,
  centered_clipping,
  flame,
  nearest_neighbour_mixing,
  partial,
  tracking,
)

NUM_CLIENTS = 6
THETA = doubles.update(2.0)
RULES = {
  "centered_clipping": centered_clipping.CenteredClippingFactory(0.5),
  "flame": flame.FlameFactory(),
}
WRAPPERS = {
  "partial": lambda rule: partial.PartialAggregationFactory(rule, [True, True]),
  "bucketing": lambda rule: bucketing.BucketingFactory(rule, 1),
  "mixing": lambda rule: nearest_neighbour_mixing.NearestNeighbourMixingFactory(
    rule, NUM_CLIENTS - 1
  ),
  "two wrappers": lambda rule: partial.PartialAggregationFactory(
    bucketing.BucketingFactory(rule, 1), [True, True]
  ),
}


def three_rounds(factory, rows):
  """The results of three rounds on the same updates, theta going along."""
  process = base.unify(factory, doubles.UPDATE_TYPE)
  state, theta, results = process.initialize(), THETA, []
  info = [
    collections.OrderedDict(client_index=i, num_examples=1.0) for i in range(len(rows))
  ]
  for _ in range(3):
    output = process.next(state, theta, [doubles.update(*row) for row in rows], info)
    state = output.state
    results.append(doubles.flat(output.result))
    theta = doubles.update(*(doubles.flat(theta) - results[-1]))
  return np.array(results)


@pytest.fixture
def rows(rng):
  return (1 + 0.3 * rng.normal(size=(NUM_CLIENTS, 7))).astype(np.float32)


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("rule", RULES)
def test_state_goes_along(rule, wrapper, rows):
  expected = three_rounds(RULES[rule], rows)
  assert not np.isclose(expected[0], expected[1]).all()  # it does remember
  assert not np.isclose(expected[1], expected[2]).all()
  found = three_rounds(WRAPPERS[wrapper](RULES[rule]), rows)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("runtime")
def test_state_goes_along_where_the_weights_are_tracked(rows):
  process = tracking.track_global_weights(RULES["flame"], THETA).create(
    doubles.UPDATE_TYPE
  )
  state, found = process.initialize(), []
  for _ in range(3):
    output = process.next(state, [doubles.update(*row) for row in rows])
    state = output.state
    found.append(doubles.flat(output.result))
  expected = three_rounds(RULES["flame"], rows)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
