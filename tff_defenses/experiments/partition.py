"""Partitions: which training images each client holds.

Every function takes labels [N] and returns one int64 array of positions a client;
the arrays are disjoint, in random order inside a client, and depend only on the
labels, the settings and the generator.

References: iid and classes: FLARE sec. 6.1 and 7.3.2 (after Sattler et al.);
dirichlet: FL-PLAS sec. 4 (alpha 0.2) and the authors' `dataLoader.py`.
Symbols: N images, n clients, c classes, c_sel classes a client, alpha concentration.
"""

import dataclasses
import logging
from collections.abc import Callable

import numpy as np

MAX_REDRAWS = 1000  # ours: MNIST, n = 100, alpha 0.2 needs a handful

_logger = logging.getLogger(__name__)


def iid(
  labels: np.ndarray, num_clients: int, rng: np.random.Generator
) -> list[np.ndarray]:
  """Cuts a random permutation into n equal parts; the remainder is dropped.

  Seven images and three clients: two images each, one image unused.

  >>> parts = iid(np.zeros(7), 3, np.random.default_rng(0))
  >>> [len(part) for part in parts], len(set(np.concatenate(parts).tolist()))
  ([2, 2, 2], 6)

  Args:
    labels: [N]; only the length matters.
    num_clients: n, 1..N.
    rng: source of the permutation.

  Raises:
    ValueError: `num_clients` is below 1 or above N.
  """
  _check_num_clients("iid", labels, num_clients)
  size = len(labels) // num_clients
  order = rng.permutation(len(labels))[: size * num_clients]
  return list(order.reshape(num_clients, size))


