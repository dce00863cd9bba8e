"""Bucketing by hand, against plain NumPy, and inside TFF."""

import numpy as np
import pytest
import tensorflow as tf

from tests import doubles
from tests.aggregators.test_nearest_neighbour_mixing import run
from tests.doubles import plr_fn
from tff_defenses.aggregators import (
  base,
  bucketing,
  flare,
  foolsgold,
  krum,
  mean,
  norm_clipping,
)
from tff_defenses.aggregators import nearest_neighbour_mixing as nnm


def mix_by_numpy(rows, bucket):
  parts = [rows[bucket == b].astype(float) for b in range(bucket.max() + 1)]
  return np.array([part.mean(axis=0) for part in parts]).astype(np.float32)


def test_means_by_hand():
  rows = tf.constant([[1.0], [2.0], [3.0], [10.0], [7.0]])
  found = bucketing.mix(rows, tf.constant([1, 0, 1, 0, 2]))
  assert found.numpy().tolist() == [[6.0], [2.0], [7.0]]


@pytest.mark.parametrize(
  ("n", "size"), [(1, 2), (6, 2), (7, 2), (7, 3), (3, 5), (4, 1)]
)
def test_buckets_are_full_but_for_the_last(n, size):
  bucket = bucketing.buckets(n, bucket_size=size, seed=3).numpy()
  counts = np.bincount(bucket)
  assert len(counts) == -(-n // size) and (counts[:-1] == size).all()
  assert counts[-1] == n - size * (len(counts) - 1)


def test_the_order_depends_on_seed_and_round_and_on_nothing_else():
  orders = {
    (seed, t): tuple(bucketing.buckets(20, seed=seed, round_number=t).numpy())
    for seed in (0, 1)
    for t in (1, 2)
  }
  assert len(set(orders.values())) == 4
  assert orders[0, 1] == tuple(bucketing.buckets(20).numpy())


def test_each_client_is_as_likely_to_fill_the_last_bucket():
  last = [bucketing.buckets(5, round_number=t).numpy().argmax() for t in range(500)]
  counts = np.bincount(last, minlength=5)
  assert counts.min() > 60 and counts.max() < 140  # 100 each, deviation 9


@pytest.mark.parametrize("huge", [1e30, 3.4e38])
def test_huge_rows_spoil_their_buckets_only(huge, rng):
  rows = rng.normal(size=(8, 5)).astype(np.float32)
  rows[3] = huge
  bucket = bucketing.buckets(8)
  mixed = bucketing.mix(tf.constant(rows), bucket).numpy()
  assert np.isfinite(mixed).all()
  assert np.abs(np.delete(mixed, bucket[3], axis=0)).max() < 10
  rows[:] = np.finfo(np.float32).max
  assert np.isfinite(bucketing.mix(tf.constant(rows), bucket)).all()


@pytest.mark.usefixtures("runtime")
def test_krum_sees_the_buckets_of_the_finite_clients_in_each_round(rng):
  rows = rng.normal(size=(8, 7)).astype(np.float32)
  rows[2, 3] = np.inf
  finite = np.delete(rows, 2, axis=0)
  factory = bucketing.BucketingFactory(krum.KrumFactory(0, 2), seed=4)
  for t in (1, 2):
    output = run(factory, rows, rounds=t)
    bucket = bucketing.buckets(7, seed=4, round_number=t).numpy()
    mixed = mix_by_numpy(finite, bucket)
    expected = krum.aggregate(tf.constant(mixed), 0, num_selected=2)
    np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-5)
    measured = output.measurements
    assert np.delete(measured["bucket"], 2).tolist() == (bucket + 1).tolist()
    assert measured["bucket"][2] == 0 and measured["num_rejected"] == 1
    scores = krum.krum_scores(tf.constant(mixed), 0).numpy()
    found = np.delete(measured["score"], 2)
    np.testing.assert_allclose(found, scores[bucket], rtol=1e-4)
    picked = krum.select(scores, 2).numpy()[bucket]
    assert np.delete(measured["selected"], 2).tolist() == picked.tolist()
    weight = picked * 0.5 / np.bincount(bucket)[bucket]
    np.testing.assert_allclose(np.delete(measured["weight"], 2), weight)
    assert measured["weight"].sum() == pytest.approx(1)
    assert measured["guarantee_holds"]  # 4 buckets, f = 0


