"""Partitions: the oracles of the papers' splits, and one test per error."""

import numpy as np
import pytest

from tff_defenses.experiments import partition

MNIST_LIKE = (10, 6000)
CIFAR10_LIKE = (10, 5000)
CIFAR100_LIKE = (100, 500)


def rng(seed=0):
  return np.random.default_rng(seed)


def balanced(num_classes, per_class, seed=7):
  return rng(seed).permutation(np.repeat(np.arange(num_classes), per_class))


def sizes(parts):
  return [len(part) for part in parts]


def assert_disjoint(parts, num_images):
  everything = np.concatenate(parts)
  assert all(part.dtype == np.int64 for part in parts)
  assert len(np.unique(everything)) == len(everything)
  assert everything.min() >= 0 and everything.max() < num_images


BUILDS = {
  "iid": lambda labels, g: partition.iid(labels, 10, g),
  "classes": lambda labels, g: partition.by_classes(labels, 10, 2, g),
  "dirichlet": lambda labels, g: partition.dirichlet(labels, 10, 0.5, g),
  "published": lambda labels, g: partition.dirichlet(
    labels, 10, 0.5, g, as_published=True
  ),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_parts_are_disjoint(build):
  assert_disjoint(build(balanced(10, 100), rng()), 1000)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_equal_generators_give_equal_parts_and_others_do_not(build):
  labels = balanced(10, 100)
  first, again, other = (build(labels, rng(seed)) for seed in (1, 1, 2))
  assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
  assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_iid_sizes_are_equal_and_the_remainder_is_dropped():
  assert sizes(partition.iid(np.zeros(103), 10, rng())) == [10] * 10


@pytest.mark.parametrize("num_clients", [0, 11])
@pytest.mark.parametrize(
  "build",
  [
    lambda labels, n: partition.iid(labels, n, rng()),
    lambda labels, n: partition.by_classes(labels, n, 1, rng()),
    lambda labels, n: partition.dirichlet(labels, n, 1.0, rng()),
  ],
)
def test_impossible_number_of_clients_raises(build, num_clients):
  with pytest.raises(ValueError, match="`num_clients`"):
    build(np.zeros(10, int), num_clients)


@pytest.mark.parametrize("classes_per_client", [1, 2, 5, 10])
@pytest.mark.parametrize("num_clients", [3, 10, 17])
def test_classes_holds_exactly_that_many_classes_and_equal_sizes(
  num_clients, classes_per_client
):
  labels = balanced(10, 200)
  parts = partition.by_classes(labels, num_clients, classes_per_client, rng())
  assert len(parts) == num_clients and len(set(sizes(parts))) == 1
  assert all(len(np.unique(labels[part])) == classes_per_client for part in parts)
  assert_disjoint(parts, len(labels))


def test_classes_piece_size_is_the_smallest_over_classes():
  labels = np.repeat([0, 1, 2], [40, 12, 30])  # 4 slots each: pieces of 10, 3, 7
  assert sizes(partition.by_classes(labels, 6, 2, rng())) == [6] * 6


def test_classes_left_over_are_logged(caplog):
  partition.by_classes(balanced(10, 20), 3, 2, rng())
  assert "4 classes stay unused" in caplog.text


@pytest.mark.parametrize("classes_per_client", [0, 11])
def test_impossible_classes_per_client_raises(classes_per_client):
  with pytest.raises(ValueError, match="`classes_per_client`"):
    partition.by_classes(balanced(10, 20), 3, classes_per_client, rng())


def test_class_with_fewer_images_than_slots_raises():
  with pytest.raises(ValueError, match="image for each of its slots"):
    partition.by_classes(np.repeat([0, 1], [50, 2]), 5, 2, rng())


def label_mix(labels, parts):
  """Mean share of the largest class, mean number of classes, median size."""
  counts = [np.bincount(labels[part]) for part in parts]
  return (
    np.mean([c.max() / c.sum() for c in counts]),
    np.mean([np.count_nonzero(c) for c in counts]),
    np.median(sizes(parts)),
  )


@pytest.mark.parametrize(
  ("shape", "as_published", "expected"),
  [
    (MNIST_LIKE, True, (0.125, 10.0, 594)),
    (MNIST_LIKE, False, (0.612, 6.1, 594)),
    (CIFAR10_LIKE, True, (0.125, 10.0, 517)),
    (CIFAR10_LIKE, False, (0.580, 6.2, 500)),
    (CIFAR100_LIKE, True, (0.023, 99, 500)),
    (CIFAR100_LIKE, False, (0.144, 49.5, 500)),
  ],
)
def test_dirichlet_label_mix_is_the_measured_one(shape, as_published, expected):
  labels = balanced(*shape)
  form = {"as_published": as_published, "min_size": 100 if shape == MNIST_LIKE else 10}
  found = [
    label_mix(labels, partition.dirichlet(labels, 100, 0.2, rng(seed), **form))
    for seed in range(5)
  ]
  assert np.mean(found, axis=0) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
  ("shape", "floor", "expected"),
  [(MNIST_LIKE, 100, (107, 1949)), (CIFAR10_LIKE, 10, (55, 1187))],
)
def test_dirichlet_sizes_spread_as_measured(shape, floor, expected):
  """Those of one draw of the released code; the extremes of ours are means of five."""
  labels, form = balanced(*shape), {"as_published": True, "min_size": floor}
  found = [
    sizes(partition.dirichlet(labels, 100, 0.2, rng(seed), **form)) for seed in range(5)
  ]
  smallest, largest = np.mean([[min(s), max(s)] for s in found], axis=0)
  assert np.min(found) >= floor
  assert largest == pytest.approx(expected[1], rel=0.25)
  assert smallest == pytest.approx(expected[0], rel=0.5)


