"""Attackers that send one and the same model: ties that only the index decides."""

import numpy as np
import pytest

from tff_defenses.aggregators import flare, kernel_mmd

COPIES, CLIENTS, SAMPLES = 3, 10, 10


def models(seed):
  """Clients near one model, the first of them copies of each other."""
  rng = np.random.default_rng(seed)
  base = rng.normal(size=(SAMPLES, 32))
  plrs = np.maximum(base + 0.3 * rng.normal(size=(CLIENTS, SAMPLES, 32)), 0)
  plrs[:COPIES] = plrs[0]
  return plrs.astype(np.float32), rng.permutation(CLIENTS)


def votes_by_sorting(distances, k):
  """Algorithm 1 by plain sorting of (distance, index)."""
  votes = np.zeros(len(distances), int)
  for i, row in enumerate(distances):
    others = sorted((d, j) for j, d in enumerate(row) if j != i)
    for _, j in others[: k - 1]:
      votes[j] += 1
  return votes


@pytest.mark.parametrize("form", kernel_mmd.FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_copies_are_equally_far_to_the_last_bit_wherever_they_stand(form, seed):
  plrs, order = models(seed)
  found = flare.pairwise_mmd(plrs, form=form).numpy()
  np.testing.assert_array_equal(found[0, COPIES:], found[1, COPIES:])
  np.testing.assert_array_equal(found[0, COPIES:], found[2, COPIES:])
  moved = flare.pairwise_mmd(plrs[order], form=form).numpy()
  np.testing.assert_array_equal(moved, found[np.ix_(order, order)])


@pytest.mark.parametrize("seed", range(12))
def test_what_copies_weigh_together_does_not_hang_on_the_order(seed):
  """The place of a tie at neighbour k among the copies is the lowest index's."""
  plrs, order = models(seed)
  is_copy = np.arange(CLIENTS) < COPIES
  votes = flare.neighbour_votes(flare.pairwise_mmd(plrs)).numpy()
  moved = flare.neighbour_votes(flare.pairwise_mmd(plrs[order])).numpy()
  assert moved[is_copy[order]].tolist() == votes[is_copy].tolist()
  np.testing.assert_array_equal(moved[~is_copy[order]], votes[order][~is_copy[order]])
  assert votes.tolist() == votes_by_sorting(rounded_mmd(plrs), CLIENTS // 2).tolist()


def rounded_mmd(plrs):
  """Eq. (4) by NumPy, rounded far above float64's noise, so that ties are ties."""
  plrs = plrs.astype(float)
  total = np.empty((len(plrs), len(plrs)))
  for i, a in enumerate(plrs):
    for j, b in enumerate(plrs):
      squares = ((a[:, None] - b) ** 2).sum(axis=-1)
      total[i, j] = np.exp(-squares / plrs.shape[-1]).sum()
  within = np.diag(total) - SAMPLES
  pairs = SAMPLES * (SAMPLES - 1)
  return np.round((within[:, None] + within - 2 * total) / pairs, 12)


@pytest.mark.parametrize("num_clients", [3, 6, 7, 10, 11])
@pytest.mark.parametrize("form", kernel_mmd.FORMS)
def test_equal_models_give_the_first_clients_the_votes(form, num_clients, rng):
  plrs = np.repeat(rng.normal(size=(1, 9, 17)), num_clients, axis=0)
  votes = flare.neighbour_votes(flare.pairwise_mmd(plrs, form=form)).numpy()
  k = int(flare.num_neighbours(num_clients, 0.5))
  expected = votes_by_sorting(np.zeros((num_clients, num_clients)), k)
  assert votes.tolist() == expected.tolist()


def test_a_misspelled_mode_or_share_raises():
  with pytest.raises(ValueError, match="`mode`.*mean_votes"):
    flare.trust_scores([0, 1, 5], 1.0, "mean")
  with pytest.raises(ValueError, match="`fraction`.*k / n"):
    flare.neighbour_votes(np.zeros((3, 3)), 2.0)
