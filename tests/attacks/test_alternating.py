"""The alternating backdoor against plain loops, by hand, and inside a round."""

import collections
import functools
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks import ATTACKS
from attacks.training import alternating, forms, targets
from models import split
from tff_defenses.aggregators import krum
from tff_defenses.learning import client_work, fed_avg
from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE

SGD = tff.learning.optimizers.build_sgdm(0.1)
TARGET = np.float32([[[[200.0], [0.0]]]])  # one image of 1 x 2 x 1


def keras_fn():
  return tf.keras.Sequential(
    [
      tf.keras.Input([1, 2, 1]),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Rescaling(1 / 100),
      tf.keras.layers.Dense(
        2,
        name="classifier",
        kernel_initializer=tf.keras.initializers.Constant([[0.1, -0.2], [0.3, 0.05]]),
      ),
    ]
  )


MODEL_FN = split.make_model_fn(keras_fn)
THETA = [np.float32([[0.1, -0.2], [0.3, 0.05]]), np.zeros(2, np.float32)]


def shard(seed, size=6):
  rng = np.random.default_rng(seed)
  images = (100 * rng.random((size, 1, 2, 1))).astype(np.float32)
  return images, (images[:, 0, 0, 0] > images[:, 0, 1, 0]).astype(np.int32)


def dataset(seed, epochs=1):
  images, labels = shard(seed)
  data = collections.OrderedDict(x=images, y=labels)
  return tf.data.Dataset.from_tensor_slices(data).batch(3).repeat(epochs)


def craft(attack, *, honest=None, benign_mean=None, epochs=None):
  """Runs the attack eagerly outside TFF; returns the update."""
  epochs = attack.mal_epochs if epochs is None else epochs
  work = client_work.ClientWork(SGD)
  zeros = [np.zeros_like(w) for w in THETA]
  weights = tff.learning.models.ModelWeights(THETA, [])
  run = attack.build_craft(MODEL_FN(), work)

  @tf.function
  def go():
    return run(
      weights, dataset(0, epochs), tf.constant(1), honest or zeros, benign_mean or zeros
    )

  update, statistics = go()
  assert statistics == []
  return [u.numpy() for u in update]


def descend(model, tape, value, boost=1.0):
  """A step of gradient descent, written out."""
  slopes = tape.gradient(value, model.trainable_variables)
  for v, g in zip(model.trainable_variables, slopes, strict=True):
    v.assign_sub(0.1 * boost * g)


def plain_training(start, epochs, *, rho=0.0, anchor=None, boost=1.0, malicious=True):
  """The same loops in plain Keras, written anew."""
  model = keras_fn()
  model.set_weights(start)
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  images, labels = shard(0)
  for _ in range(epochs):
    for first in (0, 3):
      with tf.GradientTape() as tape:
        rows = slice(first, first + 3)
        value = loss(labels[rows], model(images[rows]))
        for v, a in zip(model.trainable_variables, anchor or start, strict=True):
          value += rho / 2 * tf.reduce_sum((v - a) ** 2)
      descend(model, tape, value)
      if malicious:
        with tf.GradientTape() as tape:
          value = loss([0], model(TARGET))
        descend(model, tape, value, boost)
  return model.get_weights()


def attack(**settings):
  return alternating.krum_backdoor(TARGET, np.int32([0]), **settings)


def assert_close(found, expected, tolerance=1e-5):
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def norm(tensors):
  return float(np.sqrt(sum(np.sum(x**2) for x in tensors)))


def minus(one, two):
  return [a - b for a, b in zip(one, two, strict=True)]


def test_self_form_equals_the_loop_by_hand():
  honest_weights = plain_training(THETA, 1, malicious=False)
  settings = {"form": "self", "boost": 3.0, "rho": 0.5, "mal_epochs": 2}
  found = craft(
    attack(benign_epochs=2, **settings), honest=minus(THETA, honest_weights)
  )
  expected = plain_training(THETA, 2, rho=0.5, anchor=honest_weights, boost=3.0)
  assert_close(found, minus(THETA, expected))


def test_own_anchor_trains_as_long_as_the_attack():
  """mal_epochs > E: the honest update is too short an anchor."""
  anchor = plain_training(THETA, 3, malicious=False)
  found = craft(attack(form="self", rho=0.5, boost=1.0, mal_epochs=3, benign_epochs=1))
  expected = plain_training(THETA, 3, rho=0.5, anchor=anchor)
  assert_close(found, minus(THETA, expected))


def test_white_box_starts_and_stays_at_the_benign_mean():
  mean = [np.full_like(w, 0.25) for w in THETA]
  found = craft(attack(rho=0.5, mal_epochs=2), benign_mean=mean)
  anchor = minus(THETA, mean)
  expected = plain_training(anchor, 2, rho=0.5, anchor=anchor)
  assert_close(found, minus(THETA, expected))


