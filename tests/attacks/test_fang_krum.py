"""The untargeted attack on Krum against the real rule, by hand and in plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from attacks.updates import fang_krum
from attacks.updates.fang_krum import FangKrumAttack
from tests.attacks import rounds
from tff_defenses.aggregators import krum, median

SHAPES = ((3, 3), (3,))  # twelve parameters


def row(benign, step):
  """-lambda s, by the definition."""
  return -np.float32(step) * np.sign(benign.sum(axis=0)).astype(np.float32)


def picked(stack, malicious, f, *, variant="paper", num_selected=1):
  """Whether the real rule picks a malicious row of real rows."""
  scores = krum.krum_scores(stack, f, variant=variant)
  return bool(np.any(krum.select(scores, num_selected).numpy() & malicious))


def with_rows(deltas, malicious, crafted):
  stack = deltas.copy()
  stack[malicious] = crafted
  return stack


def start_by_numpy(benign, n, f):
  """The bound where the search starts."""
  benign = benign.astype(float)
  distances = [sorted(np.linalg.norm(benign - b, axis=1))[1:] for b in benign]
  sums = [sum(row[: max(1, n - f - 2)]) for row in distances]
  root = np.sqrt(np.count_nonzero(benign.sum(axis=0)))
  farthest = np.linalg.norm(benign, axis=1).max()
  return min(sums) / max(1, n - 2 * f - 1) / root + farthest / root


def lambda_by_numpy(deltas, malicious, f, **rule):
  """Halves until the real rule picks a malicious row; rows are really made."""
  benign, n = deltas[~malicious], len(deltas)
  step = start_by_numpy(benign, n, malicious.sum())
  while step >= 1e-5:
    if picked(with_rows(deltas, malicious, row(benign, step)), malicious, f, **rule):
      return step
    step /= 2
  return 0.0


def noisy(seed, **settings):
  """Rounds where benign updates share little, as late in training: Krum can be had."""
  return rounds.drawn(seed, **{"shift": 0.05, **settings})


def test_search_by_hand():
  # 10, 5, 2.5, 1.25: the first below 2.
  search = fang_krum.largest_lambda
  assert float(search(lambda x: x < 2.0, tf.constant(10.0), 1e-5)) == 1.25
  assert float(search(lambda x: x < 20.0, tf.constant(10.0), 1e-5)) == 10.0
  assert float(search(lambda x: x < 1e-6, tf.constant(10.0), 1e-5)) == 0.0
  assert float(search(lambda x: x < 2.0, tf.constant(np.inf), 1e-5)) > 1.0
  assert float(search(lambda x: x < 2.0, tf.constant(np.nan), 1e-5)) == 0.0


def test_one_parameter_by_hand():
  """Benign 1, 2, 4, -1 and four attackers; the rule is told f = 1: five distances.

  s = +1. The start: n - f - 2 = 2 distances, 1 + 2 for the first, over max(1, -1), and
  4 for the farthest: 7. There the attackers' score, three zeros and -1 and 1, is
  36 + 64 = 100, and the best benign one, that of -1, 4 + 9 + 25 + 36 + 36 = 110.
  """
  deltas = np.float32([1, 2, 4, -1, 0, 0, 0, 0])[:, None]
  malicious = np.arange(8) > 3
  changed, measured = rounds.craft(FangKrumAttack(num_byzantine=1), deltas, malicious)
  assert measured == {"lambda": 7.0, "no_attack": 0.0}
  assert changed[malicious].tolist() == [[-7.0]] * 4


def test_krum_is_tried_with_the_f_that_is_told():
  deltas, malicious = noisy(1)
  found = set()
  for told in (0, 1, 3, 6):
    attack = FangKrumAttack(num_byzantine=told)
    step = rounds.craft(attack, deltas, malicious)[1]["lambda"]
    assert step == pytest.approx(lambda_by_numpy(deltas, malicious, told), rel=1e-4)
    found.add(step)
  assert len(found) > 1


@pytest.mark.parametrize("num_selected", [1, 3])
@pytest.mark.parametrize("variant", krum.VARIANTS)
def test_the_servers_own_rule_picks_it_and_not_twice_as_far(variant, num_selected):
  shapes = ((12, 1),)
  found = []
  for seed in range(12):
    deltas, malicious = noisy(seed)
    rule = krum.KrumFactory(2, num_selected, variant=variant)
    attack = FangKrumAttack(rule=rule, shapes=shapes)
    changed, measured = rounds.craft(attack, deltas, malicious)
    step, benign = measured["lambda"], deltas[~malicious]
    expected = row(benign, step)
    assert np.array_equal(changed[malicious], np.stack([expected] * 3))
    settings = {"variant": variant, "num_selected": num_selected}
    assert picked(changed, malicious, 2, **settings) == (measured["no_attack"] == 0)
    if step and step < 0.99 * start_by_numpy(benign, 10, 3):
      twice = with_rows(deltas, malicious, row(benign, 2 * step))
      assert not picked(twice, malicious, 2, **settings)
    by_numpy = lambda_by_numpy(deltas, malicious, 2, **settings)
    assert step == pytest.approx(by_numpy, rel=1e-4)
    found.append(step > 0)
  assert any(found)  # the attack bites


@pytest.mark.parametrize(("n", "f"), [(10, 1), (12, 4), (30, 9), (7, 5), (2, 1)])
def test_lambda_equals_numpy_for_many_sizes(n, f):
  for seed in range(3):
    deltas, malicious = noisy(seed, num_clients=n, malicious=range(n - f, n))
    measured = rounds.craft(FangKrumAttack(), deltas, malicious)[1]
    by_numpy = lambda_by_numpy(deltas, malicious, f)
    assert measured["lambda"] == pytest.approx(by_numpy, rel=1e-4)
    assert measured["no_attack"] == (by_numpy == 0)


def test_krum_moves_against_the_benign_change_and_the_median_stays():
  deltas, malicious = noisy(1)
  rule = krum.KrumFactory(3)
  changed, measured = rounds.craft(FangKrumAttack(rule=rule), deltas, malicious)
  assert measured["no_attack"] == 0
  change = deltas[~malicious].sum(axis=0)
  taken = krum.aggregate(changed, 3).numpy()
  assert np.all(taken * np.sign(change) < 0)
  middle = median.aggregate(changed).numpy()
  assert np.abs(middle).max() < np.abs(deltas).max()


def test_clients_that_agree_leave_no_lambda():
  deltas, malicious = rounds.drawn(0, shift=10.0)
  changed, measured = rounds.craft(FangKrumAttack(), deltas, malicious)
  assert measured == {"lambda": 0.0, "no_attack": 1.0}
  assert not changed[malicious].any()


def test_huge_benign_updates_end_the_search():
  deltas, malicious = noisy(0)
  deltas[0] = 1e30
  changed, _ = rounds.craft(FangKrumAttack(), deltas, malicious)
  assert np.isfinite(changed).all()


def test_rows_that_the_rule_rejects_do_not_count():
  deltas, malicious = noisy(1)
  alone = rounds.craft(FangKrumAttack(), deltas, malicious)[1]
  stack = np.insert(deltas, 3, np.nan, axis=0)
  among = rounds.craft(FangKrumAttack(), stack, np.insert(malicious, 3, False))[1]
  assert among == alone


def test_parameters_without_a_sign_are_left_and_not_counted():
  deltas, malicious = noisy(2)
  deltas[:, [2, 5]] = 0
  changed, measured = rounds.craft(FangKrumAttack(), deltas, malicious)
  assert not changed[malicious][:, [2, 5]].any()
  by_numpy = lambda_by_numpy(deltas, malicious, 3)
  assert measured["lambda"] == pytest.approx(by_numpy, rel=1e-4)


def test_kernels_decide_where_the_rule_compares_kernels_only():
  deltas, malicious = noisy(4)
  deltas[:, 9:] *= 1000  # biases, which the rule does not see
  rule = krum.KrumFactory(1, variant="authors")
  attack = FangKrumAttack(rule=rule, shapes=SHAPES)
  changed, measured = rounds.craft(attack, deltas, malicious)
  kernels = deltas[:, :9]
  by_numpy = lambda_by_numpy(kernels, malicious, 1, variant="authors")
  assert measured["lambda"] == pytest.approx(by_numpy, rel=1e-4)
  expected = row(deltas[~malicious], measured["lambda"])
  assert np.array_equal(changed[4], expected)  # biases go back as well


@pytest.mark.parametrize("size", [1.0, 1e-6])  # of which the steps are a part
def test_authors_form_takes_each_tensor_for_itself(size):
  deltas, malicious = noisy(5)
  deltas *= np.float32(size)
  attack = FangKrumAttack(form="authors", shapes=SHAPES)
  changed, measured = rounds.craft(attack, deltas, malicious)
  steps = []
  for part in (slice(0, 9), slice(9, 12)):
    tensor, step = deltas[:, part], 1.0
    while step >= 1e-8:
      stack = with_rows(tensor, malicious, row(tensor[~malicious], step))
      if picked(stack, malicious, 3, variant="authors"):
        break
      step /= 2
    step = step if step >= 1e-8 else 0.0
    steps.append(step)
    expected = row(tensor[~malicious], step)
    np.testing.assert_allclose(changed[4, part], expected, atol=1e-12)
  assert measured["lambda"] == pytest.approx(np.mean(steps)) and min(steps) > 0


def test_direction_may_be_that_of_the_weights():
  deltas, malicious = noisy(1)
  theta = np.where(np.arange(12) % 2, 100.0, -100.0)
  attack = FangKrumAttack(direction="weights")
  changed, measured = rounds.craft(attack, deltas, malicious, weights=theta)
  expected = -np.float32(measured["lambda"]) * np.sign(theta)
  assert np.array_equal(changed[1], expected.astype(np.float32))


@pytest.mark.parametrize("variant", krum.VARIANTS)
@pytest.mark.parametrize("f", [2, 3, 4, 6])
def test_partial_knowledge_tries_one_more_crafted_update_at_a_time(f, variant):
  rule = krum.KrumFactory(f, variant=variant)
  attack = FangKrumAttack(rule=rule, shapes=((12, 1),), knowledge="partial")
  for seed in range(4):
    deltas, malicious = noisy(seed, num_clients=3 * f + 4, malicious=range(f))
    own, step = deltas[malicious], 0.0
    changed, measured = rounds.craft(attack, deltas, malicious)
    for count in range(1, f + 1):
      neighbours = max(1, f + count - (3 if variant == "authors" else count + 2))
      if count <= neighbours:  # else the copies are each other's
        step = step or lambda_in_small(own, count, variant)
    assert measured["lambda"] == pytest.approx(step, rel=1e-4)
    assert measured["no_attack"] == (step == 0)
    assert np.array_equal(changed[0], row(own, measured["lambda"]))


def lambda_in_small(own, count, variant):
  """Halves until Krum, told `count`, picks a crafted row; they come first."""
  stack = np.concatenate([np.zeros([count, 12], np.float32), own])
  crafted = np.arange(len(stack)) < count
  step = start_by_numpy(own, len(stack), count)
  while step >= 1e-5:
    tried = with_rows(stack, crafted, row(own, step))
    if picked(tried, crafted, count, variant=variant):
      return step
    step /= 2
  return 0.0


@pytest.mark.parametrize("is_multi", [False, True])
@pytest.mark.parametrize(("n", "f"), [(10, 2), (10, 3), (30, 9), (50, 15)])
def test_what_partial_knowledge_finds_passes_the_servers_rule(n, f, is_multi):
  """On all rows and told the true f; the start alone would not pass."""
  num_selected = n - f - 2 if is_multi else 1
  rule = krum.KrumFactory(f, num_selected)
  for seed in range(6):
    drawn = {"num_clients": n, "malicious": range(n - f, n), "num_columns": 200}
    deltas, malicious = noisy(seed, **drawn)
    attack = FangKrumAttack(rule=rule, knowledge="partial")
    changed, measured = rounds.craft(attack, deltas, malicious)
    assert measured["no_attack"] == 0
    assert picked(changed, malicious, f, num_selected=num_selected)
    start = start_by_numpy(deltas[malicious], f + 1, 1)
    untested = with_rows(deltas, malicious, row(deltas[malicious], start))
    assert not picked(untested, malicious, f, num_selected=num_selected)


@pytest.mark.parametrize("num_selected", [1, 5])
@pytest.mark.parametrize("f", [2, 3])
def test_trials_that_copies_win_by_themselves_do_not_count(f, num_selected):
  """Clients agree, so one crafted update is far off; two would be neighbours at 0."""
  deltas, malicious = rounds.drawn(0, malicious=range(f), shift=10.0)
  rule = krum.KrumFactory(f, num_selected)
  attack = FangKrumAttack(rule=rule, knowledge="partial")
  changed, measured = rounds.craft(attack, deltas, malicious)
  assert measured == {"lambda": 0.0, "no_attack": 1.0}
  assert not changed[malicious].any()


def test_the_rule_is_the_papers_with_the_true_f_unless_told():
  deltas, malicious = noisy(1)
  by_default = rounds.craft(FangKrumAttack(), deltas, malicious)[1]
  told = rounds.craft(FangKrumAttack(num_byzantine=3), deltas, malicious)[1]
  rule = FangKrumAttack(rule=krum.KrumFactory(3))
  assert by_default == told == rounds.craft(rule, deltas, malicious)[1]


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ({"form": "exact"}, "form"),
    ({"direction": "up"}, "direction"),
    ({"num_byzantine": -1}, "num_byzantine"),
    ({"rule": "krum"}, "rule"),
    ({"form": "authors"}, "shapes"),
    ({"rule": krum.KrumFactory(1, variant="authors")}, "shapes"),
    ({"rule": krum.KrumFactory(3), "num_byzantine": 0}, "num_byzantine"),
    ({"knowledge": "partial", "num_byzantine": 3}, "num_byzantine"),
  ],
)
def test_bad_settings_raise_with_their_name(settings, name):
  with pytest.raises(ValueError, match=f"FangKrumAttack: `{name}`"):
    FangKrumAttack(**settings)
