"""Edge-case attack: what clients hold, the noise, what is scored, missing files."""

import numpy as np
import pytest

from attacks import ATTACKS
from attacks.data import edge_case
from attacks.data.edge_case import EdgeCaseAttack
from tests.attacks import real_files
from tests.attacks.fixed_sets import SHAPE, images_of

NOTHING = np.zeros((0, *SHAPE), np.uint8), np.zeros(0, np.int32)
SMALL = {"num_poisoned": 8, "num_clean": 12}


@pytest.fixture
def train():
  """50 images whose first pixel is their position, write-protected."""
  images = images_of(50)
  images[:, 0, 0, 0] = np.arange(50)
  images.setflags(write=False)
  return images, (np.arange(50) % 10).astype(np.int32)


@pytest.fixture
def folder(tmp_path):
  """20 aeroplanes to train and 6 to test, of which 2 are the same."""
  planes, tested = images_of(20, seed=1), images_of(6, seed=2)
  tested[[1, 4]] = planes[[3, 9]]
  np.save(tmp_path / "southwest_train.npy", planes)
  np.save(tmp_path / "southwest_test.npy", tested)
  return tmp_path


def planes_in(folder):
  return np.load(folder / "southwest_train.npy")


def positions(images, known):
  """Where each image lies among the known ones."""
  return [int(np.flatnonzero((known == x).all((1, 2, 3)))[0]) for x in images]


def test_set_is_clean_images_and_planes_as_trucks(train, folder):
  attack = EdgeCaseAttack(**SMALL, noise=0).prepare(*train, folder)
  images, labels = attack.poison(*NOTHING, seed=0)
  assert images.shape == (20, *SHAPE) and images.dtype == np.uint8
  clean = positions(images[:12], train[0])
  assert len(set(clean)) == 12 and labels[:12].tolist() == train[1][clean].tolist()
  assert len(set(positions(images[12:], planes_in(folder)))) == 8
  assert labels[12:].tolist() == [9] * 8


def test_default_set_has_the_authors_sizes(folder):
  np.save(folder / "southwest_train.npy", images_of(784))
  train = images_of(500, seed=3), np.zeros(500, np.int32)
  images, labels = EdgeCaseAttack().prepare(*train, folder).poison(*NOTHING, seed=0)
  assert len(images) == 500 and (labels == 9).sum() == 100


def test_all_malicious_clients_hold_one_set_that_the_seed_draws(train, folder):
  attack = EdgeCaseAttack(**SMALL).prepare(*train, folder)
  first = attack.poison(*NOTHING, seed=1)
  other = attack.poison(train[0], train[1], 1, 4, malicious_index=2)
  assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
  assert not np.array_equal(first[0], attack.poison(*NOTHING, seed=2)[0])


def test_noise_has_the_channels_deviations_and_touches_planes_only(train, folder):
  np.save(folder / "southwest_train.npy", np.full((400, *SHAPE), 128, np.uint8))
  settings = {"num_poisoned": 400, "num_clean": 5}
  attack = EdgeCaseAttack(**settings, noise=0.05).prepare(*train, folder)
  images, _ = attack.poison(*NOTHING, seed=0)
  assert len(positions(images[:5], train[0])) == 5
  found = images[5:].astype(float) - 128
  # Rounding to whole numbers adds a variance of 1/12.
  expected = [np.sqrt((0.05 * s) ** 2 + 1 / 12) for s in (63.0, 62.1, 66.7)]
  np.testing.assert_allclose(found.std(axis=(0, 1, 2)), expected, rtol=0.01)
  np.testing.assert_allclose(found.mean(axis=(0, 1, 2)), 0, atol=0.02)


def test_noise_stays_within_a_byte(train, folder):
  extremes = np.zeros((10, *SHAPE), np.uint8)
  extremes[5:] = 255
  np.save(folder / "southwest_train.npy", extremes)
  settings = {"num_poisoned": 10, "num_clean": 0}
  attack = EdgeCaseAttack(**settings, noise=0.05).prepare(*train, folder)
  images, _ = attack.poison(*NOTHING, seed=0)
  gap = np.minimum(images.astype(int), 255 - images.astype(int))
  assert 0 < gap.max() < 30  # a byte that ran over would lie on the other side
  assert sum(image.mean() < 128 for image in images) == 5


def test_clean_images_are_drawn_from_the_shared_ones_only(train, folder):
  shared = np.array([3, 30, 31])
  settings = {"num_poisoned": 1, "num_clean": 3}
  attack = EdgeCaseAttack(**settings).prepare(*train, folder, shared)
  images, _ = attack.poison(*NOTHING, seed=0)
  assert sorted(positions(images[:3], train[0])) == [3, 30, 31]


def test_test_images_are_the_files_with_their_true_class(train, folder):
  attack = EdgeCaseAttack(**SMALL).prepare(*train, folder)
  images, labels = attack.test_set(*NOTHING)
  np.testing.assert_array_equal(images, np.load(folder / "southwest_test.npy"))
  assert labels.tolist() == [0] * 6 and attack.target == 9
  images[:] = 0  # a copy
  assert attack.test_set(*NOTHING)[0].any()


def test_images_that_are_in_both_files_may_be_dropped(train, folder):
  attack = EdgeCaseAttack(**SMALL, drop_shared=True).prepare(*train, folder)
  kept = np.load(folder / "southwest_test.npy")[[0, 2, 3, 5]]
  np.testing.assert_array_equal(attack.test_set(*NOTHING)[0], kept)