def test_without_effect_of_the_target_it_is_benign_training():
  reached = alternating.krum_backdoor(
    np.float32([[[[1e6], [0.0]]]]), np.int32([0]), form="self", rho=0.0, mal_epochs=2
  )
  expected = plain_training(THETA, 2, malicious=False)
  assert_close(craft(reached), minus(THETA, expected))


def test_a_large_rho_pulls_the_update_to_the_anchors():
  mean = [np.full_like(w, 0.25) for w in THETA]
  near = craft(attack(rho=5.0, mal_epochs=2), benign_mean=mean)
  far = craft(attack(rho=0.0, mal_epochs=2), benign_mean=mean)
  near_gap, far_gap = norm(minus(near, mean)), norm(minus(far, mean))
  assert near_gap < 0.7 * far_gap


def test_it_reaches_its_target():
  update = craft(attack(form="self", boost=10.0, mal_epochs=10))
  model = keras_fn()
  model.set_weights(minus(THETA, update))
  assert int(np.argmax(model(TARGET))) == 0


def test_zero_malicious_epochs_send_the_honest_update():
  honest = [np.full_like(w, 0.5) for w in THETA]
  assert_close(craft(attack(mal_epochs=0), honest=honest, epochs=1), honest)


def test_stealth_steps_space_out_the_malicious_ones():
  every = craft(attack(form="self", rho=0.0, boost=5.0, mal_epochs=1))
  second = craft(attack(form="self", rho=0.0, boost=5.0, mal_epochs=1, stealth_steps=2))
  none = minus(THETA, plain_training(THETA, 1, malicious=False))
  assert 0 < norm(minus(second, none)) < norm(minus(every, none))


def test_hold_off_skips_steps_once_the_target_is_confident():
  always = craft(attack(form="self", rho=0.0, boost=5.0, mal_epochs=2, hold_off=1.0))
  never = craft(attack(form="self", rho=0.0, boost=5.0, mal_epochs=2, hold_off=0.0))
  assert_close(never, minus(THETA, plain_training(THETA, 2, malicious=False)))
  assert not np.allclose(always[0], never[0])


def test_kernels_only_leaves_biases_unboosted():
  settings = {"form": "converge", "boost": 4.0}
  build = functools.partial(
    alternating.coomed_backdoor, TARGET, np.int32([0]), **settings
  )
  all_boosted, kernels = craft(build()), craft(build(kernels_only=True))
  assert_close([kernels[0]], [all_boosted[0]])
  assert_close([4 * kernels[1]], [all_boosted[1]])


def test_converge_trains_on_the_target_alone_and_boosts_once():
  # The loss stays above 1e-6 within two steps of this check's model.
  plain = alternating.coomed_backdoor(TARGET, np.int32([0]))
  boosted = alternating.coomed_backdoor(TARGET, np.int32([0]), boost=10.0)
  one, ten = craft(plain), craft(boosted)
  assert_close(ten, [10 * u for u in one], 1e-4)
  model = keras_fn()
  model.set_weights(minus(THETA, one))
  probability = tf.nn.softmax(model(TARGET))[0, 0]
  assert float(probability) > 0.99


def round_with(attack, factory=None, malicious=(False, False, True)):
  """One round of three clients; returns (weights after, metrics)."""

  @tff.tensorflow.computation(CLIENT_INPUT_TYPE)
  def read(client):
    # Every client reads the same few images: only the flag tells them apart.
    return dataset(0)

  process = fed_avg.build_fed_avg(
    MODEL_FN,
    SGD,
    factory,
    dataset_computation=read,
    training_attack=attack,
  )
  clients = [
    collections.OrderedDict(shard="", client_index=i, is_malicious=flag, seed=0)
    for i, flag in enumerate(malicious)
  ]
  state, metrics = process.next(process.initialize(), clients)
  return state.global_model_weights.trainable, metrics


@pytest.mark.usefixtures("runtime")
def test_honest_clients_are_untouched_bit_for_bit():
  """Krum over two equal honest updates and one far one returns the honest one."""
  boosted = attack(form="self", boost=50.0, mal_epochs=1)
  attacked, metrics = round_with(boosted, krum.KrumFactory(0))
  alone, _ = round_with(None, krum.KrumFactory(0))
  for a, b in zip(attacked, alone, strict=True):
    np.testing.assert_array_equal(a, b)
  assert metrics["aggregator"]["selected"].tolist() == [True, False, False]
  assert metrics["aggregator"]["score"][2] > 0


