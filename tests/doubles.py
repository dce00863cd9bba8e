"""Small stand-ins that several tests share."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

UPDATE_TYPE = tff.to_type(
  collections.OrderedDict(a=(np.float32, [2, 2]), b=(np.float32, [3]))
)


def update(*numbers):
  """An update of `UPDATE_TYPE` from seven numbers, or one number seven times."""
  row = np.broadcast_to(np.float32(numbers), [7])
  return collections.OrderedDict(a=row[:4].reshape(2, 2).copy(), b=row[4:].copy())


def flat(value) -> np.ndarray:
  """A structure's numbers in one row."""
  return np.concatenate([np.ravel(x) for x in tf.nest.flatten(value)])


def equal(one, other) -> bool:
  """Whether two structures of as many arrays hold the same numbers."""
  pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
  return all(np.array_equal(a, b) for a, b in pairs)


def weights_of(model):
  """`ModelWeights` of a Keras model, as arrays."""
  return tff.learning.models.ModelWeights(
    [v.numpy() for v in model.trainable_variables],
    [v.numpy() for v in model.non_trainable_variables],
  )


def plr_fn(weights):
  """Three samples of a two-wide "representation" that depend on all weights."""
  a, b = tf.nest.flatten(weights)
  row = tf.stack([tf.reduce_sum(a), tf.reduce_sum(b)])
  return row * tf.constant([[1.0], [2.0], [3.0]])


def run_plain(factory, updates, value_type=UPDATE_TYPE):
  """One round of a plain factory in TFF."""
  process = factory.create(value_type)
  return process.next(process.initialize(), updates)


def one_weight_model():
  """y = w x, loss (w x - y)^2, gradient 2 x (w x - y); w starts at 1."""
  layer = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
  keras = tf.keras.Sequential([tf.keras.Input([1]), layer])
  spec = collections.OrderedDict(x=tf.TensorSpec([None, 1]), y=tf.TensorSpec([None, 1]))
  loss = tf.keras.losses.MeanSquaredError()
  return tff.learning.models.from_keras_model(keras, loss=loss, input_spec=spec)


def dataset(x, y, batch_size=1):
  """Batches of `one_weight_model`."""
  x, y = np.float32(x)[:, None], np.float32(y)[:, None]
  data = collections.OrderedDict(x=x, y=y)
  return tf.data.Dataset.from_tensor_slices(data).batch(batch_size)


class AddOneFactory(tff.aggregators.UnweightedAggregationFactory):
  """Sums the updates and adds one: proves that an inner factory was used."""

  def create(self, value_type):
    inner = tff.aggregators.SumFactory().create(value_type)

    @tff.tensorflow.computation(value_type)
    def add_one(value):
      return tf.nest.map_structure(lambda x: x + 1, value)

    @tff.federated_computation(
      inner.initialize.type_signature.result,
      tff.FederatedType(value_type, tff.CLIENTS),
    )
    def next_fn(state, value):
      output = inner.next(state, value)
      result = tff.federated_map(add_one, output.result)
      return tff.templates.MeasuredProcessOutput(
        output.state, result, output.measurements
      )

    return tff.templates.AggregationProcess(inner.initialize, next_fn)


def tiny_keras(penultimate_width=3):
  """Images of 2 x 2 x 1, two classes, the layers that every model here has."""
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Rescaling(1 / 255),
      tf.keras.layers.Dense(
        penultimate_width,
        activation="relu",
        name="penultimate",
        kernel_initializer=tf.keras.initializers.GlorotUniform(seed=1),
        bias_initializer="ones",
      ),
      tf.keras.layers.Dense(
        2,
        name="classifier",
        kernel_initializer=tf.keras.initializers.GlorotUniform(seed=2),
      ),
    ]
  )


def tiny_images(seed, size=4):
  """(images in 0..255, labels 0 or 1) for `tiny_keras`."""
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (size, 2, 2, 1)).astype(np.float32)
  return images, (images[:, 0, 0, 0] > images[:, 1, 1, 0]).astype(np.int32)


def image_dataset(images, labels, batch_size=2):
  """Batches as `models.split.make_model_fn` wants them."""
  data = collections.OrderedDict(x=np.float32(images), y=np.int32(labels))
  return tf.data.Dataset.from_tensor_slices(data).batch(batch_size)


class SlowAttack:
  """Sends what was trained honestly, a second later: an attack of either kind."""

  sees = frozenset({"own_training"})

  def craft(self, deltas, malicious, *, weights, seed):
    """As an attack on updates."""
    del malicious, weights, seed
    return _a_second_later(deltas), collections.OrderedDict()

  def build_craft(self, model, work):
    """As an attack in training."""
    del model, work

    def craft(weights, dataset, round_number, honest, benign_mean):
      del dataset, round_number, benign_mean
      return [_a_second_later(x) for x in honest], list(weights.non_trainable)

    return craft


def _a_second_later(tensor):
  """The same tensor, a second after it is there."""
  with tf.control_dependencies([tensor]):
    begun = tf.timestamp()
  waited = tf.while_loop(lambda t: tf.timestamp() < begun + 1, lambda t: [t], [begun])
  with tf.control_dependencies(waited):
    return tf.identity(tensor)
