"""Triggers: pixels by hand, what poisoning touches, and one test per error."""

import numpy as np
import pytest

from attacks.data.trigger import PATTERNS, Pattern, TriggerAttack, paint, square

MNIST, CIFAR, KATHER = (28, 28, 1), (32, 32, 3), (128, 128, 3)
FLPLAS_MNIST = {(25, 25), (25, 26), (26, 25), (26, 26)}
FLPLAS_CIFAR = {(29, 29), (29, 30), (29, 31), (30, 29), (31, 29)}

BY_HAND = [
  ("flare_x", MNIST, {(26, 26), (25, 25), (25, 27), (27, 25), (27, 27)}),
  ("flare_x", CIFAR, {(30, 30), (29, 29), (29, 31), (31, 29), (31, 31)}),
  ("flare_x", KATHER, {(126, 126), (125, 125), (125, 127), (127, 125), (127, 127)}),
  ("flare_x", (3, 4, 1), {(1, 2), (0, 1), (0, 3), (2, 1), (2, 3)}),
  ("flplas_mnist", MNIST, FLPLAS_MNIST),
  ("flplas_mnist", CIFAR, FLPLAS_MNIST),  # fixed, not counted from the edge
  ("flplas_cifar", CIFAR, FLPLAS_CIFAR),
  ("flplas_mnist_paper", MNIST, {(1, 25), (1, 26), (2, 25), (2, 26)}),
  ("flplas_cifar_paper", CIFAR, {(2, 29), (1, 29), (3, 29), (2, 28), (2, 30)}),
  ("square", MNIST, {(r, c) for r in range(23, 28) for c in range(23, 28)}),
]


@pytest.fixture
def data(rng):
  """100 images [100, 28, 28, 1] without a white pixel, labels 1..9."""
  images = rng.integers(0, 200, (100, *MNIST), dtype=np.uint8)
  return images, rng.integers(1, 10, 100)


def changed(before, after):
  """Positions (row, column) at which any channel of any image differs."""
  rows, columns = np.nonzero((before != after).any(axis=(0, 3)))
  return {(int(r), int(c)) for r, c in zip(rows, columns, strict=True)}


@pytest.mark.parametrize(("name", "shape", "pixels"), BY_HAND)
def test_exactly_the_patterns_pixels_turn_white_in_all_channels(name, shape, pixels):
  images = np.full((2, *shape), 7, np.uint8)
  painted = paint(images, name)
  assert changed(images, painted) == pixels
  rows, columns = zip(*pixels, strict=True)
  assert (painted[:, rows, columns] == 255).all()


def test_every_pattern_is_computed_by_hand():
  assert {name for name, _, _ in BY_HAND} == set(PATTERNS)


@pytest.mark.parametrize(
  ("corner", "pixels"),
  [
    ("top_left", {(0, 0), (0, 1), (1, 0), (1, 1)}),
    ("top_right", {(0, 5), (0, 6), (1, 5), (1, 6)}),
    ("bottom_left", {(4, 0), (4, 1), (5, 0), (5, 1)}),
    ("bottom_right", {(4, 5), (4, 6), (5, 5), (5, 6)}),
  ],
)
def test_square_lies_in_its_corner(corner, pixels):
  images = np.zeros((1, 6, 7, 2), np.uint8)
  assert changed(images, paint(images, square(2, corner))) == pixels


def test_targets_of_the_patterns():
  targets = {name: pattern.target for name, pattern in PATTERNS.items()}
  assert targets.pop("flare_x") is None and targets.pop("square") is None
  assert set(targets.values()) == {0}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_paint_copies_and_keeps_the_type(data, dtype):
  images = data[0].astype(dtype)
  images.setflags(write=False)
  before = images.tobytes()
  painted = paint(images, "flplas_mnist", 200)
  assert painted.dtype == dtype and painted[:, 25, 25].max() == 200
  assert images.tobytes() == before and not np.shares_memory(images, painted)


def test_no_images_are_painted_without_complaint():
  assert paint(np.zeros((0, *MNIST), np.uint8), "square").shape == (0, *MNIST)


@pytest.mark.parametrize(
  ("value", "expected"), [("published", 65025.0), ("realisable", 255.0), (12.5, 12.5)]
)
def test_flare_values_on_float_images(value, expected):
  painted = paint(np.zeros((1, *MNIST), np.float32), "flare_x", value)
  assert painted.max() == expected and np.count_nonzero(painted) == 5


def test_flplas_publishes_what_an_image_can_hold():
  assert (
    paint(np.zeros((1, *CIFAR), np.uint8), "flplas_cifar", "published").max() == 255
  )


def test_published_value_of_flare_on_bytes_raises_with_the_reason():
  with pytest.raises(ValueError, match=r"'published' = 65025\.0\. Shards are uint8"):
    paint(np.zeros((1, *MNIST), np.uint8), "flare_x", "published")


@pytest.mark.parametrize("value", [-1, 256, 0.5])
def test_number_that_no_byte_holds_raises(value):
  with pytest.raises(ValueError, match="whole number in 0..255 on uint8"):
    paint(np.zeros((1, *MNIST), np.uint8), "square", value)


@pytest.mark.parametrize("value", ["bright", None, float("nan"), float("inf")])
def test_value_that_is_no_number_raises(value):
  with pytest.raises(ValueError, match="`value` must be a finite number or one of"):
    TriggerAttack(value=value)