@pytest.mark.usefixtures("runtime")
def test_arrival_changes_nothing(rng):
  rows = rng.normal(size=(9, 7)).astype(np.float32)
  factory = bucketing.BucketingFactory(krum.KrumFactory(1), 3)
  order = rng.permutation(9)
  one, two = run(factory, rows), run(factory, rows[order], order)
  np.testing.assert_array_equal(doubles.flat(one.result), doubles.flat(two.result))
  np.testing.assert_array_equal(one.measurements["bucket"], two.measurements["bucket"])


@pytest.mark.usefixtures("runtime")
def test_the_guarantee_counts_buckets():
  # Krum with f = 1 needs 5 rows; 6 clients are 3 buckets of 2.
  for size, expected in ((1, True), (2, False)):
    factory = bucketing.BucketingFactory(krum.KrumFactory(1), size)
    output = run(factory, np.arange(6.0))
    assert output.measurements["guarantee_holds"] == expected


@pytest.mark.usefixtures("runtime")
def test_the_mean_of_equal_buckets_is_the_mean():
  factory = bucketing.BucketingFactory(mean.FiniteMeanFactory())
  output = run(factory, [0.0, 1.0, 5.0, 2.0])
  np.testing.assert_allclose(doubles.flat(output.result), 2.0, rtol=1e-6)
  np.testing.assert_allclose(output.measurements["weight"], [0.25] * 4)


@pytest.mark.usefixtures("runtime")
def test_odd_and_at_home_with_one_and_with_equal_clients(rng):
  factory = bucketing.BucketingFactory(krum.KrumFactory(1))
  rows = rng.normal(size=(7, 7)).astype(np.float32)
  found = doubles.flat(run(factory, rows).result)
  np.testing.assert_allclose(doubles.flat(run(factory, -rows).result), -found)
  for equal in (rows[:1], np.repeat(rows[:1], 5, axis=0)):
    result = doubles.flat(run(factory, equal).result)
    np.testing.assert_allclose(result, rows[0], rtol=1e-6)


@pytest.mark.usefixtures("runtime")
def test_around_a_model_aware_rule_it_is_model_aware(rng):
  rows = rng.normal(size=(7, 7)).astype(np.float32)
  factory = bucketing.BucketingFactory(flare.FlareFactory(plr_fn))
  assert isinstance(factory, base.ModelAwareFactory)
  output = run(factory, np.insert(rows, 3, np.nan, axis=0))
  bucket = bucketing.buckets(7).numpy()
  mixed = mix_by_numpy(rows, bucket)
  plrs = np.stack([plr_fn(doubles.update(*(1 - row))) for row in mixed])
  expected = flare.aggregate(mixed, plrs=plrs)
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-3)
  measured = output.measurements
  assert measured["trust"].sum() == pytest.approx(1) and measured["trust"][3] == 0
  mmd = flare.pairwise_mmd(plrs).numpy()
  found = np.delete(np.delete(measured["mmd"], 3, axis=0), 3, axis=1)
  apart = bucket[:, None] != bucket
  np.testing.assert_allclose(
    found[apart], mmd[np.ix_(bucket, bucket)][apart], rtol=1e-4, atol=1e-6
  )


@pytest.mark.usefixtures("runtime")
def test_wrappers_nest():
  inner = nnm.NearestNeighbourMixingFactory(krum.KrumFactory(0), 0)
  output = run(bucketing.BucketingFactory(inner), [1.0, 2.0, 3.0])
  # f = 0: every mixed row is the mean of both buckets.
  bucket = bucketing.buckets(3).numpy()
  expected = mix_by_numpy(np.float32([[1], [2], [3]]), bucket).mean()
  np.testing.assert_allclose(doubles.flat(output.result), expected, rtol=1e-6)


@pytest.mark.parametrize("inner", [krum.KrumFactory(1), flare.FlareFactory(plr_fn)])
def test_bad_number_raises_with_its_name(inner):
  with pytest.raises(ValueError, match="BucketingFactory: `bucket_size`"):
    bucketing.BucketingFactory(inner, 0)
  with pytest.raises(ValueError, match="BucketingFactory: `seed`"):
    bucketing.BucketingFactory(inner, seed=-1)


def test_a_rule_that_remembers_clients_raises():
  inner = foolsgold.FoolsGoldFactory()
  nested = nnm.NearestNeighbourMixingFactory(inner, 1)
  for rule in (inner, nested):
    with pytest.raises(TypeError, match="BucketingFactory: `inner` must not remember"):
      bucketing.BucketingFactory(rule)


def test_repr_shows_all_settings():
  factory = bucketing.BucketingFactory(norm_clipping.NormClippingFactory(), 3, seed=7)
  inner = repr(norm_clipping.NormClippingFactory())
  assert repr(factory) == f"BucketingFactory(inner={inner}, bucket_size=3, seed=7)"
