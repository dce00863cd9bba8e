"""Shards: what the reader yields."""

import numpy as np
import pytest

from tests.experiments.toy_shards import SHAPE, client, write
from tff_defenses.experiments import shards


def batches(path, **options):
  options = {"batch_size": 4, "seed": 3, **options}
  dataset = shards.read(path, options.pop("image_shape", SHAPE), **options)
  return [(batch["x"].numpy(), batch["y"].numpy()) for batch in dataset]


@pytest.fixture(name="path")
def _path(tmp_path):
  return write(tmp_path, clients=[client(10)]).path(0)


def labels_of(found):
  return [y.tolist() for _, y in found]


def test_unshuffled_batches_give_back_what_was_written(path):
  found = batches(path, shuffle=False)
  images, labels = client(10)
  assert np.array_equal(np.concatenate([x for x, _ in found]), images)
  assert np.concatenate([y for _, y in found]).tolist() == labels.tolist()
  assert found[0][0].dtype == np.float32 and found[0][1].dtype == np.int32


def test_type_of_the_dataset(path):
  import tensorflow as tf

  spec = shards.read(path, SHAPE, batch_size=4, seed=0).element_spec
  assert list(spec) == ["x", "y"]
  assert spec["x"] == tf.TensorSpec([None, *SHAPE], tf.float32)
  assert spec["y"] == tf.TensorSpec([None], tf.int32)


def test_no_batch_mixes_epochs(path):
  found = labels_of(batches(path, epochs=3))
  assert [len(y) for y in found] == [4, 4, 2] * 3
  for i in (0, 3, 6):
    assert sorted(label for y in found[i : i + 3] for label in y) == list(range(10))


def test_each_epoch_has_its_own_order(path):
  found = labels_of(batches(path, epochs=2, batch_size=10))
  assert found[0] != found[1] and found[0] != list(range(10))


def test_images_stay_with_their_labels_when_shuffled(path):
  images, _ = client(10)
  for x, y in batches(path):
    assert np.array_equal(x, images[y])


@pytest.mark.parametrize("augment", [None, "crop_flip"])
def test_equal_seeds_give_equal_batches_and_others_do_not(path, augment):
  options = {"epochs": 2, "augment": augment}
  first, again = batches(path, **options), batches(path, **options)
  other = batches(path, seed=4, **options)
  for (x, y), (x2, y2) in zip(first, again, strict=True):
    assert np.array_equal(x, x2) and np.array_equal(y, y2)
  assert labels_of(first) != labels_of(other)


def test_iterating_twice_gives_the_same_order(path):
  dataset = shards.read(path, SHAPE, batch_size=4, seed=3, epochs=2)
  orders = [[batch["y"].numpy().tolist() for batch in dataset] for _ in range(2)]
  assert orders[0] == orders[1]


def test_path_and_seed_may_be_tensors_of_a_graph(path):
  import tensorflow as tf

  @tf.function(
    input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)]
  )
  def second_label(path, seed):
    dataset = shards.read(path, SHAPE, batch_size=1, seed=seed)
    return dataset.skip(1).take(1).reduce(-1, lambda _, batch: batch["y"][0])

  expected = labels_of(batches(path, batch_size=1))[1][0]
  assert second_label(path, tf.constant(3, tf.int64)) == expected


def test_drop_remainder_leaves_out_the_partial_batch_of_each_epoch(path):
  found = labels_of(batches(path, epochs=2, drop_remainder=True))
  assert [len(y) for y in found] == [4, 4, 4, 4]


def test_empty_shard_has_no_batches(tmp_path):
  assert batches(write(tmp_path, clients=[client(0)]).path(0)) == []


def shifts(image):
  """All 9 x 9 x 2 crops and flips of an image, as a set of bytes."""
  padded = np.pad(image, [(4, 4), (4, 4), (0, 0)])
  height, width = image.shape[:2]
  crops = [padded[i : i + height, j : j + width] for i in range(9) for j in range(9)]
  return {each.tobytes() for crop in crops for each in (crop, crop[:, ::-1])}


def test_crop_flip_yields_crops_of_the_padded_image(path):
  images, _ = client(10)
  for x, y in batches(path, augment="crop_flip", epochs=3):
    for image, label in zip(x.astype(np.uint8), y, strict=True):
      assert image.tobytes() in shifts(images[label])


def test_crop_flip_differs_between_images_batches_and_epochs(tmp_path):
  image, _ = client(1)
  copies = (np.repeat(image, 200, axis=0), np.zeros(200, np.int32))
  path = write(tmp_path, clients=[copies]).path(0)
  found = batches(path, augment="crop_flip", epochs=2, batch_size=100)
  seen = {each.tobytes() for x, _ in found for each in x}
  assert len(seen) > 130  # of 162 possible ones; 400 draws leave about 14 unseen
  assert len({x.tobytes() for x, _ in found}) == 4


@pytest.mark.parametrize(
  ("field", "value"), [("batch_size", 0), ("epochs", 0), ("augment", "cutout")]
)
def test_bad_reader_setting_raises_with_its_name(path, field, value):
  with pytest.raises(ValueError, match=f"`{field}`"):
    batches(path, **{field: value})


def test_a_client_with_less_than_a_batch_keeps_it(tmp_path):
  path = write(tmp_path, clients=[client(3)]).path(0)
  found = labels_of(batches(path, drop_remainder=True, epochs=2))
  assert [len(y) for y in found] == [3, 3]


def test_a_client_without_images_has_no_batch(tmp_path):
  path = write(tmp_path, clients=[client(0), client(4)]).path(0)
  assert batches(path, drop_remainder=True) == []
