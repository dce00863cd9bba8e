"""Settings of a factory reach its rule inside TFF: against the pure functions."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import doubles
from tff_defenses.aggregators import (
  base,
  bulyan,
  centered_clipping,
  flame,
  flare,
  fltrust,
  foolsgold,
  geometric_median,
  kernel_mmd,
)

pytestmark = pytest.mark.usefixtures("runtime")

THETA = np.ones(7, np.float32)
ROOT = np.arange(-2, 5, dtype=np.float32)
KERNEL = slice(0, 4)  # of `doubles.UPDATE_TYPE`
ORIGIN = np.zeros(7, np.float32)

# Factory and pure rule, with what both are told besides the setting.
RULES = {
  "bulyan": (
    functools.partial(bulyan.BulyanFactory, 1),
    functools.partial(bulyan.aggregate, num_byzantine=1),
  ),
  "fltrust": (
    functools.partial(fltrust.FLTrustFactory, lambda theta: tf.constant(ROOT)),
    functools.partial(fltrust.aggregate, root_update=ROOT),
  ),
  "flame": (
    functools.partial(flame.FlameFactory, 0.0),
    functools.partial(flame.aggregate, weights=THETA, noise_multiplier=0.0),
  ),
  "foolsgold": (
    foolsgold.FoolsGoldFactory,
    lambda rows, **settings: foolsgold.aggregate(
      rows, histories=rows[:, KERNEL], **settings
    ),
  ),
  "centered_clipping": (
    functools.partial(centered_clipping.CenteredClippingFactory, 1.0),
    functools.partial(centered_clipping.aggregate, center=ORIGIN, radius=1.0),
  ),
  "geometric_median": (
    geometric_median.GeometricMedianFactory,
    geometric_median.aggregate,
  ),
}


def run(factory, rows):
  """First round at `THETA`, as the learning processes call a factory."""
  process = base.unify(factory, doubles.UPDATE_TYPE)
  info = [
    collections.OrderedDict(client_index=i, num_examples=1.0) for i in range(len(rows))
  ]
  updates = [doubles.update(*row) for row in rows]
  return process.next(process.initialize(), doubles.update(*THETA), updates, info)


def all_but_one(settings):
  """The settings without each of them in turn."""
  return [{k: settings[k] for k in settings if k != name} for name in settings]


@pytest.mark.parametrize(
  ("name", "settings"),
  [
    ("bulyan", {"stage2": "trim"}),
    ("fltrust", {"negative": "abs"}),
    ("flame", {"features": "updates"}),
    ("foolsgold", {"normalise": False}),
    ("centered_clipping", {"num_iterations": 3}),
    ("geometric_median", {"max_iterations": 1, "smoothing": 5.0}),
    ("geometric_median", {"tolerance": 0.5}),
  ],
)
def test_settings_reach_the_rule(name, settings, rng):
  rows = (1 + rng.normal(size=(8, 7))).astype(np.float32)
  rows[0] += 9
  factory, aggregate = RULES[name]
  expected = aggregate(rows, **settings)
  found = doubles.flat(run(factory(**settings), rows).result)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  for fewer in all_but_one(settings):
    assert np.abs(expected - aggregate(rows, **fewer)).max() > 0.02


def trust_by_parts(
  plrs,
  *,
  temperature=1.0,
  temperature_mode="paper",
  neighbour_fraction=0.5,
  mmd="paper",
  bandwidth=None,
):
  """FLARE's trust and distances from its pure functions, one after the other."""
  gamma = {None: None, 2.0: 1 / 8, "median": kernel_mmd.median_gamma(plrs)}[bandwidth]
  distances = flare.pairwise_mmd(plrs, form=mmd, gamma=gamma)
  votes = flare.neighbour_votes(distances, neighbour_fraction)
  trust = flare.trust_scores(votes, temperature, temperature_mode)
  return trust.numpy(), distances.numpy()


@pytest.mark.parametrize(
  "settings",
  [
    {
      "temperature": 0.5,
      "temperature_mode": "mean_votes",
      "neighbour_fraction": 0.7,
      "mmd": "gretton",
    },
    {"bandwidth": 2.0},
    {"bandwidth": "median"},
  ],
)
def test_settings_of_flare_reach_distances_and_trust(settings):
  rng = np.random.default_rng(81)  # each setting counts, and no distances nearly tie
  rows = rng.normal(size=(6, 7)).astype(np.float32)
  plrs = np.stack([doubles.plr_fn(doubles.update(*(THETA - row))) for row in rows])
  trust, distances = trust_by_parts(plrs, **settings)
  measured = run(flare.FlareFactory(doubles.plr_fn, **settings), rows).measurements
  np.testing.assert_allclose(measured["trust"], trust, rtol=1e-5)
  pairs = ~np.eye(6, dtype=bool)
  np.testing.assert_allclose(measured["mmd"][pairs], distances[pairs], atol=1e-5)
  for fewer in all_but_one(settings):
    assert np.abs(trust - trust_by_parts(plrs, **fewer)[0]).max() > 0.05