def test_dirichlet_drops_no_image_and_keeps_the_smallest_size():
  parts = partition.dirichlet(balanced(10, 600), 30, 0.2, rng(), min_size=12)
  assert sum(sizes(parts)) == 6000 and min(sizes(parts)) >= 12


def test_dirichlet_gives_little_to_clients_that_are_already_full():
  labels = balanced(10, 600)
  for seed in range(5):
    largest = max(sizes(partition.dirichlet(labels, 10, 0.2, rng(seed))))
    assert largest <= 600 + 600 + 10  # below N/n before one more whole class


class Drawn:
  """A generator whose Dirichlet shares are told and which keeps every order."""

  def __init__(self, *shares):
    self._shares = iter(shares)

  def dirichlet(self, alpha):
    return np.array(next(self._shares))

  def permutation(self, x):
    return np.asarray(x)


@pytest.mark.parametrize(
  ("shares", "min_size", "expected"),
  [
    # Of the first class 3 and 1 of four images, of the second 2 and 2.
    ([(0.75, 0.25), (0.5, 0.5)], 0, [5, 3]),
    ([(0.75, 0.25), (0.5, 0.5)], 3, [5, 3]),  # three are enough
    # Client 0 holds its N / n = 4 images after the first class and gets no more.
    ([(1.0, 0.0), (0.5, 0.5)], 0, [4, 4]),
  ],
)
def test_dirichlet_by_hand(shares, min_size, expected):
  labels = np.repeat([0, 1], 4)
  parts = partition.dirichlet(labels, 2, 0.5, Drawn(*shares), min_size=min_size)
  assert sizes(parts) == expected


def test_large_alpha_is_nearly_even():
  parts = partition.dirichlet(balanced(10, 600), 10, 1e4, rng())
  assert sizes(parts) == pytest.approx([600] * 10, rel=0.1)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_alpha_raises_with_its_name(alpha):
  with pytest.raises(ValueError, match="`alpha` must be > 0"):
    partition.dirichlet(balanced(10, 100), 5, alpha, rng())


def test_dirichlet_that_never_fits_raises_with_alpha_and_n():
  with pytest.raises(ValueError, match=r"1000 draws with `alpha` = 0.01, n = 50"):
    partition.dirichlet(balanced(10, 100), 50, 0.01, rng())


def test_min_size_above_the_mean_raises_at_once():
  with pytest.raises(ValueError, match="`min_size` must be at most 2"):
    partition.dirichlet(balanced(10, 10), 50, 0.5, rng())


@pytest.mark.parametrize("name", partition.PARTITIONS)
def test_every_entry_can_be_called_by_its_spec(name):
  spec = partition.PARTITIONS[name]
  offered = {"alpha": 0.5, "classes_per_client": 2}
  settings = {key: offered[key] for key in spec.settings}
  labels = balanced(10, 50)
  parts = spec.function(labels=labels, num_clients=5, rng=rng(), **settings)
  assert len(parts) == 5