def test_files_may_lie_in_backdoor_below(train, folder, tmp_path_factory):
  above = tmp_path_factory.mktemp("above")
  (above / "backdoor").symlink_to(folder, target_is_directory=True)
  assert EdgeCaseAttack(**SMALL).prepare(*train, above).found is not None


def test_other_images_make_another_fingerprint(train, folder):
  first = EdgeCaseAttack(**SMALL).prepare(*train, folder).fingerprint
  assert first == EdgeCaseAttack(**SMALL).prepare(*train, folder).fingerprint
  np.save(folder / "southwest_train.npy", images_of(20, seed=5))
  assert EdgeCaseAttack(**SMALL).prepare(*train, folder).fingerprint != first


def test_missing_files_are_named_with_places_and_a_way_to_get_them(train, folder):
  with pytest.raises(FileNotFoundError, match="Looked in no folder, for none is set"):
    EdgeCaseAttack().prepare(*train)
  (folder / "southwest_test.npy").unlink()
  with pytest.raises(FileNotFoundError) as raised:
    EdgeCaseAttack().prepare(*train, folder)
  text = str(raised.value)
  assert "missing: southwest_test.npy. " in text and f"{folder}, {folder}/back" in text
  assert "github.com/ksreenivasan/OOD_Federated_Learning" in text


def test_files_are_asked_for_before_they_are_read(tmp_path):
  both = ", ".join(edge_case.FILES)
  for folder in (None, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"missing: {both}"):
      EdgeCaseAttack().check_files(folder)
  for name in edge_case.FILES:
    (tmp_path / name).write_text("no images")
  EdgeCaseAttack().check_files(tmp_path)


@pytest.mark.parametrize(
  "name", [n for n, s in ATTACKS.items() if s.kind == "data" and n != "edge_case"]
)
def test_no_other_data_attack_needs_a_file(name, tmp_path):
  for folder in (None, tmp_path):
    ATTACKS[name].build().check_files(folder)


def test_damaged_file_raises_with_its_name(train, folder):
  np.save(folder / "southwest_test.npy", np.zeros((3, 28, 28, 1), np.uint8))
  with pytest.raises(ValueError, match=r"southwest_test\.npy must hold .*32, 32, 3"):
    EdgeCaseAttack(**SMALL).prepare(*train, folder)


def test_nothing_left_to_score_raises(train, folder):
  np.save(folder / "southwest_test.npy", planes_in(folder)[:2])
  with pytest.raises(ValueError, match="that is not a training image, got none"):
    EdgeCaseAttack(**SMALL, drop_shared=True).prepare(*train, folder)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"num_poisoned": 21, "num_clean": 1}, "`num_poisoned` must be at most 20"),
    ({"num_poisoned": 1, "num_clean": 51}, "`num_clean` must be at most 50"),
  ],
)
def test_more_images_than_there_are_raise(train, folder, settings, message):
  with pytest.raises(ValueError, match=message):
    EdgeCaseAttack(**settings).prepare(*train, folder)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"target_label": 0}, "`target_label` must differ from 0"),
    ({"target_label": True}, "`target_label` must be a whole number"),
    ({"num_poisoned": 0}, "`num_poisoned` must be a whole number >= 1"),
    ({"num_clean": -1}, "`num_clean` must be a whole number >= 0"),
    ({"noise": -0.1}, "`noise` must be a finite number >= 0"),
    ({"noise": float("nan")}, "`noise` must be a finite number >= 0"),
    ({"noise": "0.05"}, "`noise` must be a finite number >= 0"),
  ],
)
def test_settings_outside_their_range_raise(settings, message):
  with pytest.raises(ValueError, match=f"EdgeCaseAttack: {message}"):
    EdgeCaseAttack(**settings)


@pytest.mark.parametrize(("shape", "classes"), [((28, 28, 1), 10), (SHAPE, 100)])
def test_other_data_sets_raise(shape, classes):
  EdgeCaseAttack().check(10, SHAPE)
  with pytest.raises(ValueError, match="EdgeCaseAttack: images must be CIFAR-10's"):
    EdgeCaseAttack().check(classes, shape)


def test_use_before_prepare_raises():
  with pytest.raises(ValueError, match="EdgeCaseAttack.poison: `prepare` must"):
    EdgeCaseAttack().poison(*NOTHING, 0)


def test_settings_are_shown(train, folder):
  text = "target_label=9, num_poisoned=8, num_clean=12, noise=0.05, drop_shared=False"
  attack = EdgeCaseAttack(**SMALL).prepare(*train, folder)
  assert repr(attack) == f"EdgeCaseAttack({text})" and attack.sees == {"own_data"}


def test_no_image_is_reserved(train):
  assert not EdgeCaseAttack().reserved(train[0]).any()


def test_real_files_have_the_published_sizes():
  data = real_files.cifar10(*edge_case.FILES)
  train = data.train_images, data.train_labels
  attack = EdgeCaseAttack().prepare(*train, real_files.DATA_DIR)
  images, labels = attack.poison(*NOTHING, 0)
  assert attack.found.poisoned.shape == (784, *SHAPE)
  assert len(images) == 500 and (labels[400:] == 9).all()
  assert len(attack.test_set(*NOTHING)[0]) == 196
  apart = EdgeCaseAttack(drop_shared=True).prepare(*train, real_files.DATA_DIR)
  assert len(apart.test_set(*NOTHING)[0]) == 192
