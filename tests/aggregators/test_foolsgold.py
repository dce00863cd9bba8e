"""FoolsGold against numbers by hand and a plain NumPy version with loops."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import doubles
from tff_defenses.aggregators import base, foolsgold

# The first two differ from all, the last two point the same way.
HISTORIES = np.float32([[1, 0.1], [0, 1], [-1, -1], [-1, -1.001]])


def weights_by_numpy(histories):
  """Algorithm 1 in plain loops, float64."""
  histories = histories.astype(float)
  n = len(histories)
  similarity = np.zeros((n, n))
  for i in range(n):
    for j in range(n):
      norms = np.linalg.norm(histories[i]) * np.linalg.norm(histories[j])
      if i != j and norms > 0:
        similarity[i, j] = histories[i] @ histories[j] / norms
  largest = similarity.max(axis=1)
  alpha = []
  for i in range(n):
    row = [
      similarity[i, j] * (largest[i] / largest[j] if largest[i] < largest[j] else 1)
      for j in range(n)
    ]
    alpha.append(min(max(1 - max(row), 0), 1))
  if max(alpha) < 1e-9:
    return np.zeros(n)
  alpha = [a / max(alpha) for a in alpha]
  return np.array([logit(0.99 if a == 1 else a) for a in alpha])


def logit(a):
  return 0.0 if a == 0 else min(max(math.log(a / (1 - a)) + 0.5, 0), 1)


def run_rounds(factory, rounds, value_type=doubles.UPDATE_TYPE):
  """Outputs of rounds given as {client index: update}."""
  process = base.unify(factory, value_type)
  state, outputs = process.initialize(), []
  for clients in rounds:
    info = [collections.OrderedDict(client_index=i, num_examples=1.0) for i in clients]
    theta = next(iter(clients.values()))
    outputs.append(process.next(state, theta, list(clients.values()), info))
    state = outputs[-1].state
  return outputs


def test_two_sybils_get_no_weight_by_hand():
  rows = np.float32([[2, 0], [0, 4], [100, 100], [100, 100]])
  histories = tf.constant(HISTORIES)
  rates = foolsgold.learning_rates(foolsgold.cosines(histories)).numpy()
  assert rates.tolist() == [1, 1, 0, 0]
  found = foolsgold.aggregate(rows, histories=histories)
  np.testing.assert_allclose(found, [1, 2])
  divided = foolsgold.aggregate(rows, histories=histories, normalise=False)
  np.testing.assert_allclose(divided, [0.5, 1])


def test_cosines_by_hand():
  found = foolsgold.cosines(tf.constant([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
  root = 0.5**0.5
  np.testing.assert_allclose(found, [[0, root, 0], [root, 0, 0], [0, 0, 0]], atol=1e-15)


def test_pardoning_and_logit_by_hand():
  # v = (.8, .8, .5); row 3: .5 * .5/.8 = .3125; 1 - max = (.2, .2, .6875);
  # / .6875 = (.290909, .290909, 1); ln(.290909/.709091) + .5 = -.391: 0, 0, 1.
  similarities = tf.constant([[0, 0.8, 0.5], [0.8, 0, 0.4], [0.5, 0.4, 0]])
  found = foolsgold.learning_rates(similarities)
  np.testing.assert_allclose(found, [0, 0, 1], atol=1e-6)
  # v = (.5, .5, .3): .3 * .6 = .18; 1 - max = (.5, .5, .82); ratio .609756;
  # ln(.609756/.390244) + .5 = .946287.
  similarities = tf.constant([[0, 0.5, 0.3], [0.5, 0, 0.1], [0.3, 0.1, 0]])
  found = foolsgold.learning_rates(similarities)
  np.testing.assert_allclose(found, [0.946287, 0.946287, 1], atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_equals_numpy(seed):
  rng = np.random.default_rng(seed)
  histories = rng.normal(size=(rng.integers(2, 12), 5)).astype(np.float32)
  histories[0] = 0
  histories[1:4] = histories[1] + 0.1 * rng.normal(size=histories[1:4].shape)
  found = foolsgold.learning_rates(foolsgold.cosines(tf.constant(histories)))
  np.testing.assert_allclose(found, weights_by_numpy(histories), atol=1e-9)


@pytest.mark.parametrize("scale", [1, 3, 1e-3])
def test_equal_directions_all_get_nothing(scale, rng):
  rows = np.repeat(rng.normal(size=(1, 100)), 5, axis=0).astype(np.float32)
  rows[1] *= np.float32(scale)  # rounding must not make a winner
  assert not foolsgold.aggregate(rows).numpy().any()


def test_one_client_is_returned(rng):
  rows = rng.normal(size=(1, 9)).astype(np.float32)
  np.testing.assert_allclose(foolsgold.aggregate(rows), rows[0], rtol=1e-6)


def test_updates_of_zero_count_in_full():
  rows = np.float32([[0, 0], [2, 4]])
  np.testing.assert_allclose(foolsgold.aggregate(rows), [1, 2])


@pytest.mark.parametrize("huge", [1e30, 3.4e38])
def test_a_huge_update_leaves_the_others_as_they_are(huge, rng):
  """Its direction alone counts: the rule has no bound on its length."""
  rows = rng.normal(size=(6, 8)).astype(np.float32)
  long, short = rows.copy(), rows.copy()
  long[2], short[2] = huge, 1.0
  rates = [
    foolsgold.learning_rates(foolsgold.cosines(tf.constant(x))) for x in (long, short)
  ]
  np.testing.assert_allclose(rates[0], rates[1], rtol=1e-6)
  assert np.isfinite(foolsgold.aggregate(long)).all()


def test_memory_grows_with_the_clients_and_stays_finite():
  start = tf.constant([[1.0, 1.0]])
  features = tf.constant([[3.4e38, -3.4e38], [1.0, 2.0]])
  grown = foolsgold.remember(start, features, tf.constant([3, 0]))
  grown = foolsgold.remember(grown, features, tf.constant([3, 0])).numpy()
  largest = np.finfo(np.float32).max
  expected = [[3, 5], [0, 0], [0, 0], [largest, -largest]]
  np.testing.assert_array_equal(grown, np.float32(expected))


def kernel_update(kernel, bias=(0.0, 0.0)):
  """Of `doubles.UPDATE_TYPE`: its only kernel is `a`."""
  return doubles.update(*kernel, *bias, 0.0)


@pytest.mark.usefixtures("runtime")
def test_histories_add_up_by_client_index():
  """Round 2 looks harmless by itself; the sums of clients 1 and 5 are parallel."""
  e = np.eye(4)
  first = {0: e[0], 1: e[1], 5: e[2]}
  second = {5: e[1], 1: e[2], 0: e[0]}  # H_1 = H_5 = e[1] + e[2]
  rounds = [{k: kernel_update(v) for k, v in r.items()} for r in (first, second)]
  outputs = run_rounds(foolsgold.FoolsGoldFactory(), rounds)
  np.testing.assert_allclose(outputs[0].measurements["weight"], [1 / 3] * 3)
  assert outputs[0].measurements["alpha"].tolist() == [1, 1, 1]
  measured = outputs[1].measurements
  assert measured["weight"].tolist() == [1, 0, 0]
  assert measured["selected"].tolist() == [True, False, False]
  np.testing.assert_allclose(measured["max_similarity"], [0, 1, 1], atol=1e-6)
  assert outputs[1].state.shape == (6, 4)
  np.testing.assert_allclose(outputs[1].state[5], e[1] + e[2])
  np.testing.assert_allclose(doubles.flat(outputs[1].result)[:4], e[0])


@pytest.mark.usefixtures("runtime")
def test_only_the_kernel_is_compared_unless_all_is_asked_for():
  """Equal kernels, opposite biases."""
  clients = {
    0: kernel_update((1, 0, 0, 0), (5, 0)),
    1: kernel_update((1, 0, 0, 0), (-5, 0)),
  }
  by_kernel = run_rounds(foolsgold.FoolsGoldFactory(), [clients])[0]
  by_all = run_rounds(foolsgold.FoolsGoldFactory("all"), [clients])[0]
  assert by_kernel.measurements["weight"].tolist() == [0, 0]
  assert not doubles.flat(by_kernel.result).any()
  assert by_all.measurements["weight"].tolist() == [0.5, 0.5]
  assert by_all.state.shape == (2, 7)


@pytest.mark.usefixtures("runtime")
def test_rounds_without_a_finite_update_leave_the_memory():
  bad = doubles.update(float("nan"))
  good = {1: kernel_update((1, 2, 3, 4)), 0: bad}
  outputs = run_rounds(foolsgold.FoolsGoldFactory(), [good, {0: bad, 7: bad}])
  np.testing.assert_array_equal(outputs[0].state, [[0] * 4, [1, 2, 3, 4]])
  np.testing.assert_array_equal(outputs[1].state, outputs[0].state)
  assert outputs[0].measurements["weight"].tolist() == [0, 1]


def test_without_a_kernel_the_last_variable_is_compared():
  specs = [tf.TensorSpec([3]), tf.TensorSpec([2])]
  assert foolsgold.FoolsGoldFactory()._columns(specs) == slice(3, 5)
  value_type = tff.to_type([(np.float32, [3]), (np.float32, [2])])
  state = foolsgold.FoolsGoldFactory().create(value_type).initialize.type_signature
  assert state.result.member.is_identical_to(tff.TensorType(np.float32, [None, 2]))


def test_bad_settings_raise_with_their_names():
  with pytest.raises(ValueError, match="FoolsGoldFactory: `similarity_layer`"):
    foolsgold.FoolsGoldFactory("bias")
  with pytest.raises(TypeError, match="FoolsGoldFactory: `normalise`"):
    foolsgold.FoolsGoldFactory(normalise=1)


@pytest.mark.usefixtures("runtime")
def test_a_last_variable_without_numbers_is_passed_over():
  value_type = tff.to_type([(np.float32, [2]), (np.float32, [0])])
  empty = np.zeros(0, np.float32)
  updates = [[np.float32(row), empty] for row in ([1, 0], [0, 3])]
  output = doubles.run_plain(foolsgold.FoolsGoldFactory(), updates, value_type)
  np.testing.assert_allclose(output.result[0], [0.5, 1.5], rtol=1e-6)
  assert output.state.shape == (2, 2)
