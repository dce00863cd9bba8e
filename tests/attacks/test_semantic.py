"""Semantic attack: which images are found, what clients hold, what is scored."""

import dataclasses
import re

import numpy as np
import pytest

from attacks.data import semantic
from attacks.data.semantic import SemanticAttack, shifted_and_flipped
from tests.attacks import real_files
from tests.attacks.fixed_sets import CARS, HELD_OUT, SHAPE, images_of, train

__all__ = ["train"]  # a fixture

NOTHING = np.zeros((0, *SHAPE), np.uint8), np.zeros(0, np.int32)


def test_set_is_37_clean_images_and_the_27_cars_as_birds(train):
  images, labels = SemanticAttack().prepare(*train).poison(*NOTHING, seed=0)
  assert images.shape == (64, *SHAPE) and images.dtype == np.uint8
  np.testing.assert_array_equal(images[37:], train[0][list(CARS)])
  assert labels[37:].tolist() == [2] * 27 and labels.dtype == np.int32
  where = [int(np.flatnonzero((train[0] == x).all((1, 2, 3)))[0]) for x in images[:37]]
  assert len(set(where)) == 37 and not set(where) & set(CARS + HELD_OUT)
  np.testing.assert_array_equal(labels[:37], train[1][where])


def test_all_malicious_clients_hold_one_set_that_the_seed_draws(train):
  attack = SemanticAttack().prepare(*train)
  first = attack.poison(*NOTHING, seed=1)
  other = attack.poison(train[0][:9], train[1][:9], 1, 7, malicious_index=3)
  assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
  assert not np.array_equal(first[0], attack.poison(*NOTHING, seed=2)[0])


def test_clean_images_are_drawn_from_the_shared_ones_only(train):
  shared = np.array([0, 1, 5, 10, 11, 12, 13])  # of these 1, 5, 10 are cars
  attack = SemanticAttack(num_clean=4).prepare(*train, shared=shared)
  images, _ = attack.poison(*NOTHING, seed=0)
  expected = {train[0][i].tobytes() for i in (0, 11, 12, 13)}
  assert {image.tobytes() for image in images[:4]} == expected


def test_reserved_are_all_thirty_cars_whether_prepared_or_not(train):
  for attack in (SemanticAttack(), SemanticAttack().prepare(*train)):
    assert np.flatnonzero(attack.reserved(train[0])).tolist() == sorted(CARS + HELD_OUT)
    assert not attack.reserved(train[0][[0, 4]]).any()
  assert SemanticAttack().reserved(np.zeros((0, 28, 28, 1), np.uint8)).shape == (0,)


def test_order_of_the_training_images_does_not_matter_to_the_cars(train):
  order = np.random.default_rng(3).permutation(200)
  one = SemanticAttack(num_clean=0).prepare(*train)
  other = SemanticAttack(num_clean=0).prepare(train[0][order], train[1][order])
  assert np.array_equal(one.poison(*NOTHING, 0)[0], other.poison(*NOTHING, 0)[0])
  assert one.fingerprint == other.fingerprint != ""


def test_without_the_file_test_images_are_made_of_the_held_out_cars(
  train, tmp_path, caplog
):
  for folder in (None, tmp_path):
    images, labels = SemanticAttack().prepare(*train, folder).test_set(*NOTHING)
    where = "no --data_dir" if folder is None else f"{folder} lacks green_car_test.npy"
    assert f"SemanticAttack: {where}" in caplog.text
    assert images.shape == (1000, *SHAPE) and set(labels) == {1}
  middle = {image[8:24, 8:24].tobytes() for image in images}
  assert len(middle) > 300


@pytest.mark.parametrize("folder", [".", "backdoor"])
def test_file_is_taken_from_the_folder_or_from_backdoor_below(train, tmp_path, folder):
  (tmp_path / folder).mkdir(exist_ok=True)
  np.save(tmp_path / folder / semantic.TEST_FILE, images_of(7, seed=9))
  images, labels = SemanticAttack().prepare(*train, tmp_path).test_set(*NOTHING)
  np.testing.assert_array_equal(images, images_of(7, seed=9))
  assert labels.tolist() == [1] * 7


def test_file_makes_the_held_out_cars_unnecessary(train, tmp_path):
  left = np.delete(np.arange(200), HELD_OUT)
  part = train[0][left], train[1][left]
  with pytest.raises(ValueError, match=r"the 3 green cars.*\(held_out\), got 0"):
    SemanticAttack().prepare(*part)
  np.save(tmp_path / semantic.TEST_FILE, images_of(1))
  assert SemanticAttack().prepare(*part, tmp_path).found is not None


def test_shifts_and_flips_by_hand():
  image = np.zeros((1, 9, 9, 1), np.uint8)
  image[0, 4, 4] = 7  # the middle reaches every place that a shift of 4 leads to
  copies = shifted_and_flipped(image, 2000)
  assert (copies.sum((1, 2, 3)) == 7).all()
  rows, columns = np.nonzero(copies[..., 0].sum(0))
  assert set(zip(rows, columns, strict=True)) == {
    (r, c) for r in range(9) for c in range(9)
  }
  np.testing.assert_array_equal(copies, shifted_and_flipped(image, 2000))


