"""What rules ask of a round: just met, and just not."""

import pytest

from tff_defenses.aggregators import spec


@pytest.mark.parametrize(
  ("assumption", "met", "unmet"),
  [
    (spec.ALL_HONEST, [(3, 0)], [(3, 1)]),
    (spec.MAJORITY, [(3, 1), (5, 2)], [(2, 1), (4, 2)]),
    (spec.KRUM, [(5, 1), (7, 2)], [(4, 1), (6, 2)]),
    (spec.BULYAN, [(7, 1), (11, 2)], [(6, 1), (10, 2)]),
    (spec.BUCKETS, [(10, 1), (9, 1), (14, 2)], [(8, 1), (12, 2)]),
    (spec.ONE_HONEST, [(3, 2)], [(3, 3)]),
    (spec.NONE, [(3, 3)], []),
  ],
)
def test_assumption(assumption, met, unmet):
  assert all(assumption.holds(n, f) for n, f in met)
  assert not any(assumption.holds(n, f) for n, f in unmet)
