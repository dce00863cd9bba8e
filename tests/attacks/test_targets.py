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
    ({"source_class": 7}, "num_targets"),
  ],
)
def test_bad_target_raises_with_its_name(settings, name):
  images, labels = np.zeros((1, 28, 28, 1), np.uint8), np.array([4])
  with pytest.raises(ValueError, match=f"`{name}`"):
    targets.choose(images, labels, **settings)
