"""Label flipping: labels by hand, what stays, what is scored, each error."""

import numpy as np
import pytest

from attacks.data import label_flip
from attacks.data.label_flip import LabelFlipAttack

DIGITS, CLOTHES = tuple("0123456789"), tuple("abcdefghij")


@pytest.fixture
def data(rng):
  """40 images of the classes 0..9 in turn, write-protected."""
  images = rng.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
  labels = np.arange(40) % 10
  for array in (images, labels):
    array.setflags(write=False)
  return images, labels


def test_pair_relabels_the_source_class_only(data):
  images, labels = LabelFlipAttack().poison(*data, seed=0)
  assert labels.tolist() == [0, 1, 2, 3, 4, 3, 6, 7, 8, 9] * 4
  np.testing.assert_array_equal(images, data[0])


def test_complement_relabels_all_classes(data):
  _, labels = LabelFlipAttack("complement").poison(*data, seed=0)
  assert labels.tolist() == list(range(9, -1, -1)) * 4


def test_middle_of_an_odd_number_of_classes_stays():
  attack = LabelFlipAttack("complement", num_classes=3)
  assert attack.flip(np.array([0, 1, 2])).tolist() == [2, 1, 0]


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.99, 1.0])
def test_int_fraction_n_images_are_relabelled(data, fraction):
  attack = LabelFlipAttack("complement", fraction=fraction)
  _, labels = attack.poison(*data, 3, client_index=1)
  changed = np.flatnonzero(labels != data[1])
  order = np.random.default_rng([3, 1]).permutation(40)
  assert changed.tolist() == sorted(order[: int(fraction * 40)])


def test_results_are_copies_of_the_same_types(data):
  poisoned, tested = (
    LabelFlipAttack().poison(*data, 0),
    LabelFlipAttack().test_set(*data),
  )
  for images, labels in (poisoned, tested):
    assert not np.shares_memory(images, data[0])
    assert not np.shares_memory(labels, data[1])
    assert images.dtype == np.uint8 and labels.dtype == data[1].dtype


def test_one_seed_one_result_and_clients_differ(data):
  attack = LabelFlipAttack("complement", fraction=0.5)
  first = attack.poison(*data, 1, 4)[1]
  np.testing.assert_array_equal(first, attack.poison(*data, 1, 4, malicious_index=2)[1])
  for place in ((2, 4), (1, 5)):
    assert (first != attack.poison(*data, *place)[1]).any()


def test_pair_is_scored_on_the_source_class_with_true_labels(data):
  images, labels = LabelFlipAttack("pair", 7, 1).test_set(*data)
  assert labels.tolist() == [7] * 4
  np.testing.assert_array_equal(images, data[0][7::10])


def test_complement_has_no_target_and_no_test_set(data):
  attack = LabelFlipAttack("complement")
  assert attack.target is None and attack.test_set(*data) is None
  assert LabelFlipAttack("pair", 7, 1).target == 1


def test_without_an_image_of_the_source_class_nothing_can_be_scored(data):
  with pytest.raises(ValueError, match="must hold one of class 5.*got none of 5"):
    LabelFlipAttack().test_set(data[0][:5], data[1][:5])


def test_classes_suit_the_data():
  settings = label_flip.suited_settings(DIGITS, (28, 28, 1))
  assert settings == {"num_classes": 10, "source_class": 7, "target_class": 1}
  assert label_flip.suited_settings(CLOTHES[:8], (9, 9, 3)) == {"num_classes": 8}


def test_check_takes_what_fits_and_names_what_does_not():
  LabelFlipAttack().check(10, (28, 28, 1))
  LabelFlipAttack("complement", num_classes=3).check(3, ())
  with pytest.raises(ValueError, match=r"`num_classes` \(c\) must be 8.*got 10"):
    LabelFlipAttack().check(8, (28, 28, 1))
  for name in ("source_class", "target_class"):
    with pytest.raises(ValueError, match=f"`{name}` must be in 0..9"):
      LabelFlipAttack(**{name: 10}).check(10, (28, 28, 1))


def test_complement_takes_what_suits_the_data_and_no_other_pair():
  for names in (DIGITS, CLOTHES):
    suited = label_flip.suited_settings(names, (28, 28, 1))
    assert LabelFlipAttack("complement", **suited).target is None
  for pair in ({"source_class": 2}, {"target_class": 4}):
    with pytest.raises(ValueError, match="must be left out with `mode` 'complement'"):
      LabelFlipAttack("complement", **pair)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"mode": "all"}, "`mode` must be one of pair, complement, got 'all'"),
    ({"source_class": 3}, "`target_class` must differ from `source_class`, got 3"),
    ({"source_class": -1}, "`source_class` must be a whole number >= 0"),
    ({"target_class": 1.0}, "`target_class` must be a whole number >= 0"),
    ({"num_classes": 1}, "`num_classes` must be a whole number >= 2"),
    ({"fraction": 1.5}, r"`fraction` must be in \[0, 1\]"),
    ({"fraction": True}, r"`fraction` must be in \[0, 1\]"),
  ],
)
def test_settings_outside_their_range_raise(settings, message):
  with pytest.raises(ValueError, match=f"LabelFlipAttack: {message}"):
    LabelFlipAttack(**settings)


def test_labels_that_are_no_classes_raise(data):
  with pytest.raises(ValueError, match=r"`labels` must be in 0\.\.4, got 0\.\.9"):
    LabelFlipAttack("complement", num_classes=5).poison(*data, 0)


def test_client_without_images_stays_without():
  nothing = np.zeros((0, 4, 4, 1), np.uint8), np.zeros(0, int)
  assert [len(x) for x in LabelFlipAttack("complement").poison(*nothing, 0)] == [0, 0]


def test_settings_are_shown_and_compared():
  text = "mode='pair', source_class=7, target_class=1, fraction=1.0, num_classes=10"
  attack = LabelFlipAttack("pair", 7, 1)
  assert repr(attack) == f"LabelFlipAttack({text})"
  assert attack == LabelFlipAttack(source_class=7, target_class=1)
  assert attack.sees == {"own_data"} and attack.fingerprint == ""
