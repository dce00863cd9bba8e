"""Distributed trigger: the parts by hand, who paints which, what is scored."""

import numpy as np
import pytest

from attacks.data import distributed_trigger, trigger
from attacks.data.distributed_trigger import (
  LAYOUTS,
  DistributedTriggerAttack,
  Layout,
)

MNIST, CIFAR = (28, 28, 1), (32, 32, 3)
PARTS = {  # part -> (row, first and last column), from the authors' parameter files
  "dba_mnist": [(0, 0, 3), (0, 6, 9), (3, 0, 3), (3, 6, 9)],
  "dba_cifar": [(0, 0, 5), (0, 9, 14), (4, 0, 5), (4, 9, 14)],
}


@pytest.fixture
def data(rng):
  """64 images without a white pixel, none of class 2, write-protected."""
  images = rng.integers(0, 200, (64, *MNIST), dtype=np.uint8)
  labels = rng.integers(3, 10, 64)
  for array in (images, labels):
    array.setflags(write=False)
  return images, labels


def pixels(layout, part):
  row, first, last = PARTS[layout][part]
  return {(row, column) for column in range(first, last + 1)}


def white(images):
  """(row, column) of the pixels that are white in all channels of all images."""
  rows, columns = np.nonzero((images == 255).all(axis=(0, 3)))
  return {(int(r), int(c)) for r, c in zip(rows, columns, strict=True)}


@pytest.mark.parametrize(
  ("layout", "shape"), [("dba_mnist", MNIST), ("dba_cifar", CIFAR)]
)
@pytest.mark.parametrize("malicious_index", range(6))
def test_client_j_paints_part_j_mod_4(layout, shape, malicious_index):
  attack = DistributedTriggerAttack(layout, fraction=1)
  black = np.zeros((3, *shape), np.uint8), np.zeros(3, int)
  images, labels = attack.poison(*black, 0, malicious_index=malicious_index)
  expected = pixels(layout, malicious_index % 4)
  assert white(images) == expected and (labels == 2).all()
  assert np.count_nonzero(images) == 3 * len(expected) * shape[-1]


@pytest.mark.parametrize(
  ("layout", "shape"), [("dba_mnist", MNIST), ("dba_cifar", CIFAR)]
)
def test_test_images_carry_all_parts_and_their_true_labels(layout, shape):
  black = np.zeros((3, *shape), np.uint8), np.array([1, 2, 3])
  images, labels = DistributedTriggerAttack(layout).test_set(*black)
  assert white(images) == set().union(*(pixels(layout, part) for part in range(4)))
  assert labels.tolist() == [1, 2, 3] and not black[0].any()


def test_every_layout_is_computed_by_hand():
  assert set(PARTS) == set(LAYOUTS)


@pytest.mark.parametrize(
  ("settings", "poisoned"),
  [
    ({}, 20),  # 20 of a batch of 64
    ({"layout": "dba_cifar"}, 5),
    ({"fraction": 0.5}, 32),
    ({"fraction": 0}, 0),
    ({"fraction": 1}, 64),
  ],
)
def test_as_many_images_are_poisoned_as_asked_for(rng, settings, poisoned):
  images, labels = np.zeros((64, *CIFAR), np.uint8), rng.integers(3, 10, 64)
  attack = DistributedTriggerAttack(**settings)
  painted, wanted = attack.poison(images, labels, 1, client_index=6)
  touched = np.flatnonzero(painted.any(axis=(1, 2, 3)))
  assert len(touched) == poisoned
  np.testing.assert_array_equal(touched, np.flatnonzero(wanted == 2))
  order = np.random.default_rng([1, 6]).permutation(64)
  assert touched.tolist() == sorted(order[:poisoned])
  np.testing.assert_array_equal(wanted[wanted != 2], labels[wanted != 2])


def test_parts_of_different_clients_go_to_different_images(data):
  attack = DistributedTriggerAttack()
  one, other = (attack.poison(*data, 0, client)[1] for client in (3, 4))
  assert (one != other).any()
  np.testing.assert_array_equal(one, attack.poison(*data, 0, 3)[1])


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_results_are_copies_of_the_same_types(data, fraction):
  attack = DistributedTriggerAttack(fraction=fraction)
  results = [*attack.poison(*data, 0), *attack.test_set(*data)]
  assert not any(np.shares_memory(a, b) for a in data for b in results)
  assert [r.dtype for r in results] == [data[0].dtype, data[1].dtype] * 2


def test_a_layout_and_a_value_of_ones_own():
  corners = (trigger.square(1, "top_left"), trigger.square(1, "bottom_right"))
  attack = DistributedTriggerAttack(Layout(corners, 1.0), 3, value=9)
  image = np.zeros((1, 2, 2, 1), np.uint8), np.array([0])
  second, labels = attack.poison(*image, 0, malicious_index=3)
  assert second[0, :, :, 0].tolist() == [[0, 0], [0, 9]] and labels.tolist() == [3]
  assert attack.test_set(*image)[0][0, :, :, 0].tolist() == [[9, 0], [0, 9]]


def test_layout_suits_the_data():
  for shape, layout in ((MNIST, "dba_mnist"), (CIFAR, "dba_cifar")):
    settings = distributed_trigger.suited_settings(tuple("abc"), shape)
    assert settings == {"layout": layout}


def test_check_accepts_what_fits_and_names_what_does_not():
  DistributedTriggerAttack("dba_cifar").check(10, CIFAR)
  with pytest.raises(ValueError, match=r"`target_label` must be in 0\.\.1.*got 2"):
    DistributedTriggerAttack().check(2, MNIST)
  with pytest.raises(ValueError, match="at least 5x15 pixels"):
    DistributedTriggerAttack("dba_cifar").check(10, (14, 14, 3))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"layout": "dba"}, "`layout` must be one of dba_mnist, dba_cifar, got 'dba'"),
    ({"target_label": -1}, "`target_label` must be a whole number >= 0"),
    ({"target_label": None}, "`target_label` must be a whole number >= 0"),
    ({"fraction": -0.1}, r"`fraction` must be in \[0, 1\]"),
    ({"fraction": float("nan")}, r"`fraction` must be in \[0, 1\]"),
    ({"value": "bright"}, "`value` must be a finite number or one of"),
  ],
)
def test_settings_outside_their_range_raise(settings, message):
  with pytest.raises(ValueError, match=f"DistributedTriggerAttack: {message}"):
    DistributedTriggerAttack(**settings)


def test_value_that_no_byte_holds_raises(data):
  with pytest.raises(ValueError, match="whole number in 0..255 on uint8"):
    DistributedTriggerAttack(value=256).poison(*data, 0)


def test_settings_are_shown_and_compared():
  attack = DistributedTriggerAttack("dba_cifar", 3)
  text = "layout='dba_cifar', target_label=3, fraction=None, value=255"
  assert repr(attack) == f"DistributedTriggerAttack({text})"
  assert attack == DistributedTriggerAttack("dba_cifar", 3) and attack.target == 3
  assert attack.sees == {"own_data"} and attack.fingerprint == ""
