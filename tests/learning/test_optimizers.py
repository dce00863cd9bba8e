"""Coupled weight decay against PyTorch's SGD written in NumPy."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.doubles import dataset, one_weight_model
from tff_defenses.learning import client_work, optimizers

SPECS = (tf.TensorSpec([2, 2]), tf.TensorSpec([3]))


def torch_sgd(weights, gradients, rate, momentum, decay):
  """torch.optim.SGD as documented: g += decay w; b = momentum b + g; w -= rate b."""
  weights, buffers = [w.astype(float) for w in weights], None
  for step in gradients:
    step = [g + decay * w for g, w in zip(step, weights, strict=True)]
    if buffers is None:
      buffers = step
    else:
      buffers = [momentum * b + g for b, g in zip(buffers, step, strict=True)]
    weights = [w - rate * b for w, b in zip(weights, buffers, strict=True)]
  return weights


def run(optimizer, weights, gradients):
  state = optimizer.initialize(SPECS)
  for step in gradients:
    state, weights = optimizer.next(state, tensors(weights), tensors(step))
  return weights


def tensors(arrays):
  return tuple(None if x is None else tf.constant(x) for x in arrays)


def random_steps(rng, steps=3):
  def draw():
    return tuple(rng.normal(size=spec.shape).astype(np.float32) for spec in SPECS)

  return draw(), [draw() for _ in range(steps)]


@pytest.mark.parametrize(
  ("momentum", "decay"), [(0.9, 1e-4), (0.9, 0.5), (0.0, 0.1), (0.5, 0.0)]
)
def test_three_steps_equal_torch_style_sgd(momentum, decay, rng):
  weights, gradients = random_steps(rng)
  optimizer = optimizers.build_client_optimizer("sgd", 0.1, momentum, decay)
  found = run(optimizer, weights, gradients)
  expected = torch_sgd(weights, gradients, 0.1, momentum, decay)
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_decay_alone_by_hand():
  # No gradient: w = 2 (1 - 0.1 * 0.5) = 1.9, on biases too.
  optimizer = optimizers.CoupledWeightDecay(
    tff.learning.optimizers.build_sgdm(0.1), 0.5
  )
  zeros = (np.zeros([2, 2], np.float32), np.zeros(3, np.float32))
  for w in run(optimizer, tuple(z + 2 for z in zeros), [zeros]):
    np.testing.assert_allclose(w, np.full_like(w, 1.9), rtol=1e-6)


def test_under_adam_the_decay_passes_through_the_moments(rng):
  """Coupled, unlike adamw: the gradient of a zero loss is the decay alone."""
  weights, _ = random_steps(rng)
  coupled = optimizers.build_client_optimizer("adam", 0.1, weight_decay=0.3)
  plain = optimizers.build_client_optimizer("adam", 0.1)
  zeros = tuple(np.zeros_like(w) for w in weights)
  decay = tuple(np.float32(0.3) * w for w in weights)
  for a, b in zip(
    run(coupled, weights, [zeros]), run(plain, weights, [decay]), strict=True
  ):
    np.testing.assert_array_equal(a, b)


def test_a_variable_without_gradient_stays_as_in_pytorch(rng):
  weights, (gradients,) = random_steps(rng, 1)
  optimizer = optimizers.build_client_optimizer("sgd", 0.1, 0.9, 0.5)
  moved, stayed = run(optimizer, weights, [(gradients[0], None)])
  assert np.any(moved != weights[0])
  np.testing.assert_array_equal(stayed, weights[1])


def test_settings_are_those_of_the_inner_optimizer():
  optimizer = optimizers.build_client_optimizer("sgd", 0.1, 0.9, 1e-4)
  state = optimizer.initialize(SPECS)
  assert optimizer.get_hparams(state) == {"learning_rate": 0.1, "momentum": 0.9}
  rate = collections.OrderedDict(learning_rate=0.4)
  changed = optimizer.set_hparams(state, rate)
  assert optimizer.get_hparams(changed) == {"learning_rate": 0.4, "momentum": 0.9}


def test_set_rate_is_the_one_that_steps(rng):
  weights, gradients = random_steps(rng, 1)
  optimizer = optimizers.build_client_optimizer("sgd", 0.1, weight_decay=0.2)
  state = optimizer.initialize(SPECS)
  state = optimizer.set_hparams(state, collections.OrderedDict(learning_rate=0.4))
  _, found = optimizer.next(state, tensors(weights), tensors(gradients[0]))
  expected = torch_sgd(weights, gradients, 0.4, 0.0, 0.2)
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(("round_number", "rate"), [(1, 0.1), (3, 0.025)])
def test_decays_by_round_in_client_work(round_number, rate):
  # w = 1, x = 1, y = 3: gradient -4, with decay -4 + 0.5.
  optimizer = optimizers.build_client_optimizer("sgd", 0.1, 0.9, 0.5)
  work = client_work.ClientWork(optimizer, rate_decay=0.5)
  train = client_work.build_train_fn(one_weight_model(), work)
  weights = tff.learning.models.ModelWeights([np.float32([[1.0]])], [])
  update, _, _ = train(weights, dataset([1], [3]), tf.constant(round_number))
  assert float(update[0][0, 0]) == pytest.approx(rate * -3.5, rel=1e-5)


def test_names_give_tffs_optimizers():
  rate = 0.1
  adam = optimizers.build_client_optimizer("adam", rate)
  sgd = optimizers.build_client_optimizer("sgd", rate)
  assert type(adam) is type(tff.learning.optimizers.build_adam(rate))
  assert type(sgd) is type(tff.learning.optimizers.build_sgdm(rate))
  assert "momentum" not in sgd.get_hparams(sgd.initialize(SPECS))
  decayed = optimizers.build_client_optimizer("sgd", rate, weight_decay=1e-4)
  assert isinstance(decayed, optimizers.CoupledWeightDecay)


def test_unknown_name_raises():
  with pytest.raises(ValueError, match="`name` must be 'adam' or 'sgd', got 'adamw'"):
    optimizers.build_client_optimizer("adamw", 0.1)


@pytest.mark.parametrize("decay", [-1e-4, float("nan")])
def test_bad_weight_decay_raises_with_its_name(decay):
  with pytest.raises(ValueError, match="CoupledWeightDecay: `weight_decay` .* got"):
    optimizers.build_client_optimizer("sgd", 0.1, 0.9, decay)
