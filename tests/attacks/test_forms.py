"""Forms of the alternating attacks: the list knows what each of them is shown."""

import numpy as np
import pytest

from attacks import ATTACKS
from attacks.training import alternating, forms

TARGET = np.zeros([1, 2, 2, 1], np.float32), np.int32([0])


@pytest.mark.parametrize(
  ("name", "settings"),
  [
    *[("krum_backdoor", {"form": form}) for form in forms.KRUM],
    *[("coomed_backdoor", {"form": form}) for form in forms.COOMED],
    ("coomed_backdoor", {"form": "paper", "anchor": "benign_mean"}),
    ("krum_backdoor", {"strategy": "converge"}),
  ],
)
def test_entry_knows_what_each_form_sees(name, settings):
  built = getattr(alternating, name)(*TARGET, **settings)
  assert ATTACKS[name].seen_with(settings) == built.sees