def test_half_of_the_copies_are_flipped():
  image = np.zeros((1, 9, 9, 1), np.uint8)
  image[0, 4, 3:5, 0] = 1, 2  # unflipped: 1 lies to the left of 2
  rows = shifted_and_flipped(image, 2000)[..., 0].max(axis=1)
  whole = rows[rows.sum(axis=1) == 3]  # neither pixel was shifted out
  unflipped = whole.argmax(axis=1) > np.argmax(whole == 1, axis=1)
  assert len(whole) > 1000 and 0.4 < unflipped.mean() < 0.6


def test_missing_cars_are_named_by_their_first_digests(train):
  left = np.delete(np.arange(200), CARS[:5])
  with pytest.raises(ValueError, match="must hold the 27 green cars.*got 22") as raised:
    SemanticAttack().prepare(train[0][left], train[1][left])
  named = re.findall(r"[0-9a-f]{16} \((\d+)\)", str(raised.value))
  assert named == ["1005", "1010", "1015"] and ", ..." in str(raised.value)


@pytest.mark.parametrize(
  "array",
  [
    np.zeros((2, 32, 32, 3), np.float32),
    np.zeros((2, 28, 28, 1), np.uint8),
    np.zeros((0, 32, 32, 3), np.uint8),
  ],
)
def test_file_with_other_content_raises_with_its_name(train, tmp_path, array):
  np.save(tmp_path / semantic.TEST_FILE, array)
  with pytest.raises(ValueError, match=r"green_car_test\.npy must hold uint8 images"):
    SemanticAttack().prepare(*train, tmp_path)


def test_file_that_is_no_array_raises_with_its_name(train, tmp_path):
  (tmp_path / semantic.TEST_FILE).write_bytes(b"no array")
  with pytest.raises(ValueError, match=r"green_car_test\.npy must be a NumPy file"):
    SemanticAttack().prepare(*train, tmp_path)


def test_too_few_clean_images_raise(train):
  with pytest.raises(ValueError, match="`num_clean` must be at most 2,.*got 37"):
    SemanticAttack().prepare(*train, shared=np.array([0, 1, 4]))


@pytest.mark.parametrize(("shape", "classes"), [((28, 28, 1), 10), (SHAPE, 100)])
def test_other_data_sets_raise(shape, classes):
  SemanticAttack().check(10, SHAPE)
  with pytest.raises(ValueError, match="SemanticAttack: images must be CIFAR-10's"):
    SemanticAttack().check(classes, shape)


def test_target_that_is_no_class_raises():
  with pytest.raises(ValueError, match=r"`target_label` must be in 0\.\.9"):
    SemanticAttack(target_label=10).check(10, SHAPE)


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"target_label": 1}, "`target_label` must differ from 1"),
    ({"target_label": -1}, "`target_label` must be a whole number"),
    ({"num_clean": -1}, "`num_clean` must be a whole number >= 0"),
    ({"num_clean": 1.5}, "`num_clean` must be a whole number >= 0"),
  ],
)
def test_settings_outside_their_range_raise(settings, name):
  with pytest.raises(ValueError, match=f"SemanticAttack: {name}"):
    SemanticAttack(**settings)


@pytest.mark.parametrize("method", ["poison", "test_set"])
def test_use_before_prepare_raises(method):
  arguments = (*NOTHING, 0) if method == "poison" else NOTHING
  with pytest.raises(ValueError, match=f"SemanticAttack.{method}: `prepare` must"):
    getattr(SemanticAttack(), method)(*arguments)


def test_settings_are_shown_and_what_was_found_is_not(train):
  attack = SemanticAttack()
  assert repr(attack.prepare(*train)) == "SemanticAttack(target_label=2, num_clean=37)"
  assert attack.found is None and attack.fingerprint == "" and attack.target == 2
  assert attack.sees == {"own_data"}
  with pytest.raises(dataclasses.FrozenInstanceError):
    attack.num_clean = 3


def test_shipped_list_holds_27_and_3_digests():
  cars = semantic.known_cars()
  assert [len(cars["train"]), len(cars["held_out"])] == [27, 3]
  digests = [*cars["train"], *cars["held_out"]]
  assert len(set(digests)) == 30
  assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
  places = sorted(int(place) for place in cars["train"].values())
  assert places[:3] == [389, 561, 874] and places[-1] == 49588


def test_real_cars_are_found_and_are_cars():
  data = real_files.cifar10()
  attack = SemanticAttack().prepare(data.train_images, data.train_labels)
  reserved = attack.reserved(data.train_images)
  assert reserved.sum() == 30 and set(data.train_labels[reserved]) == {1}
  assert not attack.reserved(data.test_images).any()
  assert len(attack.poison(*NOTHING, 0)[0]) == 64


def test_real_test_file_holds_only_shifts_and_flips_of_the_held_out_cars():
  data = real_files.cifar10(semantic.TEST_FILE)
  train = data.train_images, data.train_labels
  images, labels = (
    SemanticAttack().prepare(*train, real_files.DATA_DIR).test_set(*NOTHING)
  )
  assert images.shape == (1000, *SHAPE) and set(labels) == {1}
  many = SemanticAttack().prepare(*train)
  held_out = [
    data.train_images[i]
    for i in np.flatnonzero(many.reserved(data.train_images))
    if data.train_images[i].tobytes() not in {x.tobytes() for x in many.found.poisoned}
  ]
  made = {x.tobytes() for x in shifted_and_flipped(np.stack(held_out), 10_000)}
  assert {image.tobytes() for image in images} <= made
