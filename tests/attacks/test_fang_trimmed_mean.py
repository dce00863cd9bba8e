"""The untargeted attack on the trimmed mean by hand and against plain NumPy."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from attacks.updates import fang_trimmed_mean
from attacks.updates.fang_trimmed_mean import FangTrimmedMeanAttack
from tests.attacks import rounds
from tff_defenses.aggregators import trimmed_mean

WIDE = 400


def intervals(benign, theta, b=2.0):
  """[low, high] of each crafted weight, by the four cases of the paper."""
  weights, lows, highs = theta + benign, [], []
  for j in range(benign.shape[1]):
    least, most = weights[:, j].min(), weights[:, j].max()
    if benign[:, j].sum() < 0:
      ends = (most, b * most) if most > 0 else (most, most / b)
    else:
      ends = (least / b, least) if least > 0 else (b * least, least)
    lows.append(ends[0])
    highs.append(ends[1])
  return np.array(lows), np.array(highs)


def wide(seed):
  deltas, malicious = rounds.drawn(seed, num_columns=WIDE, shift=0.0)
  return deltas, malicious, np.random.default_rng(seed).normal(0, 5, WIDE)


@pytest.mark.parametrize(
  ("values", "theta", "low", "high"),
  [
    ([-1, -2], 3, 2, 4),  # s = -1, max w = 2 > 0: from 2 to 4
    ([-1, -2], -3, -4, -2),  # s = -1, max w = -4: from -4 up to -2
    ([1, 2], 3, 2, 4),  # s = +1, min w = 4 > 0: from 4 down to 2
    ([1, 2], -3, -4, -2),  # s = +1, min w = -2: from -2 down to -4
  ],
)
def test_the_four_cases_by_hand(values, theta, low, high):
  known, origin = np.float32(values)[:, None], np.float32([theta])
  ends = fang_trimmed_mean.beyond(known, origin, np.float32([[0.0], [1.0]]), 2.0)
  found = sorted((ends.numpy()[:, 0] + theta).tolist())
  assert found == [low, high]
  first = float(ends[0, 0]) + theta  # draw 0 stands at the benign weights
  assert first == theta + (max(values) if values[0] < 0 else min(values))


def test_without_a_sign_the_mean_is_sent():
  known = np.float32([[-1.0], [1.0]])
  found = fang_trimmed_mean.beyond(known, [5.0], np.float32([[0.7]]), 2.0)
  assert found.numpy().tolist() == [[0.0]]


@pytest.mark.parametrize("space", fang_trimmed_mean.SPACES)
@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_draws_fill_the_papers_intervals(space, factor):
  deltas, malicious, theta = wide(0)
  attack = FangTrimmedMeanAttack(space=space, factor=factor)
  changed, _ = rounds.craft(attack, deltas, malicious, weights=theta)
  origin = theta if space == "weights" else np.zeros(WIDE)
  low, high = intervals(deltas[~malicious].astype(float), origin, factor)
  for row in changed[malicious].astype(float):
    share = (row + origin - low) / (high - low)
    assert np.all((share > -1e-3) & (share < 1 + 1e-3))
    assert scipy.stats.kstest(share, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("space", fang_trimmed_mean.SPACES)
def test_every_value_lies_outside_on_the_side_opposite_to_the_sign(space):
  for seed in range(5):
    deltas, malicious, theta = wide(seed)
    attack = FangTrimmedMeanAttack(space=space)
    changed, _ = rounds.craft(attack, deltas, malicious, weights=theta)
    benign, crafted = deltas[~malicious], changed[malicious]
    up = benign.sum(axis=0) > 0
    assert np.all(crafted[:, up] <= benign.min(axis=0)[up])
    assert np.all(crafted[:, ~up] >= benign.max(axis=0)[~up])


def test_the_trimmed_mean_moves_back_although_it_trims_as_many():
  deltas, malicious, theta = wide(3)
  honest = deltas[~malicious]
  changed, _ = rounds.craft(FangTrimmedMeanAttack(), deltas, malicious, weights=theta)
  pulled = trimmed_mean.aggregate(changed, 3).numpy() - honest.mean(axis=0)
  assert np.mean(pulled * np.sign(honest.sum(axis=0)) < 0) > 0.95


def test_clients_draw_for_themselves_unless_told_otherwise():
  deltas, malicious, theta = wide(1)
  each, _ = rounds.craft(FangTrimmedMeanAttack(), deltas, malicious, weights=theta)
  assert len(np.unique(each[malicious], axis=0)) == 3
  shared = FangTrimmedMeanAttack(shared_draw=True)
  one, _ = rounds.craft(shared, deltas, malicious, weights=theta)
  assert len(np.unique(one[malicious], axis=0)) == 1


def test_partial_knowledge_goes_three_to_four_deviations():
  deltas, malicious, theta = wide(2)
  attack = FangTrimmedMeanAttack(knowledge="partial")
  changed, _ = rounds.craft(attack, deltas, malicious, weights=theta)
  own = deltas[malicious].astype(float)
  mean, deviation = own.mean(axis=0), own.std(axis=0)
  steps = (changed[malicious] - mean) / deviation * -np.sign(own.sum(axis=0))
  assert np.all((steps > 3 - 1e-3) & (steps < 4 + 1e-3))
  assert scipy.stats.kstest(steps.ravel() - 3, "uniform").pvalue > 1e-3


def test_a_weight_of_zero_stays():
  # b 0 = 0 / b = 0: the interval has no width.
  known = tf.constant([[1.0], [2.0]])
  found = fang_trimmed_mean.beyond(known, tf.constant([-1.0]), tf.ones([1, 1]), 2.0)
  assert found.numpy().tolist() == [[1.0]]


@pytest.mark.parametrize("factor", [1.0, 0.5, np.nan])
def test_bad_factor_raises_with_its_name(factor):
  with pytest.raises(ValueError, match=r"`factor` \(b\) must be > 1"):
    FangTrimmedMeanAttack(factor=factor)


@pytest.mark.parametrize("settings", [{"factor": 3.0}, {"space": "updates"}])
def test_what_partial_knowledge_does_not_heed_is_refused(settings):
  with pytest.raises(ValueError, match="`factor` and `space` must be left out"):
    FangTrimmedMeanAttack(knowledge="partial", **settings)


def test_unknown_space_raises_with_its_name():
  with pytest.raises(ValueError, match="`space` must be one of 'weights', 'updates'"):
    FangTrimmedMeanAttack(space="gradients")
