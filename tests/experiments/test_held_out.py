"""Held-out data: what is taken, what stays, and each error."""

import numpy as np
import pytest

from tff_defenses.experiments.datasets import Dataset
from tff_defenses.experiments.held_out import hold_out


def toy(num_train=40, num_test=20):
  """Ten classes in turn; the only pixel is the position in the split."""
  train, test = np.arange(num_train, dtype=np.uint8), np.arange(num_test)
  return Dataset(
    name="toy",
    train_images=train.reshape(-1, 1, 1, 1),
    train_labels=train.astype(np.int32) % 10,
    test_images=(100 + test).astype(np.uint8).reshape(-1, 1, 1, 1),
    test_labels=test.astype(np.int32) % 10,
    num_classes=10,
    class_names=tuple("0123456789"),
    source="made up",
  )


def pixels(images):
  return images.ravel().tolist()


def test_auxiliary_data_are_the_first_of_the_class_and_leave_training():
  held = hold_out(toy(), aux_class=3, aux_size=2)
  assert pixels(held.aux_images) == [3, 13] and held.aux_labels.tolist() == [3, 3]
  assert pixels(held.train_images) == [i for i in range(40) if i not in (3, 13)]
  assert held.train_labels.tolist() == [i % 10 for i in pixels(held.train_images)]
  assert np.flatnonzero(held.kept).tolist() == pixels(held.train_images)
  assert len(held.root_images) == 0


def test_root_data_follow_the_auxiliary_data_and_leave_training():
  held = hold_out(toy(), aux_class=3, aux_size=2, root_per_class=1)
  assert pixels(held.root_images) == [0, 1, 2, 23, 4, 5, 6, 7, 8, 9]
  assert held.root_labels.tolist() == list(range(10))
  assert len(held.train_images) == 28


def test_authors_source_takes_test_images_and_is_logged(caplog):
  held = hold_out(toy(), aux_size=2, aux_source="authors")
  assert pixels(held.aux_images) == [101, 111] and len(held.train_images) == 40
  assert "also scored" in caplog.text


def test_no_auxiliary_class_holds_nothing_out():
  held = hold_out(toy(), aux_class=None, aux_source="authors")
  assert held.aux_images.shape == (0, 1, 1, 1) and len(held.train_images) == 40


@pytest.mark.parametrize(
  ("field", "options"),
  [
    ("aux_class", {"aux_class": 10}),
    ("aux_class", {"aux_class": -1}),
    ("aux_size", {"aux_size": 1}),
    ("aux_size", {"aux_size": 5}),
    ("aux_size", {"aux_size": 3, "aux_source": "authors"}),
    ("root_per_class", {"aux_size": 2, "root_per_class": 3}),
    ("root_per_class", {"aux_size": 2, "root_per_class": -1}),
    ("aux_source", {"aux_source": "author"}),
  ],
)
def test_impossible_held_out_data_raise_with_the_setting(field, options):
  with pytest.raises(ValueError, match=f"hold_out: `{field}` .*must be"):
    hold_out(toy(), **options)
