"""What holds for every defense of the list, whatever its method."""

import dataclasses
import inspect
import re
import sys

import numpy as np
import pytest
import tensorflow_federated as tff

import tff_defenses as td
from tests.contract import (
  NO_FACTORIES,
  NUM_CLIENTS,
  TELLS_CLIENTS_APART,
  assert_within,
  build,
  documented_measurements,
  each_aggregator,
  each_entry,
  each_that_does_not,
  each_that_promises,
  honest_updates,
  in_tff,
  promises,
  run,
  unified,
  weights_type,
)
from tff_defenses.aggregators import NEEDS, PROMISES, AggregatorSpec
from tff_defenses.aggregators.spec import MAJORITY


@each_entry
def test_entry_is_complete(name):
  spec = td.AGGREGATORS[name]
  assert spec.name == name and spec.needs <= NEEDS
  assert spec.promises <= PROMISES
  assert spec.paper and spec.anchor and str(spec.assumption) and spec.summary
  assert spec.assumption.holds(NUM_CLIENTS, 0)


@pytest.mark.parametrize("field", ["needs", "promises"])
def test_unknown_words_raise_with_their_name(field):
  words = {"needs": frozenset(), "promises": frozenset(), field: frozenset({"magic"})}
  texts = {"paper": "", "anchor": "", "summary": ""}
  with pytest.raises(ValueError, match=f"AggregatorSpec x: unknown {field} .*magic"):
    AggregatorSpec("x", build, assumption=MAJORITY, **words, **texts)


@pytest.mark.parametrize("name", NO_FACTORIES)
def test_entries_that_aggregate_nothing_promise_nothing_and_take_no_settings(name):
  spec = td.AGGREGATORS[name]
  assert "client_state" in spec.needs and not spec.promises
  assert build(name) is None
  with pytest.raises(TypeError, match="temperature"):
    spec.build({}, temperature=1.0)


@each_aggregator
def test_result_type_is_input_type(name):
  result = unified(name).next.type_signature.result.result
  assert result.member.is_identical_to(weights_type())
  assert result.placement is tff.SERVER


@each_aggregator
def test_repr_shows_every_setting(name):
  factory = build(name)
  assert dataclasses.is_dataclass(factory)
  for field in dataclasses.fields(factory):
    assert f"{field.name}={getattr(factory, field.name)!r}" in repr(factory)
  assert " at 0x" not in repr(factory)  # the same in every run


@each_aggregator
def test_docstrings_hold_what_a_reader_needs(name):
  factory = build(name)
  text = inspect.getdoc(type(factory))
  for part in ("Type:", "Measurements:", "Args:", "Raises:", "Deviations:"):
    assert re.search(f"^{part}", text, re.M), part
  for field in dataclasses.fields(factory):
    assert re.search(rf"^  {field.name}: ", text, re.M), field.name
  assert "Reference:" in sys.modules[type(factory).__module__].__doc__


@in_tff
@each_aggregator
def test_measurements_are_the_documented_ones(name):
  _, output = run(name, honest_updates())
  assert set(output.measurements) == documented_measurements(build(name))


@in_tff
@each_aggregator
def test_weights_of_clients_sum_to_one(name):
  _, output = run(name, honest_updates())
  measured = output.measurements
  weight = measured["weight"] if "weight" in measured else measured["trust"]
  assert weight.shape == (NUM_CLIENTS,) and weight.min() >= 0
  assert weight.sum() == pytest.approx(1, abs=1e-5)
  if "selected" in measured:
    assert measured["selected"].dtype == bool
    assert (weight[~measured["selected"]] == 0).all()


@in_tff
@each_that_promises("returns_equal_clients")
def test_equal_clients_give_that_client_back(name):
  updates = np.repeat(honest_updates(clients=1), NUM_CLIENTS, axis=0)
  row, _ = run(name, updates)
  np.testing.assert_allclose(row, updates[0], rtol=1e-5)


