"""FLARE's theory of the penultimate layer, on a model trained on real digits.

Reference: FLARE Sec. 4.2, Propositions 1 and 2, Eq. (2), (3), Appendices A and B.
Symbols: r PLR of an image, w_k template of class k (column of the classifier's kernel
  Omega, [o, c]), b_k its bias, q softmax of the logits, C_kl = w_l.w_l - w_k.w_k.

Reading of Proposition 1: it prints norms, but expands ||r - w_k|| as r.r - 2 r.w_k +
w_k.w_k (Eq. 13), which is the square; only with squares do its terms cancel. It also
leaves out the bias; with one, q_k > q_l asks for C_kl + 2 (b_l - b_k).
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from models import split
from tff_defenses.experiments import datasets

NUM_CLASSES, WIDTH, STEPS = 10, 128, 100


def build(use_bias):
  dense = tf.keras.layers.Dense
  initializers = [tf.keras.initializers.GlorotUniform(seed) for seed in (1, 2)]
  return tf.keras.Sequential(
    [
      tf.keras.Input([28, 28, 1]),
      tf.keras.layers.Rescaling(1 / 255),
      tf.keras.layers.Flatten(),
      dense(WIDTH, "relu", name="penultimate", kernel_initializer=initializers[0]),
      dense(
        NUM_CLASSES,
        name="classifier",
        use_bias=use_bias,
        kernel_initializer=initializers[1],
      ),
    ]
  )


class Trained:
  """What the propositions speak of, in float64: r, Omega, b, logits and q."""

  def __init__(self, use_bias):
    data = datasets.load("mnist5k")
    keras_fn = functools.partial(build, use_bias)
    model = keras_fn()
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.legacy.Adam(1e-3), loss)
    batches = tf.data.Dataset.from_tensor_slices((data.train_images, data.train_labels))
    batches = batches.shuffle(4000, seed=0).batch(32).repeat().take(STEPS)
    model.fit(batches, verbose=0)
    plr = split.plr_fn(keras_fn, data.test_images)
    self.r = np.asarray(plr(model.trainable_variables), float)
    classifier = model.get_layer("classifier")
    self.omega = classifier.kernel.numpy().astype(float)
    self.bias = classifier.bias.numpy().astype(float) if use_bias else np.zeros(10)
    self.logits = self.r @ self.omega + self.bias
    self.q = special.softmax(self.logits, axis=1)
    found = model.predict(data.test_images, verbose=0, batch_size=500)
    np.testing.assert_allclose(found, self.logits, rtol=1e-3, atol=1e-3)
    self.accuracy = float(np.mean(self.q.argmax(axis=1) == data.test_labels))


@functools.cache
def trained(use_bias):
  return Trained(use_bias)


def pair_differences(values):
  """[..., c] -> [..., c, c]: entry k, l is value l minus value k."""
  return values[..., np.newaxis, :] - values[..., np.newaxis]


def proposition_1(model, power, bias):
  """Share of all (image, k, l) on which Eq. (2) agrees with q_k > q_l."""
  gaps = model.r[:, :, np.newaxis] - model.omega
  distances = np.linalg.norm(gaps, axis=1) ** power
  constant = pair_differences((model.omega**2).sum(axis=0))
  shift = 2 * pair_differences(bias)
  holds = pair_differences(distances) >= constant + shift
  likelier = -pair_differences(model.logits)  # as q_k > q_l, but q may round to 0
  decided = np.abs(likelier) > 1e-9  # leaves out k = l
  return float(np.mean((holds == (likelier > 0))[decided]))


@pytest.mark.parametrize("use_bias", [False, True])
def test_the_model_has_learned_its_digits(use_bias):
  model = trained(use_bias)
  assert model.r.shape == (1000, WIDTH)
  assert model.accuracy > 0.8
  assert np.any(model.bias != 0) == use_bias


def test_proposition_1_without_bias():
  """All 90 pairs of classes on all 1,000 test images."""
  assert proposition_1(trained(False), power=2, bias=np.zeros(10)) == 1.0


def test_proposition_1_with_the_bias_taken_into_account():
  model = trained(True)
  assert proposition_1(model, power=2, bias=model.bias) == 1.0


def test_proposition_1_needs_the_bias_where_there_is_one():
  share = proposition_1(trained(True), power=2, bias=np.zeros(10))
  assert 0.9 < share < 1.0


def test_proposition_1_with_norms_as_printed_does_not_hold():
  """As printed: distances that are not squared, against squared templates."""
  assert proposition_1(trained(False), power=1, bias=np.zeros(10)) < 0.99


def test_templates_are_cluster_centres_of_their_class():
  """What Sec. 4.2 concludes: distances corrected by C_kl classify like the model."""
  model = trained(False)
  gaps = model.r[:, :, np.newaxis] - model.omega
  corrected = (gaps**2).sum(axis=1) - (model.omega**2).sum(axis=0)
  assert np.array_equal(corrected.argmin(axis=1), model.logits.argmax(axis=1))


@pytest.mark.parametrize("use_bias", [False, True])
def test_proposition_2_on_all_pairs_of_test_images(use_bias):
  """||q1 - q2|| <= ||Omega||_2 ||r1 - r2||; the bias cancels in the logits."""
  model = trained(use_bias)
  norm = np.linalg.norm(model.omega, ord=2)
  for first in range(0, 1000, 100):  # 100 images against all 1,000
    rows = slice(first, first + 100)
    q_gap = np.linalg.norm(model.q[rows, np.newaxis] - model.q, axis=2)
    r_gap = np.linalg.norm(model.r[rows, np.newaxis] - model.r, axis=2)
    assert (q_gap <= norm * r_gap + 1e-12).all()


def test_proposition_2_says_something():
  """The bound is below the largest distance of two q, root 2, for near PLRs."""
  model = trained(False)
  norm = np.linalg.norm(model.omega, ord=2)
  rng = np.random.default_rng(0)
  for scale in (1e-3, 1e-1, 1.0):
    moved = model.r + scale * rng.normal(size=model.r.shape)
    q = special.softmax(moved @ model.omega, axis=1)
    q_gap = np.linalg.norm(q - model.q, axis=1)
    bound = norm * np.linalg.norm(moved - model.r, axis=1)
    assert (q_gap <= bound).all()
    if scale < 1e-2:
      assert bound.max() < 0.1