def by_classes(
  labels: np.ndarray,
  num_clients: int,
  classes_per_client: int,
  rng: np.random.Generator,
) -> list[np.ndarray]:
  """Gives every client exactly c_sel classes and the same number of images.

  The n c_sel class slots are dealt round-robin over a shuffled list of the classes.
  Each class is cut into as many equal pieces as it has slots; the piece size is the
  smallest over all classes, so that clients stay equal.

  Three classes of four images, three clients, two classes each: six slots, each class
  has two, so a piece is two images and a client holds four.

  >>> labels = np.repeat([0, 1, 2], 4)
  >>> parts = by_classes(labels, 3, 2, np.random.default_rng(0))
  >>> [len(part) for part in parts], [len(set(labels[part])) for part in parts]
  ([4, 4, 4], [2, 2, 2])

  Args:
    labels: [N] integers.
    num_clients: n, 1..N.
    classes_per_client: c_sel, 1..c. FLARE does not print it; ours: 2, also 5.
    rng: source of the class order and of the order inside a class.

  Raises:
    ValueError: `num_clients` or `classes_per_client` is out of range, or a class has
      fewer images than slots.

  Deviations: with n c_sel < c some classes stay unused, which is logged.
  """
  _check_num_clients("by_classes", labels, num_clients)
  classes = rng.permutation(np.unique(labels))
  _check_classes(classes_per_client, classes)
  turns, dealt = np.divmod(np.arange(num_clients * classes_per_client), len(classes))
  slots = np.bincount(dealt, minlength=len(classes))
  if not slots.all():
    _logger.warning("by_classes: %d classes stay unused.", np.sum(slots == 0))
  members = [rng.permutation(np.flatnonzero(labels == k)) for k in classes]
  size = min(len(m) // s for m, s in zip(members, slots, strict=True) if s)
  _check_piece_size(size, num_clients, classes_per_client)
  pieces = [
    members[k][turn * size : (turn + 1) * size]
    for turn, k in zip(turns, dealt, strict=True)
  ]
  return [
    rng.permutation(np.concatenate(pieces[i : i + classes_per_client]))
    for i in range(0, len(pieces), classes_per_client)
  ]


def dirichlet(
  labels: np.ndarray,
  num_clients: int,
  alpha: float,
  rng: np.random.Generator,
  *,
  min_size: int = 10,
  as_published: bool = False,
) -> list[np.ndarray]:
  """Deals each class by shares drawn from Dir(alpha 1_n), FL-PLAS's label skew.

  For each class: draw shares; clients that already hold N/n images or more get none;
  renormalise; cut the shuffled class at the cumulative shares. Everything is redrawn
  until the smallest client holds `min_size` images. No image is dropped.

  Two classes of four images and two clients, cut at the shares (0.75, 0.25) in the
  first class: client 0 holds three, client 1 one. Nobody holds 8/2 = 4 yet, so shares
  of (0.5, 0.5) in the second class leave them with five and three.

  >>> labels = np.repeat([0, 1], 200)
  >>> parts = dirichlet(labels, 4, 0.5, np.random.default_rng(0))
  >>> sorted(np.concatenate(parts).tolist()) == list(range(400))
  True

  Args:
    labels: [N] integers.
    num_clients: n, 1..N.
    alpha: concentration, > 0; small is more skewed. Paper: 0.2; released code: 0.5.
    rng: source of everything random.
    min_size: images the smallest client must hold. Authors' code: 10.
    as_published: as the authors' code: the same draw on *permuted* labels, whose
      positions are then used as if they were positions in the data set. Labels come
      out iid; only the sizes vary.

  Raises:
    ValueError: `alpha` is not positive, `num_clients` is out of range, `min_size`
      cannot be met, or was not met in `MAX_REDRAWS` draws.

  Deviations: a draw whose shares vanish for every client still below N/n is redrawn;
    the authors' code would divide by zero.
  """
  _check_num_clients("dirichlet", labels, num_clients)
  _check_dirichlet(len(labels), num_clients, alpha, min_size)
  seen = rng.permutation(labels) if as_published else np.asarray(labels)
  members = [np.flatnonzero(seen == k) for k in np.unique(seen)]
  sizes = [len(m) for m in members]
  for _ in range(MAX_REDRAWS):
    cuts = _draw_cuts(sizes, num_clients, alpha, rng)
    if cuts is not None and np.diff(cuts).sum(axis=0).min() >= min_size:
      return _deal(members, cuts, rng)
  raise ValueError(
    f"dirichlet: the smallest client must hold `min_size` = {min_size} images, not met "
    f"in {MAX_REDRAWS} draws with `alpha` = {alpha}, n = {num_clients}. "
    "Raise `alpha` or lower the number of clients."
  )


@dataclasses.dataclass(frozen=True)
class PartitionSpec:
  """One way to partition: the function and the settings it needs beside the data.

  Attributes:
    function: called as `function(labels=, num_clients=, rng=, **settings)`.
    settings: names of the further keyword arguments it requires.
    reference: where the papers define it.
    description: one line for lists and tables.
  """

  function: Callable[..., list[np.ndarray]]
  settings: tuple[str, ...]
  reference: str
  description: str


PARTITIONS: dict[str, PartitionSpec] = {
  "iid": PartitionSpec(iid, (), "FLARE sec. 6.1", "equal parts of a permutation"),
  "classes": PartitionSpec(
    by_classes,
    ("classes_per_client",),
    "FLARE sec. 7.3.2",
    "the same number of classes and images a client",
  ),
  "dirichlet": PartitionSpec(
    dirichlet, ("alpha",), "FL-PLAS sec. 4", "label shares drawn from Dir(alpha)"
  ),
}


def _draw_cuts(sizes, num_clients, alpha, rng):
  """Cut points [c, n + 1] of every class, or None when a class has no taker."""
  held = np.zeros(num_clients, np.int64)
  limit = sum(sizes) / num_clients
  cuts = np.zeros((len(sizes), num_clients + 1), np.int64)
  for k, size in enumerate(sizes):
    shares = rng.dirichlet(np.full(num_clients, alpha)) * (held < limit)
    if not shares.sum() > 0:
      return None
    cuts[k, 1:] = (np.cumsum(shares / shares.sum()) * size).astype(np.int64)
    cuts[k, -1] = size  # rounding must not drop the last image
    held += np.diff(cuts[k])
  return cuts


def _deal(members, cuts, rng):
  """Positions of every client: each shuffled class cut at its cut points."""
  pieces = [
    np.split(rng.permutation(m), cut[1:-1])
    for m, cut in zip(members, cuts, strict=True)
  ]
  return [rng.permutation(np.concatenate(parts)) for parts in zip(*pieces, strict=True)]


def _check_num_clients(who, labels, num_clients):
  if not 1 <= num_clients <= len(labels):
    raise ValueError(
      f"{who}: `num_clients` (n) must be in 1..{len(labels)}, the number of images, "
      f"got {num_clients}. Give every client at least one image."
    )


def _check_classes(classes_per_client, classes):
  if not 1 <= classes_per_client <= len(classes):
    raise ValueError(
      "by_classes: `classes_per_client` (c_sel) must be in "
      f"1..{len(classes)}, the number of classes, got {classes_per_client}. "
      "FLARE prints no value; we use 2 and 5."
    )


def _check_piece_size(size, num_clients, classes_per_client):
  if size < 1:
    raise ValueError(
      "by_classes: every class must have an image for each of its slots, got "
      f"{num_clients} clients x {classes_per_client} classes. "
      "Lower `num_clients` or `classes_per_client`."
    )


def _check_dirichlet(num_images, num_clients, alpha, min_size):
  if not alpha > 0 or not np.isfinite(alpha):
    raise ValueError(
      f"dirichlet: `alpha` must be > 0 and finite, got {alpha}. The paper uses 0.2."
    )
  if min_size * num_clients > num_images:
    raise ValueError(
      f"dirichlet: `min_size` must be at most {num_images // num_clients} "
      f"({num_images} images, n = {num_clients}, `alpha` = {alpha}), got {min_size}. "
      "Lower it or the number of clients."
    )
