"""Rounds split over several workers, and what is refused there."""

import collections
import time

import numpy as np
import pytest

import tff_defenses as td
from attacks.training import scaling
from tests import doubles
from tff_defenses.runtime import LocalWorker, WorkerError, use_remote_workers


def test_clients_are_split_over_remote_workers(own_runtime, total):
  workers = [LocalWorker(), LocalWorker()]
  for worker in workers:
    worker.start()
  addresses = [worker.address for worker in workers]
  with use_remote_workers(addresses, connect_seconds=3) as remote:
    assert remote.call(total, [1, 2, 3]) == 6
    workers[1].stop()
    started = time.monotonic()
    with pytest.raises(WorkerError, match=addresses[1]):
      remote.call(total, [1, 2, 3], max_restarts=0)
    assert time.monotonic() - started < 5
  assert workers[0].is_alive  # it is not ours to end
  with use_remote_workers(addresses[:1]) as remote:
    assert remote.call(total, [4, 5]) == 9
  workers[0].stop()


@pytest.fixture(scope="module")
def two_addresses():
  workers = [LocalWorker(), LocalWorker()]
  for worker in workers:
    worker.start()
  yield [worker.address for worker in workers]
  for worker in workers:
    worker.stop()


def read_one_image():
  """Client k's dataset, which pulls the only weight towards k."""
  import tensorflow as tf
  import tensorflow_federated as tff

  from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE

  @tff.tensorflow.computation(CLIENT_INPUT_TYPE)
  def read(client):
    goal = tf.cast(client["client_index"], tf.float32)
    data = collections.OrderedDict(x=tf.ones([1, 1]), y=tf.reshape(goal, [1, 1]))
    return tf.data.Dataset.from_tensor_slices(data).batch(1)

  return read


ONE_IMAGE_CLIENTS = [
  collections.OrderedDict(shard="", client_index=k, is_malicious=False, seed=0)
  for k in (3, 0, 9, 1, 4)
]


def representations(weights):
  """Stands for PLRs, [2, 1], of the only weight."""
  import tensorflow as tf

  return tf.reshape(weights[0], [1, 1]) * [[1.0], [2.0]]


RULES = {
  "krum": td.KrumFactory(1),
  "median": td.CoordinateMedianFactory(),
  "foolsgold": td.FoolsGoldFactory("all"),
  "flare": td.FlareFactory(representations),
  "flame": td.FlameFactory(0.0),
  "fltrust": td.FLTrustFactory(lambda weights: [0.5 * weights[0]]),
  "mixing": td.NearestNeighbourMixingFactory(td.CoordinateMedianFactory(), 1),
}


def over_one_and_two(runtime, addresses, rule, clients, **settings):
  """(weights, metrics) of two rounds on one worker, and the same on two."""
  import tensorflow_federated as tff

  from tests.doubles import one_weight_model

  sgd = tff.learning.optimizers.build_sgdm(0.25)
  process = td.build_fed_avg(
    *(one_weight_model, sgd, rule),
    dataset_computation=read_one_image(),
    measure_norms=True,  # as the harness does
    **settings,
  )

  def two_rounds(runtime):
    state = runtime.call(process.initialize)
    for _ in range(2):
      state, metrics = runtime.call(process.next, state, clients)
    return state.global_model_weights.trainable, metrics

  expected = two_rounds(runtime)
  with use_remote_workers(addresses) as remote:
    return expected, two_rounds(remote)


def assert_same_round(expected, found):
  """Weights, lengths of updates and what the rule measured."""
  for a, b in zip(found[0], expected[0], strict=True):
    np.testing.assert_array_equal(a, b)
  norms = [metrics["clients"]["update_norm"] for _, metrics in (expected, found)]
  assert len(set(norms[0])) > 1
  np.testing.assert_array_equal(*norms)
  for name, value in expected[1]["aggregator"].items():
    np.testing.assert_array_equal(found[1]["aggregator"][name], value)


@pytest.mark.parametrize("name", RULES)
def test_rules_see_the_same_clients_over_two_workers(own_runtime, two_addresses, name):
  both = over_one_and_two(own_runtime, two_addresses, RULES[name], ONE_IMAGE_CLIENTS)
  assert_same_round(*both)


def test_an_attackers_model_is_the_same_over_two_workers(own_runtime, two_addresses):
  clients = [
    collections.OrderedDict(client, is_malicious=client["client_index"] == 9)
    for client in ONE_IMAGE_CLIENTS
  ]
  settings = {
    "training_attack": scaling.ScalingAttack(gamma=3.0),
    "measure_attack": True,
  }
  both = over_one_and_two(
    *(own_runtime, two_addresses, td.KrumFactory(1), clients), **settings
  )
  assert_same_round(*both)
  expected, found = (metrics["crafted"] for _, metrics in both)
  assert doubles.equal(expected, found)


def test_clients_that_keep_a_state_need_one_worker(own_runtime, two_addresses):
  """TFF 0.87 gives the states back in another order than that of the clients."""
  import tensorflow_federated as tff

  from tests.doubles import one_weight_model

  sgd = tff.learning.optimizers.build_sgdm(0.25)
  reading = {"dataset_computation": read_one_image()}
  process = td.build_fl_plas(one_weight_model, sgd, ["*"], **reading)
  server = own_runtime.call(process.initialize)
  states = [process.initial_client_state(server) for _ in ONE_IMAGE_CLIENTS]
  call = (process.next, server, states, ONE_IMAGE_CLIENTS)
  own_runtime.call(*call)
  with use_remote_workers(two_addresses) as remote:
    with pytest.raises(ValueError, match="must run on one worker, got 2"):
      remote.call(*call)
    with pytest.raises(ValueError, match="must run on one worker, got 2"):
      process.next(*call[1:])
  with use_remote_workers(two_addresses[:1]) as remote:
    remote.call(*call)


def test_remote_worker_that_does_not_answer_is_named():
  with pytest.raises(WorkerError, match=r"no answer from 127\.0\.0\.1:9\."):
    use_remote_workers(["127.0.0.1:9"], connect_seconds=0.5)


@pytest.mark.parametrize("addresses", [[], ["host"], ["a:1", "a:1"], [":8000"]])
def test_wrong_addresses_raise(addresses):
  with pytest.raises(ValueError, match="addresses"):
    use_remote_workers(addresses)


def test_connect_seconds_must_be_positive():
  with pytest.raises(ValueError, match="connect_seconds"):
    use_remote_workers(["127.0.0.1:9"], connect_seconds=0)