@in_tff
@each_that_does_not("returns_equal_clients")
def test_equal_clients_give_no_other_direction(name):
  """Rules that rescale, add noise or distrust equal clients; never the wrong way."""
  updates = np.repeat(honest_updates(clients=1), NUM_CLIENTS, axis=0)
  row, _ = run(name, updates)
  assert np.isfinite(row).all() and row @ updates[0] >= 0
  assert np.linalg.norm(row) <= np.linalg.norm(updates[0]) * 1.1 + 1e-3


@in_tff
@each_that_promises("returns_equal_clients")
def test_one_client_alone_is_returned(name):
  updates = honest_updates(clients=1)
  row, _ = run(name, updates)
  np.testing.assert_allclose(row, updates[0], rtol=1e-6)


@in_tff
@each_aggregator
@pytest.mark.parametrize("keeps_index", [True, False])
def test_permuting_clients_changes_nothing(name, keeps_index):
  """Another order of arrival, and other indices for the same clients."""
  if name in TELLS_CLIENTS_APART and not keeps_index:
    pytest.skip(TELLS_CLIENTS_APART[name])
  updates = honest_updates()
  order = np.random.default_rng(5).permutation(NUM_CLIENTS).tolist()
  row, output = run(name, updates)
  again, permuted = run(name, updates[order], order if keeps_index else None)
  np.testing.assert_allclose(again, row, rtol=1e-5, atol=1e-6)
  for key, value in output.measurements.items():
    if np.ndim(value) == 1:
      moved = value if keeps_index else value[order]
      np.testing.assert_allclose(permuted.measurements[key], moved, rtol=1e-4)


@in_tff
@each_aggregator
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_is_not_finite_moves_nothing_out_of_the_span(name, bad, whole):
  updates = honest_updates()
  updates[2, slice(None) if whole else 7] = bad
  row, output = run(name, updates)
  if promises(name, "returns_equal_clients"):
    assert_within(row, np.delete(updates, 2, axis=0))
  assert np.isfinite(row).all()
  assert output.measurements["num_rejected"] == 1
  alone, _ = run(name, np.delete(updates, 2, axis=0), [0, 1, 3, 4, 5])
  np.testing.assert_allclose(row, alone, rtol=1e-5)


@in_tff
@each_aggregator
def test_if_no_client_is_finite_the_weights_stay(name):
  row, output = run(name, np.full_like(honest_updates(), np.nan))
  assert (row == 0.0).all()
  assert output.measurements["num_rejected"] == NUM_CLIENTS


each_huge = pytest.mark.parametrize("huge", [1e30, -1e30])


def with_a_huge_client(huge, whole):
  updates = honest_updates()
  updates[4, slice(None) if whole else 0] = huge
  return updates


@in_tff
@each_that_promises("resists_huge_client")
@each_huge
@pytest.mark.parametrize("whole", [True, False])
def test_a_huge_client_moves_nothing_out_of_the_span(name, huge, whole):
  updates = with_a_huge_client(huge, whole)
  row, output = run(name, updates)
  assert_within(row, np.delete(updates, 4, axis=0))
  if whole:
    assert output.measurements["weight"][4] == 0


@in_tff
@each_that_does_not("resists_huge_client")
@each_huge
def test_a_huge_client_breaks_no_rule(name, huge):
  """Where it may drag the result, that is still a number, and so is what it weighs."""
  row, output = run(name, with_a_huge_client(huge, whole=True))
  assert np.isfinite(row).all()
  assert output.measurements["num_rejected"] == 0
  weight = output.measurements.get("weight", output.measurements.get("trust"))
  assert np.isfinite(weight).all()


@in_tff
@each_that_promises("is_odd")
def test_odd_rules_flip_with_their_updates(name):
  updates = honest_updates()
  row, _ = run(name, updates)
  flipped, _ = run(name, -updates)
  np.testing.assert_allclose(flipped, -row, rtol=1e-5)
