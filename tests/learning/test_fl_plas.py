"""FL-PLAS: what is shared, what stays, and that it lives across rounds."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tests.doubles import equal
from tff_defenses.aggregators import krum, mean
from tff_defenses.learning import fed_avg, fl_plas

pytestmark = pytest.mark.usefixtures("runtime")
SGD = tff.learning.optimizers.build_sgdm(0.1)


def keras_fn():
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Dense(
        3, activation="relu", name="features", kernel_initializer="ones"
      ),
      tf.keras.layers.Dense(2, name="classifier", kernel_initializer="ones"),
    ]
  )


MODEL_FN = split.make_model_fn(keras_fn)


def dataset(seed, label, size=4):
  images = np.random.default_rng(seed).random((size, 2, 2, 1), np.float32)
  data = collections.OrderedDict(x=images, y=np.full(size, label, np.int32))
  return tf.data.Dataset.from_tensor_slices(data).batch(2)


CLIENTS = [dataset(0, 0), dataset(1, 1), dataset(2, 1)]


def build(**settings):
  return fl_plas.build_fl_plas(MODEL_FN, SGD, ["features"], **settings)


@pytest.fixture(scope="module")
def process(runtime):
  """With every default; compiled once."""
  return build()


def start(process, clients=3):
  state = process.initialize()
  return state, [process.initial_client_state(state) for _ in range(clients)]


def train_alone(weights, data, *, rate=0.1, epochs=1):
  """One client's round in plain Keras; returns the trained weights."""
  model = keras_fn()
  model.set_weights(weights)
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  for batch in data.repeat(epochs):
    with tf.GradientTape() as tape:
      value = loss(batch["y"], model(batch["x"], training=True))
    gradients = tape.gradient(value, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
      variable.assign_sub(rate * gradient)
  return model.get_weights()


def test_two_rounds_equal_plain_keras_training():
  """Eq. (8) and (9): shared layers averaged, classifiers kept, over two rounds.

  Of two passes each; the learning rate halves from the first to the second.
  """
  process = build(local_epochs=2, rate_decay=0.5, measure_norms=True)
  state, client_states = start(process)
  shared = keras_fn().get_weights()[:2]
  private = [keras_fn().get_weights()[2:] for _ in CLIENTS]
  for rate in (0.1, 0.05):
    state, client_states, metrics = process.next(state, client_states, CLIENTS)
    trained = [
      train_alone([*shared, *p], c, rate=rate, epochs=2)
      for p, c in zip(private, CLIENTS, strict=True)
    ]
    sent = [
      np.concatenate([(t[i] - shared[i]).ravel() for i in range(2)]) for t in trained
    ]
    lengths = [np.linalg.norm(update) for update in sent]
    np.testing.assert_allclose(metrics["clients"]["update_norm"], lengths, rtol=1e-4)
    shared = [np.mean([t[i] for t in trained], axis=0) for i in range(2)]
    private = [t[2:] for t in trained]
    for found, expected in zip(client_states, private, strict=True):
      for a, b in zip(found["private"], expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  found = state.global_model_weights.trainable
  for a, b in zip(found[:2], shared, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_servers_private_variables_never_move(process):
  state, client_states = start(process)
  before = state.global_model_weights.trainable[2:]
  state, client_states, _ = process.next(state, client_states, CLIENTS)
  assert equal(state.global_model_weights.trainable[2:], before)
  assert not np.array_equal(client_states[0]["private"][0], before[0])


def test_everything_shared_is_fed_avg():
  whole = fl_plas.build_fl_plas(MODEL_FN, SGD, ["*"])
  state, client_states = start(whole)
  state, client_states, _ = whole.next(state, client_states, CLIENTS)
  plain = fed_avg.build_fed_avg(MODEL_FN, SGD)
  expected, _ = plain.next(plain.initialize(), CLIENTS)
  assert equal(state.global_model_weights, expected.global_model_weights)
  assert client_states[0]["private"] == []


def test_a_client_not_drawn_keeps_its_state_and_gets_the_new_shared_layers(process):
  state, client_states = start(process)
  state, drawn, _ = process.next(state, client_states[:2], CLIENTS[:2])
  weights = process.client_weights(state, client_states[2])
  assert equal(weights.trainable[:2], state.global_model_weights.trainable[:2])
  assert equal(weights.trainable[2:], client_states[2]["private"])
  # Its later training starts from the layers it now gets: lazy equals eager overwrite.
  _, late, _ = process.next(state, [client_states[2]], [CLIENTS[2]])
  alone = train_alone(tf.nest.flatten(weights.trainable), CLIENTS[2])
  np.testing.assert_allclose(late[0]["private"][0], alone[2], rtol=1e-5, atol=1e-6)
  del drawn


def test_lazy_overwriting_is_eager_overwriting_over_rounds(process):
  """Every client gets the new extractor after each round, or only when it is drawn."""
  clients = [*CLIENTS, dataset(3, 0)]
  state, private = start(process, clients=4)
  whole = [keras_fn().get_weights() for _ in clients]  # eager: overwritten each round
  for drawn in ([0, 1], [1, 3], [2, 0]):
    some = [private[i] for i in drawn], [clients[i] for i in drawn]
    state, new, _ = process.next(state, *some)
    for i, client_state in zip(drawn, new, strict=True):
      private[i] = client_state
      whole[i] = train_alone(whole[i], clients[i])
    shared = [np.mean([whole[i][k] for i in drawn], axis=0) for k in range(2)]
    whole = [[*shared, *weights[2:]] for weights in whole]
  for client_state, weights in zip(private, whole, strict=True):
    found = process.client_weights(state, client_state).trainable
    for a, b in zip(found, weights, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_poisoned_classifier_stays_with_its_client(process):
  """What another client predicts does not depend on it, shared layers being alike."""
  state, (benign, clean) = start(process, clients=2)
  private = [np.full_like(x, 9.0) for x in clean["private"]]
  poisoned = collections.OrderedDict(private=private, statistics=[])
  idle = dataset(1, 1, size=0)  # the second client's shared layers do not move
  found = []
  for second in (clean, poisoned):
    new_state, new_clients, _ = process.next(
      state, [benign, second], [CLIENTS[0], idle]
    )
    found.append(process.client_weights(new_state, new_clients[0]).trainable)
    assert equal(new_clients[1]["private"], second["private"])
  assert equal(*found) and not equal(found[0], state.global_model_weights.trainable)


def test_a_client_with_nan_keeps_its_old_state_and_is_left_out(process):
  state, client_states = start(process)
  broken = dataset(5, 0).map(
    lambda b: collections.OrderedDict(x=b["x"] * np.nan, y=b["y"])
  )
  state, after, metrics = process.next(state, client_states, [*CLIENTS[:2], broken])
  assert metrics["aggregator"]["num_rejected"] == 1
  assert equal(after[2], client_states[2])
  assert np.isfinite(state.global_model_weights.trainable[0]).all()


def test_another_rule_on_the_shared_layers():
  process = build(aggregator=krum.KrumFactory(1))
  state, client_states = start(process)
  state, _, metrics = process.next(state, client_states, CLIENTS)
  (picked,) = np.flatnonzero(metrics["aggregator"]["selected"])
  alone = train_alone(keras_fn().get_weights(), CLIENTS[picked])
  found = state.global_model_weights.trainable
  for a, b in zip(found[:2], alone[:2], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def weights_of_unequal_clients(process):
  """What clients of two and of six images weigh in the mean."""
  state, client_states = start(process, 2)
  clients = [dataset(0, 0, size=2), dataset(1, 1, size=6)]
  _, _, metrics = process.next(state, client_states, clients)
  return metrics["aggregator"]["weight"].tolist()


@pytest.mark.parametrize(
  "settings",
  [{"weighting": "examples"}, {"aggregator": mean.FiniteMeanFactory("examples")}],
)
def test_weighting_by_examples_is_algorithm_1(settings):
  assert weights_of_unequal_clients(build(**settings)) == [0.25, 0.75]


def test_clients_weigh_alike_by_default(process):
  assert weights_of_unequal_clients(process) == [0.5, 0.5]


def batch_norm_fn():
  return tf.keras.Sequential(
    [
      tf.keras.Input([2, 2, 1]),
      tf.keras.layers.BatchNormalization(momentum=0.0, name="features"),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Dense(2, name="classifier"),
    ]
  )


@pytest.fixture(scope="module")
def batch_norm_processes(runtime):
  """Whether moving statistics are shared -> the process."""
  model_fn = split.make_model_fn(batch_norm_fn)
  return {
    shared: fl_plas.build_fl_plas(
      model_fn, SGD, ["features"], share_moving_statistics=shared
    )
    for shared in (False, True)
  }


@pytest.mark.parametrize("factor", [np.nan, 1e30])
def test_a_client_with_broken_statistics_keeps_its_own(batch_norm_processes, factor):
  """1e30: only the variance overflows."""
  process = batch_norm_processes[False]
  state, client_states = start(process, 2)
  broken = dataset(5, 0).map(
    lambda b: collections.OrderedDict(x=b["x"] * factor, y=b["y"])
  )
  _, after, _ = process.next(state, client_states, [CLIENTS[0], broken])
  assert equal(after[1], client_states[1]) and not equal(after[0], client_states[0])


@pytest.mark.parametrize("shared", [False, True])
def test_moving_statistics_stay_unless_they_are_shared(batch_norm_processes, shared):
  process = batch_norm_processes[shared]
  state, client_states = start(process, 2)
  state, after, _ = process.next(state, client_states, CLIENTS[:2])
  means = [float(s["statistics"][0][0]) for s in after]
  assert (means[0] == means[1]) == shared
  assert (float(state.global_model_weights.non_trainable[0][0]) == 0.0) != shared


def test_shared_statistics_reach_clients_that_were_not_drawn(batch_norm_processes):
  process = batch_norm_processes[True]
  state, client_states = start(process, 2)
  state, _, _ = process.next(state, client_states[:1], CLIENTS[:1])
  statistics = state.global_model_weights.non_trainable
  late = process.client_weights(state, client_states[1])
  assert equal(late.non_trainable, statistics)
  assert np.any(statistics[0] != client_states[1]["statistics"][0])


def test_errors_name_what_is_wrong():
  with pytest.raises(ValueError, match="`weighting` must be None beside"):
    build(aggregator=mean.FiniteMeanFactory(), weighting="examples")
  with pytest.raises(ValueError, match="featurs"):
    fl_plas.build_fl_plas(MODEL_FN, SGD, ["featurs"])
  with pytest.raises(ValueError, match="weighting"):
    build(weighting="size")
  with pytest.raises(TypeError, match="client_optimizer"):
    fl_plas.build_fl_plas(MODEL_FN, "sgd", ["features"])
