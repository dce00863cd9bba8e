"""RSA with workers that keep their models: by hand, simulated, and under attack."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tests import doubles
from tests.doubles import dataset, one_weight_model
from tff_defenses.learning import rsa_process

TINY_FN = split.make_model_fn(doubles.tiny_keras)
BY_HAND = {"penalty": 0.5, "weight_decay": 0.25, "step_size": 0.25}
HONEST = [dataset([1], [2]), dataset([1], [3])]
SETTINGS = ("penalty", "weight_decay", "step_size", "gradient_scale")
NO_DATA = dataset([], [])
in_tff = pytest.mark.usefixtures("runtime")


@pytest.fixture(scope="module")
def by_hand():
  """The one-weight process that most tests share."""
  return rsa_process.build_rsa(one_weight_model, **BY_HAND)


def start(process, clients=2):
  state = process.initialize()
  return state, [process.initial_client_state(state) for _ in range(clients)]


def holding(number):
  """The state of a worker of the one-weight model."""
  return collections.OrderedDict(model=[np.float32([[number]])], statistics=[])


def server_weight(state):
  return float(state.global_model_weights.trainable[0][0, 0])


def own_weight(client_state):
  return float(client_state["model"][0][0, 0])


def assert_identical(one, two):
  for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@in_tff
def test_two_rounds_of_two_workers_by_hand(by_hand):
  """lambda 1/2, mu 1/4; gradients 2 (x_i - y) for y = 2 and y = 3.

  Round 1, alpha = 1/4, all start from 1: x_i - x_0 = 0 pulls nobody.
    x_1 = 1 - 1/4 (-2) = 3/2; x_2 = 1 - 1/4 (-4) = 2.
    x_0 = 1 - 1/4 (1/2 (-1 - 1) + 1/4 * 1) = 1 + 3/16 = 1.1875.
  Round 2, alpha = 1/4 / sqrt(2); both workers are above x_0 and are pulled down.
    x_1 = 3/2 - alpha (-1 + 1/2); x_2 = 2 - alpha (-2 + 1/2).
    x_0 = 1.1875 - alpha (1/2 (-2) + 1/4 * 1.1875) = 1.1875 + 0.703125 alpha.
  """
  state, clients = start(by_hand)
  state, clients, metrics = by_hand.next(state, clients, HONEST)
  assert [own_weight(c) for c in clients] == [1.5, 2.0]
  assert server_weight(state) == 1.1875
  assert own_weight(by_hand.initial_client_state(state)) == 1.1875
  assert metrics["clients"]["train_loss"] == 2.5  # ((1 - 2)^2 + (1 - 3)^2) / 2
  assert metrics["aggregator"]["step"] == 0.25
  alpha = 0.25 / math.sqrt(2)
  state, clients, metrics = by_hand.next(state, clients, HONEST)
  expected = [1.5 + 0.5 * alpha, 2.0 + 1.5 * alpha]
  np.testing.assert_allclose([own_weight(c) for c in clients], expected, rtol=1e-6)
  np.testing.assert_allclose(server_weight(state), 1.1875 + 0.703125 * alpha, rtol=1e-6)
  np.testing.assert_allclose(metrics["aggregator"]["step"], alpha, rtol=1e-6)
  assert metrics["aggregator"]["weight"].tolist() == [0.5, 0.5]
  assert metrics["aggregator"]["num_rejected"] == 0


def simulate(shards, rounds, penalty, weight_decay, step_size, gradient_scale):
  """RSA on flat NumPy vectors; only the gradients come from TensorFlow."""
  model = doubles.tiny_keras()
  shapes = [v.shape for v in model.trainable_variables]
  cuts = np.cumsum([np.prod(s) for s in shapes])[:-1]
  cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

  def gradient(x, batch):
    parts = np.split(x, cuts)
    model.set_weights([p.reshape(s) for p, s in zip(parts, shapes, strict=True)])
    with tf.GradientTape() as tape:
      loss = cross_entropy(batch["y"], model(batch["x"]))
    return doubles.flat(tape.gradient(loss, model.trainable_variables))

  server = doubles.flat(model.get_weights())
  workers = np.tile(server, (len(shards), 1))
  for t in range(1, rounds + 1):
    alpha = np.float32(step_size / t**0.5)
    for i, shard in enumerate(shards):
      for batch in shard:
        descent = gradient_scale * gradient(workers[i], batch)
        workers[i] -= alpha * (descent + penalty * np.sign(workers[i] - server))
    votes = (server > workers).sum(axis=0) - (server < workers).sum(axis=0)
    server = server - alpha * (penalty * votes + weight_decay * server)
  return server, workers


@in_tff
def test_three_rounds_equal_a_numpy_simulation():
  """Three workers of one, two and three batches a round, gradients divided by three."""
  sizes = enumerate([2, 3, 6])
  shards = [doubles.image_dataset(*doubles.tiny_images(i, size=n)) for i, n in sizes]
  settings = {"penalty": 0.03, "weight_decay": 0.2, "step_size": 0.2}
  settings["gradient_scale"] = 1 / 3
  process = rsa_process.build_rsa(TINY_FN, **settings)
  state, clients = start(process, 3)
  before = doubles.flat(process.get_model_weights(state).trainable)
  for _ in range(3):
    state, clients, _ = process.next(state, clients, shards)
  server, workers = simulate(shards, 3, **settings)
  found = doubles.flat(process.get_model_weights(state).trainable)
  np.testing.assert_allclose(found, server, atol=2e-6)
  assert np.abs(found - before).max() > 0.01
  for client, expected in zip(clients, workers, strict=True):
    own = process.client_weights(state, client)
    np.testing.assert_allclose(doubles.flat(own), expected, atol=2e-6)
  assert np.abs(workers[0] - workers[1]).max() > 0.01


@in_tff
@pytest.mark.parametrize("sent", [1e30, -1e30, 3.4e38])
def test_a_byzantine_worker_moves_the_server_by_alpha_lambda(by_hand, sent):
  """Without data it sends what it holds; alpha lambda = 1/8 on top of 1.1875."""
  state, clients = start(by_hand)
  rogue = holding(sent)
  state, after, metrics = by_hand.next(state, [*clients, rogue], [*HONEST, NO_DATA])
  assert server_weight(state) == 1.1875 + math.copysign(0.125, sent)
  assert [own_weight(c) for c in after[:2]] == [1.5, 2.0]
  assert metrics["aggregator"]["num_rejected"] == 0


@in_tff
@pytest.mark.parametrize("sent", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_has_no_vote(by_hand, sent):
  state, clients = start(by_hand)
  clients, data = [holding(sent), *clients], [NO_DATA, *HONEST]
  state, _, metrics = by_hand.next(state, clients, data)
  assert server_weight(state) == 1.1875
  assert metrics["aggregator"]["num_rejected"] == 1
  assert sorted(metrics["aggregator"]["weight"].tolist()) == [0.0, 0.5, 0.5]


@in_tff
def test_a_worker_whose_training_breaks_keeps_its_model(by_hand):
  state, _ = start(by_hand)
  clients = [holding(0.5), holding(1.0)]
  broken = dataset([1], [np.nan])
  _, after, metrics = by_hand.next(state, clients, [broken, HONEST[0]])
  assert own_weight(after[0]) == 0.5 and own_weight(after[1]) == 1.5
  assert metrics["aggregator"]["num_rejected"] == 1
  assert metrics["clients"]["train_loss"] == 1.0


@in_tff
def test_without_any_vote_the_server_stays_and_the_round_counts(by_hand):
  """Not even the weight decay acts; the step then shrinks as after any round."""
  state, _ = start(by_hand)
  state, _, metrics = by_hand.next(state, [holding(np.nan)], [HONEST[0]])
  assert server_weight(state) == 1.0
  assert metrics["aggregator"]["num_rejected"] == 1
  assert metrics["aggregator"]["weight"].tolist() == [0.0]
  _, _, metrics = by_hand.next(state, [holding(1.0)], [HONEST[0]])
  np.testing.assert_allclose(metrics["aggregator"]["step"], 0.25 / math.sqrt(2))


@in_tff
def test_a_worker_not_drawn_resumes_from_its_own_model(by_hand):
  """Drawn in rounds 1 and 4 (alpha 1/4, 1/8) it goes from 2, not from the server."""
  state, clients = start(by_hand)
  state, clients, _ = by_hand.next(state, clients, HONEST)
  kept = clients[1]
  before = np.copy(kept["model"][0])
  for _ in range(2):
    state, [clients[0]], _ = by_hand.next(state, clients[:1], HONEST[:1])
  assert_identical(clients[1]["model"], [before])
  assert server_weight(state) < 2
  _, after, _ = by_hand.next(state, [kept], HONEST[1:])
  assert own_weight(after[0]) == 2.0 - 0.125 * (-2 + 0.5)


@in_tff
def test_a_worker_without_data_keeps_its_model_bit_for_bit(by_hand):
  state, clients = start(by_hand, 1)
  idle = holding(0.1)
  for _ in range(2):
    state, after, _ = by_hand.next(state, [*clients, idle], [HONEST[0], NO_DATA])
    assert_identical(after[1], holding(0.1))
    clients, idle = after[:1], after[1]


def test_dividing_gradients_by_n_is_a_step_n_times_smaller_and_pulls_n_times_larger():
  """c = 1 / 4 with (alpha, lambda, mu) is c = 1 with (alpha / 4, 4 lambda, 4 mu)."""
  code = rsa_process.RsaSteps(0.5, 0.25, 0.5, gradient_scale=0.25)
  paper = rsa_process.RsaSteps(2.0, 1.0, 0.125)
  own, server, slope = tf.constant([[3.0, 1.0], [2.0, 2.0], [8.0, 4.0]])
  votes = tf.constant([-3.0, 2.0])
  changes = [
    (
      steps.worker_change(own, server, slope, steps.rate(1)).numpy().tolist(),
      steps.server_change(server, votes, steps.rate(1)).numpy().tolist(),
    )
    for steps in (code, paper)
  ]
  # 0.5 (8 / 4 + 0.5), 0.5 (4 / 4 - 0.5); 0.5 (0.5 (-3) + 0.5), 0.5 (0.5 * 2 + 0.5).
  assert changes[0] == ([1.25, 0.25], [-0.5, 0.75])
  assert changes[1] == changes[0]


def test_a_variable_that_the_loss_does_not_see_is_pulled_all_the_same():
  steps = rsa_process.RsaSteps(penalty=0.5)
  change = steps.worker_change(tf.constant([3.0]), tf.constant([2.0]), None, 0.25)
  assert change.numpy().tolist() == [0.125]


def batch_norm_fn():
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      tf.keras.layers.BatchNormalization(momentum=0.0),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Dense(2),
    ]
  )


@in_tff
def test_moving_statistics_stay_with_the_worker():
  process = rsa_process.build_rsa(split.make_model_fn(batch_norm_fn))
  state, clients = start(process)
  first = state.global_model_weights.non_trainable
  data = [doubles.image_dataset(*doubles.tiny_images(i, size=2)) for i in range(2)]
  state, after, _ = process.next(state, clients, data)
  # Momentum 0: the moving mean is that of the only batch.
  means = [float(c["statistics"][0][0]) for c in after]
  expected = [doubles.tiny_images(i, size=2)[0].mean() for i in range(2)]
  np.testing.assert_allclose(means, expected, rtol=1e-5)
  assert_identical(state.global_model_weights.non_trainable, first)


@in_tff
def test_clients_may_be_told_by_number():
  @tff.tensorflow.computation(np.int32)
  def to_dataset(number):
    x, y = tf.ones([1, 1]), tf.fill([1, 1], tf.cast(number, tf.float32))
    return tf.data.Dataset.from_tensors(collections.OrderedDict(x=x, y=y))

  process = rsa_process.build_rsa(
    one_weight_model,
    dataset_computation=to_dataset,
    initial_weights=tff.learning.models.ModelWeights([np.float32([[1.0]])], []),
    **BY_HAND,
  )
  state, clients, _ = process.next(*start(process), [2, 3])
  assert [own_weight(c) for c in clients] == [1.5, 2.0]
  assert server_weight(state) == 1.1875


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "1", None, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting_raises_with_its_name(name, bad):
  with pytest.raises(ValueError, match=f"build_rsa: `{name}` .* must be .*, got"):
    rsa_process.build_rsa(one_weight_model, **{name: bad})


def test_only_the_weight_decay_may_be_zero():
  rsa_process.RsaSteps(weight_decay=0)
  for name in ("penalty", "step_size", "gradient_scale"):
    with pytest.raises(ValueError, match=name):
      rsa_process.RsaSteps(**{name: 0})
  with pytest.raises(ValueError, match="gradient_scale"):
    rsa_process.RsaSteps(gradient_scale=1.5)


def test_parts_that_do_not_fit_the_model_raise_with_their_name():
  wide = tff.learning.models.ModelWeights([np.zeros([2, 1], np.float32)], [])
  with pytest.raises(ValueError, match="initial_weights"):
    rsa_process.build_rsa(one_weight_model, initial_weights=wide)

  @tff.tensorflow.computation(np.int32)
  def numbers(number):
    return tf.data.Dataset.from_tensors(number)

  with pytest.raises(TypeError, match="dataset_computation"):
    rsa_process.build_rsa(one_weight_model, dataset_computation=numbers)
