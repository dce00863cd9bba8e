"""A model's weights in a file: there and back, and what a wrong file is told."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import MODELS
from tff_defenses.experiments import weight_files
from tff_defenses.experiments.errors import DataError


def keras_fn():
  image = tf.keras.Input([2, 2, 1])
  x = tf.keras.layers.BatchNormalization(name="norm")(image)
  x = tf.keras.layers.Flatten()(x)
  return tf.keras.Model(image, tf.keras.layers.Dense(3, name="classifier")(x))


NAMES = [
  *("norm/gamma", "norm/beta", "classifier/kernel", "classifier/bias"),
  *("norm/moving_mean", "norm/moving_variance"),
]


@pytest.fixture
def weights():
  return tff.learning.models.ModelWeights.from_model(keras_fn())


@pytest.fixture
def arrays(weights, tmp_path):
  """The content of a sound file."""
  weight_files.save(tmp_path / "sound.npz", weights, keras_fn)
  with np.load(tmp_path / "sound.npz") as file:
    return dict(file)


def test_names_are_layer_and_kind():
  assert weight_files.names_of(keras_fn()) == NAMES
  assert weight_files.names_of(MODELS["lenet"].build())[:2] == [
    "conv1/kernel",
    "conv1/bias",
  ]


def test_weights_come_back_bit_for_bit(weights, tmp_path):
  path = tmp_path / "new" / "model.npz"
  weight_files.save(path, weights, keras_fn, rounds_done=3)
  found = weight_files.load(path, keras_fn)
  for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(weights), strict=True):
    np.testing.assert_array_equal(one, other)
  assert [p.name for p in path.parent.iterdir()] == ["model.npz"]


def test_kerass_own_names_are_understood(arrays, tmp_path):
  np.savez(tmp_path / "keras.npz", **{f"{n}:0": x for n, x in arrays.items()})
  found = weight_files.load(tmp_path / "keras.npz", keras_fn)
  np.testing.assert_array_equal(found.trainable[2], arrays["classifier/kernel"])


def test_all_that_is_wrong_with_a_file_is_named(arrays, tmp_path):
  del arrays["norm/beta"], arrays["norm/moving_mean"]
  arrays["classifier/kernel"] = arrays["classifier/kernel"].T
  arrays["classifier/bias"] = np.array([1.0, np.nan, 0.0])
  np.savez(tmp_path / "bad.npz", **arrays)
  with pytest.raises(DataError) as error:
    weight_files.load(tmp_path / "bad.npz", keras_fn)
  for part in (
    "norm/beta, norm/moving_mean missing",
    r"classifier/kernel must have shape (4, 3), got (3, 4)",
    "classifier/bias must hold finite numbers",
  ):
    assert part in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04cut"])
def test_damaged_files_raise(content, tmp_path):
  (tmp_path / "x.npz").write_bytes(content)
  with pytest.raises(DataError, match=r"x\.npz must be an \.npz file"):
    weight_files.load(tmp_path / "x.npz", keras_fn)


def test_array_under_the_name_of_an_archive_raises(tmp_path):
  with (tmp_path / "x.npz").open("wb") as file:
    np.save(file, np.zeros(3))
  with pytest.raises(DataError, match=r"x\.npz must be an \.npz file"):
    weight_files.load(tmp_path / "x.npz", keras_fn)


def test_absent_file_raises(tmp_path):
  with pytest.raises(DataError, match=r"none\.npz must be an \.npz file"):
    weight_files.load(tmp_path / "none.npz", keras_fn)


def test_what_cannot_be_saved_raises_and_leaves_nothing(weights, tmp_path):
  with pytest.raises(ValueError, match=r"`path` must end with \.npz"):
    weight_files.save(tmp_path / "model.h5", weights, keras_fn)
  other = functools.partial(MODELS["lenet"].build, seed=0)
  with pytest.raises(ValueError, match="`weights` must be those of the model"):
    weight_files.save(tmp_path / "model.npz", weights, other)
  assert list(tmp_path.iterdir()) == []
