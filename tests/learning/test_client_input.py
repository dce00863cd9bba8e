"""What clients receive: its type, its dataset, and what the aggregator learns of it."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import doubles
from tests.doubles import dataset, one_weight_model
from tff_defenses.aggregators import base, foolsgold, krum, mean, stacking
from tff_defenses.learning import client_work, fed_avg
from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE, ClientInputs

BATCHES = client_work.dataset_type(one_weight_model)
SGD = tff.learning.optimizers.build_sgdm(0.25)


def images_up_to(count):
  """`count` equal images x = 1, y = 3, one a batch."""
  data = collections.OrderedDict(x=tf.constant([[1.0]]), y=tf.constant([[3.0]]))
  # batch() leaves the first dimension unknown, as the model's type has it.
  numbers = tf.data.Dataset.from_tensor_slices(data).repeat(count)
  return numbers.batch(1)


def computation(argument_type, count_of):
  """A dataset computation whose number of images depends on its argument."""

  @tff.tensorflow.computation(argument_type)
  def read(client):
    return images_up_to(tf.cast(count_of(client), tf.int64))

  return read


def client(index, *, shard="", is_malicious=False, seed=0):
  return collections.OrderedDict(
    shard=shard, client_index=index, is_malicious=is_malicious, seed=seed
  )


def info_of(inputs, clients, num_examples):
  """{INFO_TYPE}@CLIENTS as the aggregator gets it, for each client."""

  @tff.tensorflow.computation(base.INFO_TYPE)
  def to_row(info):
    return [tf.cast(info["client_index"], tf.float32), info["num_examples"]]

  report_type = tff.to_type(collections.OrderedDict(num_examples=np.float32))

  @tff.federated_computation(
    tff.FederatedType(inputs.type, tff.CLIENTS),
    tff.FederatedType(report_type, tff.CLIENTS),
  )
  def infos(clients, reports):
    info = inputs.info(clients, reports)
    return tff.federated_map(to_row, info)

  reports = [collections.OrderedDict(num_examples=n) for n in num_examples]
  return [[float(x) for x in row] for row in infos(clients, reports)]


def test_without_a_computation_inputs_are_datasets():
  inputs = ClientInputs(one_weight_model, None)
  assert inputs.type.is_identical_to(BATCHES)
  data = dataset([1], [3])
  assert inputs.dataset(data) is data


def test_with_a_computation_inputs_are_its_arguments():
  read = computation(CLIENT_INPUT_TYPE, lambda c: c["seed"])
  inputs = ClientInputs(one_weight_model, read)
  assert inputs.type.is_identical_to(CLIENT_INPUT_TYPE)


def test_fields_are_found_by_name():
  read = computation(CLIENT_INPUT_TYPE, lambda c: c["seed"])
  inputs = ClientInputs(one_weight_model, read)
  assert all(inputs.has(f) for f in ("shard", "client_index", "is_malicious", "seed"))
  assert not inputs.has("index")
  plain = ClientInputs(one_weight_model, None)
  assert not plain.has("client_index")
  number = ClientInputs(one_weight_model, computation(np.int32, lambda c: c))
  assert not number.has("is_malicious")


def test_a_computation_of_other_batches_raises():
  @tff.tensorflow.computation(np.int32)
  def numbers(client):
    return tf.data.Dataset.range(3)

  with pytest.raises(TypeError, match=r"dataset_computation: must return .* got int64"):
    ClientInputs(one_weight_model, numbers)


def test_a_computation_of_no_dataset_raises():
  @tff.tensorflow.computation(np.int32)
  def number(client):
    return client + 1

  with pytest.raises(TypeError, match="dataset_computation: must return"):
    ClientInputs(one_weight_model, number)


def test_an_attack_needs_the_flag():
  read = computation(CLIENT_INPUT_TYPE, lambda c: c["seed"])
  ClientInputs(one_weight_model, read).require_flag("training_attack")
  for inputs in (
    ClientInputs(one_weight_model, None),
    ClientInputs(one_weight_model, computation(np.int32, lambda c: c)),
  ):
    with pytest.raises(TypeError, match="training_attack: .*`is_malicious`, got"):
      inputs.require_flag("training_attack")


@pytest.mark.usefixtures("runtime")
def test_index_and_examples_reach_the_aggregator():
  read = computation(CLIENT_INPUT_TYPE, lambda c: c["seed"])
  inputs = ClientInputs(one_weight_model, read)
  found = info_of(inputs, [client(4), client(1)], [10.0, 0.5])
  assert found == [[4.0, 10.0], [1.0, 0.5]]


@pytest.mark.usefixtures("runtime")
def test_an_index_of_another_integer_type_works():
  own_type = tff.to_type(collections.OrderedDict(client_index=np.int64))
  inputs = ClientInputs(
    one_weight_model, computation(own_type, lambda c: c["client_index"])
  )
  clients = [collections.OrderedDict(client_index=np.int64(i)) for i in (3, 2)]
  assert info_of(inputs, clients, [1.0, 1.0]) == [[3.0, 1.0], [2.0, 1.0]]


@pytest.mark.usefixtures("runtime")
def test_datasets_have_no_index_and_count_their_examples():
  inputs = ClientInputs(one_weight_model, None)
  clients = [dataset([1], [3])] * 2
  nobody = float(stacking.NO_INDEX)
  assert info_of(inputs, clients, [1.0, 2.0]) == [[nobody, 1.0], [nobody, 2.0]]


@pytest.mark.usefixtures("runtime")
def test_a_rule_that_remembers_clients_trains_on_plain_datasets():
  """FoolsGold tells clients apart by their places, so different ones all count."""
  process = fed_avg.build_fed_avg(
    one_weight_model, SGD, foolsgold.FoolsGoldFactory("all")
  )
  clients = [dataset([1], [3]), dataset([1], [-3])]
  state, metrics = process.next(process.initialize(), clients)
  assert state.aggregator.shape[0] == 2
  assert metrics["aggregator"]["weight"].tolist() == [0.5, 0.5]


@pytest.mark.usefixtures("runtime")
def test_examples_weigh_in_a_round():
  """One image: w = 2; three: w = 2.75. By size: (2 + 3 * 2.75) / 4."""
  read = computation(CLIENT_INPUT_TYPE, lambda c: c["seed"])
  process = fed_avg.build_fed_avg(
    one_weight_model, SGD, mean.FiniteMeanFactory("examples"), dataset_computation=read
  )
  clients = [client(1, seed=3), client(0, seed=1)]
  state, metrics = process.next(process.initialize(), clients)
  assert doubles.flat(state.global_model_weights.trainable)[0] == 2.5625
  # Measurements stand in the order of the index, whatever the arrival.
  assert metrics["aggregator"]["weight"].tolist() == [0.25, 0.75]


@pytest.mark.usefixtures("runtime")
def test_rows_are_in_the_order_of_the_index_in_a_round():
  read = computation(CLIENT_INPUT_TYPE, lambda c: c["seed"])
  process = fed_avg.build_fed_avg(
    one_weight_model, SGD, krum.KrumFactory(1), dataset_computation=read
  )
  # Client 2 has no image and stays at w = 1, far from the other two.
  clients = [client(2, seed=0), client(0, seed=2), client(1, seed=2)]
  _, metrics = process.next(process.initialize(), clients)
  assert metrics["aggregator"]["selected"].tolist() == [True, False, False]
  assert metrics["aggregator"]["score"][2] > 0
