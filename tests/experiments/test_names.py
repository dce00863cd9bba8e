"""Names: proposals and the error for an unknown name."""

import pytest

from tff_defenses.experiments import names

KNOWN = ["krum", "median", "flare"]


def test_nearest_proposes_the_closest_name():
  assert names.nearest("Krumm", KNOWN) == "did you mean `krum`?"


def test_nearest_is_empty_without_a_close_name():
  assert names.nearest("zzz", KNOWN) == ""


def test_known_name_passes():
  names.check_known("load", "name", "krum", KNOWN)


def test_unknown_name_raises_with_hint_and_list():
  with pytest.raises(ValueError, match="Did you mean `flare`") as error:
    names.check_known("run", "defense", "flair", KNOWN)
  text = str(error.value)
  assert text.startswith("run: `defense` must be one of krum, median, flare; got")


def test_value_that_is_no_string_raises_the_same_error():
  with pytest.raises(ValueError, match="got None. Choose a name"):
    names.check_known("run", "defense", None, KNOWN)
