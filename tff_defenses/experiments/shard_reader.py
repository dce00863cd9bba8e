"""Reads a client's shard as batches, inside TFF; `shards` describes and writes them.

Symbols: b images a batch, H x W x C pixels.
"""

import collections
import math

PAD = 4  # FL-PLAS's CIFAR training: pad 4, random crop 32, horizontal flip


def record_bytes(image_shape: tuple[int, ...]) -> int:
  """Size of a record: one label byte and the pixels."""
  return 1 + math.prod(image_shape)


def read(
  path,
  image_shape: tuple[int, ...],
  *,
  batch_size: int,
  seed,
  epochs: int = 1,
  shuffle: bool = True,
  drop_remainder: bool = False,
  augment: str | None = None,
):
  """`tf.data.Dataset` of a shard's batches, usable in a TFF computation.

  All randomness is a function of (seed, epoch, batch): equal arguments give equal
  batches, in any process and every iteration. No batch mixes epochs; the last one of
  each may be smaller.

  Args:
    path: file of the shard, string or scalar string tensor.
    image_shape: (H, W, C).
    batch_size: images a batch, >= 1.
    seed: integer or scalar int64 tensor, its own for each client and round.
    epochs: passes over the shard, >= 1.
    shuffle: a new permutation of the whole shard each epoch.
    drop_remainder: leave out the smaller last batch of each epoch, unless it is the
      only one: every client trains.
    augment: None, or "crop_flip" (FL-PLAS, CIFAR): pad 4 with zeros, random crop,
      random horizontal flip, each image on its own.

  Returns:
    Dataset of OrderedDict(x=[b, H, W, C] float32 in 0..255, y=[b] int32).

  Raises:
    ValueError: `batch_size`, `epochs` or `augment` is out of range.

  Deviations: with `drop_remainder`, as in FL-PLAS's code, a client with less than a
    batch takes one step; there it takes none.
  """
  import tensorflow as tf

  _check_read(batch_size, epochs, augment)
  seed = tf.cast(seed, tf.int64)

  def epoch_batches(epoch):
    records = _records(path, image_shape)  # [N, 1 + H*W*C] uint8
    count = tf.shape(records, out_type=tf.int64)[0]
    order = _permutation(count, [seed, -1 - epoch]) if shuffle else tf.range(count)
    num_batches = (count + batch_size - 1) // batch_size
    if drop_remainder:
      num_batches = tf.maximum(count // batch_size, tf.minimum(num_batches, 1))

    def batch(k):
      rows = tf.gather(records, order[k * batch_size : (k + 1) * batch_size])
      return _decode(rows, image_shape, augment, [seed, epoch * num_batches + k])

    return tf.data.Dataset.range(num_batches).map(batch)

  return tf.data.Dataset.range(epochs).flat_map(epoch_batches)


def _records(path, image_shape):
  """The whole shard, [N, 1 + H*W*C] uint8.

  One read, not a dataset of records: no cost a record, and no shuffle kernel whose
  state would make a second iteration differ from the first.
  """
  import tensorflow as tf

  content = tf.io.decode_raw(tf.io.read_file(path), tf.uint8)
  return tf.reshape(content, [-1, record_bytes(image_shape)])


def _permutation(count, seed):
  import tensorflow as tf

  return tf.random.experimental.stateless_shuffle(
    tf.range(count), seed=seed, alg="philox"
  )


def _decode(rows, image_shape, augment, seed):
  """[b, 1 + H*W*C] uint8 -> OrderedDict of the float32 images and int32 labels."""
  import tensorflow as tf

  images = tf.reshape(rows[:, 1:], [rows.shape[0] or -1, *image_shape])
  if augment:
    images = _crop_flip(images, seed)
  return collections.OrderedDict(
    x=tf.cast(images, tf.float32), y=tf.cast(rows[:, 0], tf.int32)
  )


def _crop_flip(images, seed):
  """Shifts each image by -4..4 pixels both ways, zeros outside; flips half of them."""
  import tensorflow as tf

  height, width = images.shape[1:3]
  draws = tf.random.stateless_uniform([tf.shape(images)[0], 3], seed, alg="philox")
  corner = tf.cast(draws[:, :2] * (2 * PAD + 1), tf.int32)  # [b, 2] in 0..8
  flipped = draws[:, 2:] < 0.5  # [b, 1]
  down = tf.range(height)[tf.newaxis]
  across = tf.range(width)[tf.newaxis]
  across = tf.where(flipped, width - 1 - across, across)  # [b, W]
  padded = tf.pad(images, [[0, 0], [PAD, PAD], [PAD, PAD], [0, 0]])
  cropped = tf.gather(padded, corner[:, :1] + down, axis=1, batch_dims=1)
  cropped = tf.gather(cropped, corner[:, 1:] + across, axis=2, batch_dims=1)
  return tf.ensure_shape(cropped, images.shape)


def _check_read(batch_size, epochs, augment):
  for field, value in (("batch_size", batch_size), ("epochs", epochs)):
    if value < 1:
      raise ValueError(
        f"shards.read: `{field}` must be >= 1, got {value}. Use 1 or more."
      )
  if augment not in (None, "crop_flip"):
    raise ValueError(
      f"shards.read: `augment` must be None or 'crop_flip', got {augment!r}. "
      "FL-PLAS augments CIFAR only."
    )