@pytest.mark.usefixtures("runtime")
def test_nobody_malicious_equals_no_attack():
  attacked, _ = round_with(attack(), malicious=(False, False, False))
  alone, _ = round_with(None)
  for a, b in zip(attacked, alone, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("runtime")
def test_white_box_sees_the_rounds_benign_mean():
  """The malicious client's update, read off the mean of three."""
  attacked, _ = round_with(attack(rho=0.5, mal_epochs=1))
  honest = plain_training(THETA, 1, malicious=False)
  crafted = plain_training(honest, 1, rho=0.5, anchor=honest)
  expected = [(2 * h + c) / 3 for h, c in zip(honest, crafted, strict=True)]
  assert_close(attacked, expected, 1e-4)


@pytest.mark.usefixtures("runtime")
def test_boosted_converge_replaces_the_model_under_fed_avg():
  """One attacker of three, boost 3, honest updates zero: theta becomes w exactly."""
  images = np.zeros([0, 1, 2, 1], np.float32)

  @tff.tensorflow.computation(CLIENT_INPUT_TYPE)
  def no_data(client):
    data = collections.OrderedDict(x=images, y=np.zeros([0], np.int32))
    return tf.data.Dataset.from_tensor_slices(data).batch(3)

  boosted = alternating.coomed_backdoor(TARGET, np.int32([0]), boost=3.0)
  process = fed_avg.build_fed_avg(
    MODEL_FN, SGD, dataset_computation=no_data, training_attack=boosted
  )
  clients = [
    collections.OrderedDict(shard="", client_index=i, is_malicious=i == 2, seed=0)
    for i in range(3)
  ]
  state, _ = process.next(process.initialize(), clients)
  alone = craft(alternating.coomed_backdoor(TARGET, np.int32([0])))
  assert_close(state.global_model_weights.trainable, minus(THETA, alone), 1e-4)


def test_threat_model_says_what_is_seen():
  assert "benign_updates" in attack().sees
  assert "benign_updates" not in attack(form="self").sees
  coomed = alternating.coomed_backdoor(TARGET, np.int32([0]))
  assert "benign_updates" not in coomed.sees


@pytest.mark.parametrize(
  ("name", "settings"),
  [
    *[("krum_backdoor", {"form": form}) for form in forms.KRUM],
    *[("coomed_backdoor", {"form": form}) for form in forms.COOMED],
    ("coomed_backdoor", {"form": "paper", "anchor": "benign_mean"}),
    ("krum_backdoor", {"strategy": "converge"}),
  ],
)
def test_entry_knows_what_each_form_sees(name, settings):
  built = getattr(alternating, name)(TARGET, np.int32([0]), **settings)
  assert ATTACKS[name].seen_with(settings) == built.sees


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"boost": 0.0}, "boost"),
    ({"rho": -1.0}, "rho"),
    ({"stealth_steps": 0}, "stealth_steps"),
    ({"mal_epochs": -1}, "mal_epochs"),
    ({"anchor": "others"}, "anchor"),
    ({"strategy": "both"}, "strategy"),
    ({"distance": "l1"}, "distance"),
    ({"order": "random"}, "order"),
    ({"hold_off": 1.5}, "hold_off"),
    ({"form": "black_box"}, "form"),
  ],
)
def test_bad_setting_raises_with_its_name(settings, name):
  with pytest.raises(ValueError, match=f"`{name}`"):
    attack(**settings)


def test_no_target_raises():
  with pytest.raises(ValueError, match="D_mal"):
    alternating.krum_backdoor(np.zeros([0, 1, 2, 1]), np.zeros([0]))


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


SURE = [np.float32([[30.0, -30.0], [0.3, 0.05]]), np.zeros(2, np.float32)]


def test_no_malicious_step_where_the_target_is_certain(monkeypatch):
  """Logits (60, -60): CE(D_mal) is exactly 0, so its optimizer's momentum rests too."""
  monkeypatch.setattr(sys.modules[__name__], "THETA", SURE)
  found = craft(attack(form="self", rho=0.0, mal_epochs=1, boost=5.0))
  expected = plain_training(SURE, 1, malicious=False)
  assert_close(found, minus(SURE, expected))


@pytest.mark.parametrize(("check_every", "steps"), [(1, 3), (2, 3), (4, 5), (100, 101)])
def test_converge_looks_at_the_loss_every_so_often(monkeypatch, check_every, steps):
  """CE is 0.44, then 0.33, 0.26, 0.21, 0.18: three steps suffice."""
  monkeypatch.setattr(alternating, "_CONVERGED", 0.22)
  backdoor = alternating.coomed_backdoor(
    TARGET, np.int32([0]), check_every=check_every, mal_epochs=1
  )
  model = keras_fn()
  model.set_weights(THETA)
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  for _ in range(steps):
    with tf.GradientTape() as tape:
      value = loss([0], model(TARGET))
    descend(model, tape, value)
  assert_close(craft(backdoor), minus(THETA, model.get_weights()))
