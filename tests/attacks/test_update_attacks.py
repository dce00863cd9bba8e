"""What holds for every update attack: which rows change, what is seen, repetition."""

import re

import numpy as np
import pytest
import tensorflow as tf

from attacks import ATTACKS, SIGHTS
from attacks.updates import base, copy_first
from tests.attacks import rounds

NAMES = [name for name, spec in ATTACKS.items() if spec.kind == "update"]
SUPPLIED = {"rule": None, "shapes": ((3, 4),)}
ODD = np.float32([[np.nan, 1, 2, -0.0], [np.inf, 0, 0, 0]]).repeat(3, axis=1)


def build(name, **settings):
  spec = ATTACKS[name]
  return spec.build(**{n: SUPPLIED[n] for n in spec.needs}, **settings)


def forms():
  """Every attack with every knowledge it can have, and the collusion."""
  for name in NAMES:
    yield name, build(name)
    if hasattr(build(name), "knowledge"):
      yield f"{name}-partial", build(name, knowledge="partial")
  yield "copy_first", copy_first.CopyFirst()
  yield "gaussian-add", build("gaussian", add=True)
  yield "fang_krum-authors", build("fang_krum", form="authors")
  yield "fang_trimmed_mean-updates", build("fang_trimmed_mean", space="updates")
  yield "fang_trimmed_mean-shared", build("fang_trimmed_mean", shared_draw=True)


FORMS = dict(forms())
BENIGN_SEEING = [n for n, a in FORMS.items() if "benign_updates" in a.sees]


def test_all_eight_are_listed():
  assert set(NAMES) == {
    *("fang_krum", "fang_trimmed_mean", "little_is_enough", "inner_product"),
    *("min_max", "min_sum", "sign_flip", "gaussian"),
  }


@pytest.mark.parametrize("name", FORMS)
def test_only_malicious_rows_change_and_all_of_them_do(name):
  deltas, malicious = rounds.drawn(0)
  deltas = np.concatenate([deltas, ODD])  # benign rows nobody may tidy up
  malicious = np.append(malicious, [False, False])
  before = deltas.copy()
  changed, measured = rounds.craft(FORMS[name], deltas, malicious)
  assert rounds.same_bits(changed[~malicious], deltas[~malicious])
  assert rounds.same_bits(deltas, before)
  assert measured["no_attack"] == 0
  moved = np.any(changed != deltas, axis=1)[malicious]
  # The first of them is what the others copy.
  assert moved.tolist() == [name != "copy_first", True, True]


@pytest.mark.parametrize("name", FORMS)
def test_the_seed_and_nothing_else_decides(name):
  deltas, malicious = rounds.drawn(1)
  first = rounds.craft(FORMS[name], deltas, malicious, seed=(5, 2))
  again = rounds.craft(FORMS[name], deltas, malicious, seed=(5, 2))
  assert rounds.same_bits(first[0], again[0]) and first[1] == again[1]
  other = rounds.craft(FORMS[name], deltas, malicious, seed=(5, 3))
  draws = name.startswith("gaussian") or name.startswith("fang_trimmed_mean")
  assert rounds.same_bits(first[0], other[0]) == (not draws)


@pytest.mark.parametrize("name", FORMS)
def test_without_a_malicious_client_nothing_happens(name):
  deltas, _ = rounds.drawn(2)
  deltas = np.concatenate([deltas, ODD])
  changed, measured = rounds.craft(FORMS[name], deltas, np.zeros(12, bool))
  assert rounds.same_bits(changed, deltas)
  assert measured.pop("no_attack") == 1 and not any(measured.values())


@pytest.mark.parametrize("name", BENIGN_SEEING)
def test_without_a_finite_benign_client_nothing_happens(name):
  deltas, _ = rounds.drawn(2)
  for benign in (deltas[:0], ODD):
    stack = np.concatenate([deltas, benign])
    malicious = np.arange(len(stack)) < len(deltas)
    changed, measured = rounds.craft(FORMS[name], stack, malicious)
    assert rounds.same_bits(changed, stack)
    assert measured["no_attack"] == 1
    with pytest.raises(ValueError, match=r"`num_malicious` \(f\) must be below the 10"):
      base.check_round(FORMS[name], 10, 10)
  base.check_round(FORMS[name], 10, 9)


def test_others_need_no_benign_client():
  for name in set(FORMS) - set(BENIGN_SEEING):
    base.check_round(FORMS[name], 4, 4)


ON_SPREAD = (
  *("fang_krum-partial", "fang_trimmed_mean-partial", "little_is_enough-partial"),
  *("min_max-partial", "min_sum-partial"),
)


