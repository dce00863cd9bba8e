"""Collusion by hand."""

import numpy as np

from attacks.updates import copy_first
from tests.attacks import rounds


def test_all_send_the_first_malicious_row_bit_for_bit():
  deltas = np.float32([[1, 1], [np.nan, -0.0], [3, 3], [4, 4]])
  changed, measured = rounds.craft(
    copy_first.CopyFirst(), deltas, [False, True, False, True]
  )
  assert rounds.same_bits(changed, deltas[[0, 1, 2, 1]])
  assert measured == {"no_attack": 0.0}
