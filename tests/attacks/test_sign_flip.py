"""Sign flip by hand."""

import numpy as np
import pytest

from attacks.updates import sign_flip
from tests.attacks import rounds


def test_by_hand():
  deltas = np.float32([[1, -2], [3, 4]])
  changed, measured = rounds.craft(
    sign_flip.SignFlipAttack(scale=1.5), deltas, [True, False]
  )
  assert changed.tolist() == [[-1.5, 3.0], [3.0, 4.0]]
  assert measured == {"no_attack": 0.0}


def test_scale_minus_one_is_the_honest_client():
  deltas, malicious = rounds.drawn(0)
  attack = sign_flip.SignFlipAttack(scale=-1.0)
  assert rounds.same_bits(rounds.craft(attack, deltas, malicious)[0], deltas)


@pytest.mark.parametrize("scale", [np.inf, np.nan, "1", True])
def test_bad_scale_raises_with_its_name(scale):
  with pytest.raises(ValueError, match="SignFlipAttack: `scale` must be a finite"):
    sign_flip.SignFlipAttack(scale=scale)