def test_which_attacks_of_partial_knowledge_need_two_clients():
  partial = [name for name in FORMS if name.endswith("-partial")]
  assert {n for n in partial if FORMS[n].least_malicious == 2} == set(ON_SPREAD)
  assert all(
    FORMS[n].least_malicious == 0 for n in NAMES if hasattr(FORMS[n], "knowledge")
  )


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", ON_SPREAD)
def test_one_row_has_no_spread_to_live_on(name, graph):
  """One malicious client, or two of which one has diverged: nobody to compare with."""
  deltas, _ = rounds.drawn(5)
  one = np.arange(10) == 4
  changed, measured = rounds.craft(FORMS[name], deltas, one, graph=graph)
  assert rounds.same_bits(changed, deltas)
  assert measured.pop("no_attack") == 1 and not any(measured.values())
  deltas[7] = np.nan
  two = one | (np.arange(10) == 7)
  changed, measured = rounds.craft(FORMS[name], deltas, two, graph=graph)
  assert rounds.same_bits(changed, deltas) and measured["no_attack"] == 1
  with pytest.raises(ValueError, match="must be at least 2 with these settings, got 1"):
    base.check_round(FORMS[name], 10, 1)
  base.check_round(FORMS[name], 10, 2)


@pytest.mark.parametrize("name", BENIGN_SEEING)
def test_benign_rows_that_are_not_finite_are_not_seen(name):
  deltas, malicious = rounds.drawn(3)
  alone, _ = rounds.craft(FORMS[name], deltas, malicious)
  stack, flags = np.insert(deltas, [0, 5], ODD, axis=0), np.insert(malicious, [0, 5], 0)
  among, _ = rounds.craft(FORMS[name], stack, flags)
  assert rounds.same_bits(among[flags], alone[malicious])


@pytest.mark.parametrize("name", FORMS)
def test_what_is_seen_is_what_the_threat_model_says(name):
  attack, (deltas, malicious) = FORMS[name], rounds.drawn(4)
  crafted = rounds.craft(attack, deltas, malicious)[0][malicious]
  assert attack.sees and attack.sees <= SIGHTS
  for sight, rows in (("benign_updates", ~malicious), ("own_training", malicious)):
    # Turned as well as scaled: no scale-free rule can miss it.
    altered = np.where(rows[:, None], -3 * deltas, deltas)
    after = rounds.craft(attack, altered, malicious)[0][malicious]
    if sight not in attack.sees:
      assert rounds.same_bits(after, crafted)
    elif name != "gaussian":  # it might see its training, and looks away
      assert not rounds.same_bits(after, crafted)


@pytest.mark.parametrize("name", NAMES)
def test_entries_say_what_the_default_form_sees(name):
  assert build(name).sees == ATTACKS[name].sees


# Krum picks no step backwards from clients that agree so well; `little_is_enough` and
# `min_*` go down along the deviations, whatever the mean.
AGAINST = [name for name in FORMS if name.startswith(("inner", "sign", "fang_trimmed"))]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", AGAINST)
def test_crafted_rows_pull_against_the_benign_mean(name, seed):
  """Clients agree here, so that the way back is clear; a wrong sign cannot hide."""
  rng = np.random.default_rng(seed)
  deltas, malicious = rounds.drawn(seed, shift=0.0)
  common = rng.choice([-1, 1], 12) * rng.uniform(1, 2, 12)
  deltas = (0.05 * deltas + common).astype(np.float32)
  weights = 0.01 * rng.normal(size=12)
  changed, measured = rounds.craft(FORMS[name], deltas, malicious, weights=weights)
  assert measured["no_attack"] == 0
  seen = deltas[~malicious if name in BENIGN_SEEING else malicious]
  pull = (changed[malicious] - seen.mean(axis=0)) * np.sign(common)
  assert np.all(pull < 0)


@pytest.mark.parametrize("name", FORMS)
def test_repr_shows_every_setting(name):
  attack = FORMS[name]
  shown = re.findall(r"(\w+)=", repr(attack))
  assert shown[: len(attack.__dataclass_fields__)] == list(attack.__dataclass_fields__)


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(build(n), "knowledge")])
def test_unknown_knowledge_raises_with_its_name(name):
  with pytest.raises(ValueError, match="`knowledge` must be one of 'full', 'partial'"):
    build(name, knowledge="some")


def test_replace_puts_rows_in_their_clients_order():
  deltas = tf.constant([[1.0], [2.0], [3.0], [4.0]])
  malicious = tf.constant([False, True, False, True])
  one = base.replace(deltas, malicious, tf.constant([9.0])).numpy()
  assert one.tolist() == [[1], [9], [3], [9]]
  each = base.replace(deltas, malicious, tf.constant([[8.0], [9.0]])).numpy()
  assert each.tolist() == [[1], [8], [3], [9]]


@pytest.mark.parametrize("name", [*NAMES, "copy_first"])
def test_a_graph_that_does_not_know_n_does_the_same(name):
  deltas, malicious = rounds.drawn(6)
  deltas[0] = np.nan
  for flags in (malicious, np.zeros(10, bool), np.ones(10, bool)):
    alone, measured = rounds.craft(FORMS[name], deltas, flags)
    traced, found = rounds.craft(FORMS[name], deltas, flags, graph=True)
    np.testing.assert_allclose(traced, alone, rtol=1e-5, atol=1e-6)
    assert found == pytest.approx(measured, rel=1e-5)
    assert rounds.same_bits(traced[~flags], deltas[~flags])
