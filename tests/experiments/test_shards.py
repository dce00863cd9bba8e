"""Shards: what is written, reused and repaired, and what the reader yields."""

import errno
import json
import multiprocessing
import pathlib

import numpy as np
import pytest

from tff_defenses.experiments import shards
from tff_defenses.experiments.datasets import DataError

SHAPE = (8, 6, 3)
KEY = {"dataset": "toy", "seed": 1}


def client(num_images, start=0, shape=SHAPE):
  """Images of random pixels; labels count upwards, so that order can be seen."""
  images = np.random.default_rng(start).integers(0, 256, (num_images, *shape), np.uint8)
  return images, np.arange(start, start + num_images, dtype=np.int32)


def clients():
  return [client(5), client(7, start=100), client(0)]


def never():
  raise AssertionError("clients must not be computed again")


def write(folder, **changes):
  return shards.write(
    **{"cache_dir": folder, "key": KEY, "clients": clients, "image_shape": SHAPE}
    | changes
  )


def records(path):
  return np.fromfile(path, np.uint8).reshape(-1, 1 + 8 * 6 * 3)


def test_files_hold_label_and_pixels(tmp_path):
  found = write(tmp_path)
  images, labels = clients()[1]
  assert found.num_examples == (5, 7, 0) and found.image_shape == SHAPE
  assert np.array_equal(records(found.path(1))[:, 0], labels)
  assert np.array_equal(records(found.path(1))[:, 1:], images.reshape(7, -1))


def test_index_tells_counts_key_and_digests(tmp_path):
  index = json.loads((write(tmp_path).folder / "index.json").read_text())
  assert index["key"] == KEY and index["num_examples"] == [5, 7, 0]
  assert all(len(text) == 64 for text in index["sha256"])


def test_path_of_no_client_raises(tmp_path):
  found = write(tmp_path)
  for index in (-1, 3):
    with pytest.raises(IndexError, match="client_index"):
      found.path(index)


def test_complete_folder_is_reused_without_computing(tmp_path):
  assert write(tmp_path) == write(tmp_path, clients=never)


def test_clients_may_be_a_plain_iterable(tmp_path):
  assert write(tmp_path, clients=iter(clients())).num_examples == (5, 7, 0)


def test_key_decides_the_folder_and_its_order_does_not(tmp_path):
  first = write(tmp_path)
  same = write(tmp_path, key=dict(reversed(KEY.items())), clients=never)
  numpy_seed = write(tmp_path, key=KEY | {"seed": np.int64(1)}, clients=never)
  other = write(tmp_path, key=KEY | {"seed": 2})
  assert first.folder == same.folder == numpy_seed.folder != other.folder
  assert len(first.folder.name) == 16


@pytest.mark.parametrize("damage", ["short", "long", "missing", "index", "garbled"])
def test_damaged_folder_is_repaired_with_a_warning(tmp_path, caplog, damage):
  found = write(tmp_path)
  path, index = pathlib.Path(found.path(0)), found.folder / "index.json"
  whole = path.read_bytes()
  if damage == "short":
    path.write_bytes(whole[:-1])
  elif damage == "long":
    path.write_bytes(whole + b"x")
  elif damage == "garbled":
    index.write_text('{"num_examples": 3')
  else:
    (path if damage == "missing" else index).unlink()
  assert write(tmp_path) == found and path.read_bytes() == whole
  assert "damaged" in caplog.text
  assert write(tmp_path, clients=never) == found


def test_nothing_is_left_beside_the_folder(tmp_path):
  found = write(tmp_path)
  with pytest.raises(ValueError):
    write(tmp_path, key={"bad": 1}, clients=[client(2, start=255)])
  assert list(tmp_path.iterdir()) == [found.folder]


def test_processes_that_write_the_same_key_at_once_agree(tmp_path):
  with multiprocessing.get_context("spawn").Pool(2) as pool:
    found = pool.map(write, [tmp_path] * 4)
  assert len({each.folder for each in found}) == 1
  assert list(tmp_path.iterdir()) == [found[0].folder]
  assert write(tmp_path, clients=never) == found[0]


def test_slower_process_accepts_the_folder_of_the_faster(tmp_path):
  def slow():
    write(tmp_path)
    return clients()

  assert write(tmp_path, clients=slow) == write(tmp_path, clients=never)


def test_full_disk_raises_data_error(tmp_path, monkeypatch):
  def full(self, data):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_bytes", full)
  with pytest.raises(DataError, match=r"`cache_dir`.*No space left"):
    write(tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_raises_data_error(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(DataError, match="`cache_dir`"):
    write(tmp_path / "file")


def test_label_above_one_byte_raises(tmp_path):
  with pytest.raises(ValueError, match=r"0..255 .* got 255..256"):
    write(tmp_path, clients=[client(2, start=255)])


@pytest.mark.parametrize("fault", ["float", "shape", "count"])
def test_images_that_do_not_fit_a_record_raise(tmp_path, fault):
  images, labels = client(4)
  bad = {
    "float": (images / 255, labels),
    "shape": (images[:, :-1], labels),
    "count": (images, labels[:-1]),
  }
  with pytest.raises(ValueError, match="images of client 0 must be uint8"):
    write(tmp_path, clients=[bad[fault]])


def test_key_that_is_not_json_raises(tmp_path):
  with pytest.raises(TypeError, match=r"digest\(array\)"):
    write(tmp_path, key={"labels": np.zeros(3)})


def test_digest_tells_content_type_and_shape_apart():
  arrays = [np.zeros(4, np.uint8), np.zeros((2, 2), np.uint8), np.zeros(4, np.int8)]
  arrays += [np.ones(4, np.uint8), np.zeros(0, np.uint8), np.uint8(0).reshape(())]
  assert len({shards.digest(array) for array in arrays}) == len(arrays)
  swapped = np.asfortranarray(np.arange(6).reshape(2, 3))
  assert shards.digest(swapped) == shards.digest(np.arange(6).reshape(2, 3))


# The reader.


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
  spec = shards.read(path, SHAPE, batch_size=4, seed=0, drop_remainder=True)
  assert spec.element_spec["x"].shape == (4, *SHAPE)


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
