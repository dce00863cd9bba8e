"""HDBSCAN in TensorFlow, for as few points as a round has clients.

Reference: Campello, Moulavi and Sander, PAKDD 2013; McInnes and Healy, ICDMW 2017.
Symbols: n points, lambda = 1 / distance, at which points leave or split a cluster.

Clusters have two points at least (`min_cluster_size` 2), all points are no cluster, and
clusters are selected by excess of mass.
"""

import tensorflow as tf

NOISE = -1
_LEAST_DISTANCE = 1e-12  # ours: equal points would be at lambda = infinity


def bottlenecks(distances: tf.Tensor) -> tf.Tensor:
  """Single linkage: the distance at which two points join; [n, n] -> [n, n].

  The smallest, over all paths from i to j, of the longest step.

  >>> line = tf.constant([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [5.0, 2.0, 0.0]])
  >>> bottlenecks(line)[0].numpy().tolist()
  [0.0, 1.0, 2.0]
  """

  def through(k, joined):
    row = joined[k]
    return k + 1, tf.minimum(joined, tf.maximum(row[:, tf.newaxis], row))

  count = tf.shape(distances)[0]
  return tf.while_loop(lambda k, _: k < count, through, (0, distances))[1]


def mutual_reachability(distances: tf.Tensor, min_samples: int) -> tf.Tensor:
  """Largest of the distance and both core distances; [n, n] -> [n, n], diagonal 0.

  A point's core distance is that to its `min_samples`-th neighbour, itself being the
  first, or to the last one if there are fewer.

  >>> line = tf.constant([[0.0, 1.0, 5.0], [1.0, 0.0, 4.0], [5.0, 4.0, 0.0]])
  >>> mutual_reachability(line, 2)[0].numpy().tolist()
  [0.0, 1.0, 5.0]
  """
  nth = tf.minimum(min_samples, tf.shape(distances)[0]) - 1
  core = tf.sort(distances, axis=1)[:, nth]
  reach = tf.maximum(distances, tf.maximum(core[:, tf.newaxis], core))
  return tf.linalg.set_diag(reach, tf.zeros_like(core))


def cluster_labels(distances: tf.Tensor, *, min_samples: int) -> tf.Tensor:
  """Labels of the points, `NOISE` or >= 0 (not consecutive); [n, n] -> [n] int32.

  Merges of one and the same distance happen at once, so that labels do not depend on
  the order of the points; libraries do them one by one. Core distances make such ties
  common from `min_samples` 3 on, and labels then differ from theirs now and then.

  Args:
    distances: [n, n] float64, symmetric, zero diagonal.
    min_samples: of the core distance, the point itself included.
  """
  joined = bottlenecks(mutual_reachability(distances, min_samples))
  # Every merge of single linkage happens at the step from some point to the next one.
  levels = tf.unique(tf.sort(tf.reshape(joined, [-1])))[0]
  levels = tf.boolean_mask(levels, levels > 0)
  least = tf.constant(_LEAST_DISTANCE, levels.dtype)
  count = tf.shape(joined)[0]
  zeros = tf.zeros_like(joined[0])
  # Points at distance 0 of one another leave their common cluster last of all.
  together = joined <= 0
  size = tf.reduce_sum(tf.cast(together, joined.dtype), axis=1)
  state = (0, _representatives(together), size, size / least, zeros)

  def merge(step, leader, size, mass, excess, labels):
    together = joined <= levels[step]
    cut = 1.0 / tf.maximum(levels[step], least)
    forest = leader, size, mass, excess, labels
    return step + 1, *_merge(together, cut, step * count, *forest)

  state = (*state, tf.fill([count], NOISE))
  return tf.while_loop(lambda k, *_: k < tf.size(levels), merge, state)[5]


def _merge(together, cut, name, leader, size, mass, excess, labels):
  """Joins all components that meet at lambda = cut.

  Two or more clusters that meet were parts of a larger one, which splits there; single
  points leave it there. Each part is selected unless the clusters split off below it
  are more stable in total. All arguments from `leader` on hold for each point the value
  of its component.

  Args:
    together: [n, n] bool, the components after the merge.
    cut: lambda.
    name: labels given here start at this number.
    leader: [n] int32, the component's first point.
    size: number of points.
    mass: sum over the points of the lambda at which they leave the component's cluster.
    excess: the largest total stability of clusters split off below it.
    labels: [n] int32, by the clusters selected for that.
  """
  own = tf.equal(leader, tf.range(tf.shape(leader)[0]))
  once = tf.cast(together & own, size.dtype)  # each component counts once
  is_cluster = size >= 2
  parts = tf.linalg.matvec(once, tf.cast(is_cluster, size.dtype))
  splits = is_cluster & (parts >= 2)
  stability = mass - size * cut
  selected = splits & ~(excess > stability)
  labels = tf.where(selected, name + leader, labels)
  mass = tf.where(is_cluster & ~splits, mass, size * cut)
  excess = tf.where(selected, stability, excess)
  totals = [tf.linalg.matvec(once, x) for x in (size, mass, excess)]
  return _representatives(together), *totals, labels


def _representatives(together):
  """The first point of each point's component; [n, n] bool -> [n] int32."""
  return tf.argmax(tf.cast(together, tf.int32), axis=1, output_type=tf.int32)
