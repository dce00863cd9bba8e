"""Crafted updates inside a round: who gets which row, and who sees what."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from attacks.training import scaling
from attacks.updates import copy_first, fang_krum, gaussian, inner_product, sign_flip
from tests.doubles import SlowAttack, one_weight_model
from tff_defenses.aggregators import base, krum, mean
from tff_defenses.learning import fed_avg

pytestmark = pytest.mark.usefixtures("runtime")
SGD = tff.learning.optimizers.build_sgdm(0.25)  # x = 1: a step halves w - y
INPUT_TYPE = tff.to_type(
  collections.OrderedDict(
    target=np.float32, client_index=np.int32, is_malicious=np.bool_
  )
)


@tff.tensorflow.computation(INPUT_TYPE)
def read(client):
  """One image x = 1, y = target."""
  target = tf.reshape(client["target"], [1, 1])
  data = collections.OrderedDict(x=tf.ones([1, 1]), y=target)
  return tf.data.Dataset.from_tensor_slices(data).batch(1)


def clients(targets, malicious=(), order=None):
  """Inputs of clients 0, 1, ..; updates are (1 - target) / 2."""
  order = range(len(targets)) if order is None else order
  return [
    collections.OrderedDict(
      target=float(targets[i]), client_index=i, is_malicious=i in malicious
    )
    for i in order
  ]


class ShowFactory(base.StackedFactory):
  """Measures what an aggregation factory receives."""

  def _rule(self, updates, specs):
    del specs
    shown = collections.OrderedDict(received=updates[:, 0])
    return tf.reduce_mean(updates, axis=0), shown


def build(attack, factory=None, **settings):
  return fed_avg.build_fed_avg(
    one_weight_model,
    SGD,
    factory or ShowFactory(),
    dataset_computation=read,
    update_attack=attack,
    **settings,
  )


def one_round(process, inputs, state=None):
  output = process.next(process.initialize() if state is None else state, inputs)
  return output.state, output.metrics


def weight(state):
  return float(state.global_model_weights.trainable[0][0, 0])


def test_sign_flip_by_hand():
  # Updates -1, 0.5, -2; client 1 sends -0.5: w = 1 + 3.5 / 3.
  process = build(sign_flip.SignFlipAttack())
  state, metrics = one_round(process, clients([3, 0, 5], malicious=[1]))
  assert metrics["aggregator"]["received"].tolist() == [-1, -0.5, -2]
  assert weight(state) == pytest.approx(1 + 3.5 / 3)
  assert dict(metrics["attack"]) == {"no_attack": 0.0}
  assert list(metrics) == ["clients", "aggregator", "attack"]
  assert metrics["clients"]["train_loss"] == pytest.approx((4 + 1 + 16) / 3)


def test_benign_values_are_those_of_a_round_without_attack():
  targets = np.random.default_rng(0).normal(size=5).astype(np.float32)
  inputs = clients(targets, malicious=[0, 3])
  honest = one_round(build(None), inputs)[1]
  attacked = one_round(build(gaussian.GaussianAttack(add=True)), inputs)[1]
  assert "attack" not in honest
  one, two = (m["aggregator"]["received"] for m in (honest, attacked))
  assert one[[1, 2, 4]].tobytes() == two[[1, 2, 4]].tobytes()
  assert np.all(one[[0, 3]] != two[[0, 3]])


def test_each_malicious_client_gets_its_own_row_in_any_order_of_arrival():
  targets, malicious = [3, 0, 5, 9], [1, 3]
  process = build(sign_flip.SignFlipAttack(scale=2.0))
  for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 1]):
    _, metrics = one_round(process, clients(targets, malicious, order))
    expected = np.array([-1, -1, -2, 8])[sorted(order)]
    assert metrics["aggregator"]["received"].tolist() == expected.tolist()


def test_seed_and_round_decide_what_is_drawn():
  def noises(process):
    state, found = None, []
    for _ in range(2):
      state, metrics = one_round(process, clients([3, 0], malicious=[1]), state)
      found.append(metrics["aggregator"]["received"][1])
    return found

  process = build(gaussian.GaussianAttack(), attack_seed=4)
  other = build(gaussian.GaussianAttack(), attack_seed=5)
  first = noises(process)
  assert noises(process) == first
  assert len({*first, *noises(other)}) == 4


def test_nobody_malicious_changes_nothing():
  process = build(sign_flip.SignFlipAttack())
  _, metrics = one_round(process, clients([3, 0, 5]))
  assert metrics["aggregator"]["received"].tolist() == [-1, 0.5, -2]
  assert metrics["attack"]["no_attack"] == 1


def test_a_malicious_client_whose_training_failed_stays_malicious():
  # Sign flip of NaN is rejected; an attack made from the others' rows replaces it.
  inputs = clients([3, np.nan, 5], malicious=[1])
  state, metrics = one_round(build(sign_flip.SignFlipAttack()), inputs)
  assert metrics["aggregator"]["num_rejected"] == 1
  assert weight(state) == pytest.approx(1 + 3 / 2)
  _, metrics = one_round(build(inner_product.InnerProductAttack()), inputs)
  assert metrics["aggregator"]["num_rejected"] == 0
  assert metrics["aggregator"]["received"].tolist() == [-1, 0.75, -2]


def test_a_benign_client_whose_training_failed_is_left_to_the_rule():
  inputs = clients([3, np.nan, 5], malicious=[0])
  _, metrics = one_round(build(sign_flip.SignFlipAttack()), inputs)
  assert metrics["aggregator"]["num_rejected"] == 1
  assert metrics["aggregator"]["received"].tolist() == [1, 0, -2]


def test_krum_picks_what_was_made_for_it():
  targets = [2.0, 4.0, -1.0, 3.5, 0.9, 0, 0, 0, 0]
  rule = krum.KrumFactory(2)
  attack = fang_krum.FangKrumAttack(rule=rule)
  state, metrics = one_round(build(attack, rule), clients(targets, [5, 6, 7, 8]))
  assert metrics["attack"]["lambda"] > 0 and metrics["attack"]["no_attack"] == 0
  assert metrics["aggregator"]["selected"].argmax() == 5
  # Benign clients push w up (their deltas sum to 2.2), Krum takes it down.
  assert weight(state) == pytest.approx(1 - metrics["attack"]["lambda"])


def test_the_papers_sign_reaches_the_attack():
  seen = {}

  class Look:
    """Adds 10 to the malicious deltas: trained weights go up by 10."""

    sees = frozenset({"own_training"})

    def craft(self, deltas, malicious, *, weights, seed):
      seen.update(deltas=deltas.shape, weights=weights.shape, seed=seed.shape)
      changed = tf.where(malicious[:, None], deltas + 10.0 * weights, deltas)
      return changed, collections.OrderedDict(first=weights[0])

  # w = 1; client 0 would send delta 1, and sends 11 as the update -11.
  process = build(Look(), measure_norms=True)
  _, metrics = one_round(process, clients([3, 0], malicious=[0]))
  assert metrics["aggregator"]["received"].tolist() == [-11, 0.5]
  assert metrics["clients"]["update_norm"].tolist() == [11, 0.5]
  assert metrics["attack"]["first"] == 1
  assert seen == {"deltas": [None, 1], "weights": [1], "seed": [2]}


def test_copies_of_what_the_first_attacker_trained():
  # Deltas 1, -0.5, 2, doubled to -1 and 4 by training; client 2 copies client 1.
  process = build(
    copy_first.CopyFirst(), training_attack=scaling.ScalingAttack(gamma=2.0)
  )
  _, metrics = one_round(process, clients([3, 0, 5], malicious=[1, 2]))
  assert metrics["aggregator"]["received"].tolist() == [-1, 1, 1]


@pytest.mark.parametrize(
  ("update_attack", "mean"), [(None, -1.5), (copy_first.CopyFirst(), 1.0)]
)
def test_what_attackers_send_is_told_on_request_only(update_attack, mean):
  """Doubled deltas -1 and 4, updates 1 and -4; or twice the first one."""
  attack = scaling.ScalingAttack(gamma=2.0)
  given = clients([3, 0, 5], malicious=[1, 2])
  for asked in (True, False):
    process = build(update_attack, training_attack=attack, measure_attack=asked)
    _, metrics = one_round(process, given)
    assert ("crafted" in metrics) == asked
    assert ("attack" in metrics) == (update_attack is not None)
    if asked:
      assert float(metrics["crafted"][0]) == mean


def test_an_attacker_that_sends_no_number_does_not_spoil_the_attackers_mean():
  attack = scaling.ScalingAttack(gamma=2.0)
  process = build(None, training_attack=attack, measure_attack=True)
  _, metrics = one_round(process, clients([3, 0, np.nan], malicious=[1, 2]))
  assert float(metrics["crafted"][0]) == 1.0
  for targets, malicious in (([3, 0, 5], []), ([3, np.nan, np.nan], [1, 2])):
    _, metrics = one_round(process, clients(targets, malicious=malicious))
    assert np.isnan(metrics["crafted"][0])


def test_the_rule_gets_nothing_but_updates_and_indices():
  """The type that the factory is given and what it is called with hold no flag."""
  created = []

  class Recorder(mean.FiniteMeanFactory):
    def create_informed(self, value_type):
      process = super().create_informed(value_type)
      created.append(process.next.type_signature.parameter)
      return process

  build(sign_flip.SignFlipAttack(), Recorder())
  model_type = tff.learning.models.weights_type_from_model(one_weight_model)
  _, updates, infos = created[0]
  assert updates.member.is_equivalent_to(model_type.trainable)
  assert infos.member.is_equivalent_to(base.INFO_TYPE)


def test_tffs_own_factories_take_crafted_updates():
  process = build(sign_flip.SignFlipAttack(), tff.aggregators.UnweightedMeanFactory())
  state, _ = one_round(process, clients([3, 0, 5], malicious=[1]))
  assert weight(state) == pytest.approx(1 + 3.5 / 3)


@pytest.mark.parametrize(
  "attacks",
  [{"attack": SlowAttack()}, {"attack": None, "training_attack": SlowAttack()}],
)
def test_the_attacks_time_is_not_the_rules(attacks):
  _, metrics = one_round(build(**attacks), clients([3, 0], malicious=[1]))
  assert metrics["clients"]["seconds_training"] >= 1


@pytest.mark.parametrize("missing", ["client_index", "is_malicious"])
def test_inputs_must_tell_index_and_flag(missing):
  fields = {"client_index": np.int32, "is_malicious": np.bool_}
  del fields[missing]
  argument = tff.to_type(collections.OrderedDict(target=np.float32, **fields))

  @tff.tensorflow.computation(argument)
  def lacking(client):
    del client
    data = collections.OrderedDict(x=tf.ones([1, 1]), y=tf.ones([1, 1]))
    return tf.data.Dataset.from_tensor_slices(data).batch(1)

  with pytest.raises(TypeError, match=f"update_attack.*`{missing}`"):
    fed_avg.build_fed_avg(
      one_weight_model,
      SGD,
      dataset_computation=lacking,
      update_attack=sign_flip.SignFlipAttack(),
    )


@pytest.mark.parametrize("seed", [-1, 1.5])
def test_bad_seed_raises_with_its_name(seed):
  with pytest.raises(ValueError, match="`attack_seed`"):
    build(sign_flip.SignFlipAttack(), attack_seed=seed)
