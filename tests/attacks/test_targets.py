"""Targeted inputs: which images are taken, what is painted, and each error."""

import numpy as np
import pytest

from attacks.training import targets


def test_targets_are_the_first_images_of_the_class():
  images = np.arange(5 * 28 * 28, dtype=np.uint32).reshape(5, 28, 28, 1) % 255
  labels = np.array([1, 4, 0, 4, 4])
  found = targets.choose(
    images.astype(np.uint8), labels, kind="semantic", num_targets=2
  )
  np.testing.assert_array_equal(found.images, images[[1, 3]])
  assert found.labels.tolist() == [3, 3] and found.true_labels.tolist() == [4, 4]


def test_trojan_targets_carry_the_published_value():
  images, labels = np.zeros((1, 28, 28, 1), np.uint8), np.array([4])
  published = targets.choose(images, labels).images
  realisable = targets.choose(images, labels, trigger_value="realisable").images
  assert published[0, 26, 26, 0] == 255 * 255 and realisable[0, 26, 26, 0] == 255
  assert np.count_nonzero(published) == 5 and not images.any()


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"kind": "edge"}, "kind"),
    ({"target_class": 4}, "target_class"),
    ({"num_targets": 2}, "num_targets"),
    ({"num_targets": 0}, "num_targets"),
    ({"num_targets": 1.0}, "num_targets"),
    ({"kind": "semantic", "trigger_value": "realisable"}, "trigger_value"),
    ({"source_class": 7}, "num_targets"),
  ],
)
def test_bad_target_raises_with_its_name(settings, name):
  images, labels = np.zeros((1, 28, 28, 1), np.uint8), np.array([4])
  with pytest.raises(ValueError, match=f"`{name}`"):
    targets.choose(images, labels, **settings)


def images_of(labels):
  """Images of one value each: their place."""
  places = np.arange(len(labels), dtype=np.uint8)
  return np.tile(places[:, None, None, None], [1, 28, 28, 1])


def draw(seed, *, count=3, **settings):
  labels = np.arange(40) % 10
  rng = np.random.default_rng(seed)
  found = targets.draw(
    images_of(labels), labels, 10, rng, num_targets=count, **settings
  )
  return found, labels


def test_drawn_targets_are_of_any_class_with_a_wrong_label():
  found, labels = draw(0, count=40, kind="semantic")
  places = found.images[:, 0, 0, 0].astype(int)
  assert sorted(places) == list(range(40)) and list(places) != list(range(40))
  np.testing.assert_array_equal(found.true_labels, labels[places])
  shifts = (found.labels - found.true_labels) % 10
  assert 0 not in shifts and len(set(shifts.tolist())) > 5
  assert set(found.labels.tolist()) <= set(range(10))


def test_a_seed_draws_the_same_targets():
  (one, _), (same, _), (other, _) = draw(1), draw(1), draw(2)
  np.testing.assert_array_equal(one.images, same.images)
  np.testing.assert_array_equal(one.labels, same.labels)
  assert not np.array_equal(one.images, other.images)


def test_drawn_trojans_carry_the_pattern():
  plain, trojan = draw(0, kind="semantic")[0], draw(0, kind="trojan")[0]
  assert (np.count_nonzero(plain.images != trojan.images, axis=(1, 2, 3)) == 5).all()


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"kind": "edge"}, "kind"),
    ({"count": 0}, "num_targets"),
    ({"count": 1.5}, "num_targets"),
    ({"count": 41}, "num_ta"),
  ],
)
def test_bad_draw_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"`{name}"):
    draw(0, **settings)