@pytest.mark.parametrize(
  ("name", "shape", "least"),
  [
    ("flplas_cifar", MNIST, "32x32"),
    ("flplas_cifar_paper", MNIST, "4x31"),
    ("flplas_mnist", (26, 40, 1), "27x27"),
    ("flplas_mnist", (40, 26, 1), "27x27"),
    ("flare_x", (2, 9, 1), "3x3"),
    ("square", (4, 5, 1), "5x5"),
  ],
)
def test_images_too_small_for_the_pattern_raise(name, shape, least):
  with pytest.raises(ValueError, match=f"at least {least} pixels.*got {shape[0]}x"):
    paint(np.zeros((1, *shape), np.uint8), name)


@pytest.mark.parametrize(
  "images",
  [np.zeros(MNIST, np.uint8), np.zeros((1, *MNIST), int), np.zeros((1, *MNIST), bool)],
)
def test_images_of_another_rank_or_type_raise(images):
  with pytest.raises(ValueError, match=r"`images` must be \[N, H, W, C\], uint8"):
    paint(images, "square")


@pytest.mark.parametrize(
  ("call", "who"),
  [
    (lambda name: paint(np.zeros((1, *MNIST), np.uint8), name), "paint"),
    (lambda name: TriggerAttack(name), "TriggerAttack"),
  ],
)
def test_unknown_pattern_raises_with_the_nearest_name(call, who):
  with pytest.raises(ValueError, match=f"^{who}: .*Did you mean 'flplas_mnist'"):
    call("flplas_minst")
  with pytest.raises(ValueError, match="got 'zzz'\\.$"):
    call("zzz")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.299, 1.0])
def test_poison_touches_int_fraction_n_images_and_no_others(data, fraction):
  images, labels = data
  poisoned, new_labels = TriggerAttack(fraction=fraction).poison(images, labels, 3)
  touched = (poisoned != images).any(axis=(1, 2, 3))
  assert touched.sum() == int(fraction * 100)
  np.testing.assert_array_equal(touched, new_labels == 0)
  np.testing.assert_array_equal(new_labels[~touched], labels[~touched])
  np.testing.assert_array_equal(
    poisoned[touched], paint(images[touched], "flplas_mnist")
  )


def test_poisoned_images_are_the_first_of_the_documented_permutation(data):
  poisoned, _ = TriggerAttack(fraction=0.1).poison(*data, 5, client_index=2)
  touched = np.flatnonzero((poisoned != data[0]).any(axis=(1, 2, 3)))
  expected = np.random.default_rng([5, 2]).permutation(100)[:10]
  np.testing.assert_array_equal(touched, np.sort(expected))


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_originals_stay_bit_for_bit_and_results_are_copies(data, fraction):
  before = [array.tobytes() for array in data]
  attack = TriggerAttack(fraction=fraction)
  results = [*attack.poison(*data, 0), *attack.test_set(*data)]
  assert [array.tobytes() for array in data] == before
  assert not any(np.shares_memory(a, b) for a in data for b in results)
  assert [r.dtype for r in results] == [data[0].dtype, data[1].dtype] * 2


def test_one_seed_one_result_and_clients_differ(data):
  attack = TriggerAttack()
  first, again = attack.poison(*data, 1, 4), attack.poison(*data, 1, 4)
  np.testing.assert_array_equal(first[0], again[0])
  np.testing.assert_array_equal(first[1], again[1])
  for other in (attack.poison(*data, 2, 4), attack.poison(*data, 1, 5)):
    assert (first[1] != other[1]).any()


def test_test_set_paints_all_and_keeps_the_true_labels(data):
  images, labels = TriggerAttack("square", 3, fraction=0.0).test_set(*data)
  np.testing.assert_array_equal(images, paint(data[0], "square"))
  np.testing.assert_array_equal(labels, data[1])


def test_target_is_the_given_label_or_the_patterns():
  assert TriggerAttack().target == 0 and TriggerAttack(target_label=7).target == 7
  assert TriggerAttack(square(3, "top_left"), np.int64(2)).target == 2


def test_settings_are_shown_and_compared():
  attack = TriggerAttack("flare_x", 3)
  text = "pattern='flare_x', target_label=3, fraction=0.3, value=255"
  assert repr(attack) == f"TriggerAttack({text})"
  assert attack == TriggerAttack("flare_x", 3) and square() == PATTERNS["square"]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), "0.3", True])
def test_fraction_outside_the_unit_interval_raises(fraction):
  with pytest.raises(ValueError, match=r"`fraction` must be in \[0, 1\]"):
    TriggerAttack(fraction=fraction)


@pytest.mark.parametrize(
  "settings",
  [("flare_x",), ("square",), ("square", -1), ("square", 1.0), ("square", True)],
)
def test_target_that_is_missing_or_no_label_raises(settings):
  with pytest.raises(ValueError, match="`target_label` must be a whole number >= 0"):
    TriggerAttack(*settings)


def test_check_accepts_what_fits_and_names_what_does_not():
  TriggerAttack(target_label=9).check(10, MNIST)
  with pytest.raises(ValueError, match=r"`target_label` must be in 0\.\.9.*got 10"):
    TriggerAttack(target_label=10).check(10, MNIST)
  with pytest.raises(ValueError, match="at least 32x32"):
    TriggerAttack("flplas_cifar").check(10, MNIST)


@pytest.mark.parametrize("size", [0, -2, 1.5, True])
def test_bad_square_size_raises(size):
  with pytest.raises(ValueError, match="`size`"):
    square(size)


def test_unknown_corner_raises_with_the_nearest_name():
  with pytest.raises(ValueError, match="`corner`.*Did you mean 'top_left'"):
    square(5, "topleft")


def test_a_pattern_of_ones_own():
  dot = Pattern(((0, -1),), 1, "here", value=9)
  images = np.zeros((1, 2, 2, 1), np.uint8)
  assert paint(images, dot, "realisable")[0, :, :, 0].tolist() == [[0, 9], [0, 0]]
