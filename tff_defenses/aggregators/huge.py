"""Updates so long that their squares overflow float32.

A finite entry may be 3e38, but float32 squares end at 1.8e19. Rules that look at
angles, or that clip, lose nothing if such a row keeps its direction and gets a length
that is still far beyond any honest one.
"""

import numpy as np
import tensorflow as tf

LARGEST_ENTRY = 1e12  # ours: squares of 1e6 such entries still sum to 1e30 only
LARGEST_SQUARED_NORM = 1e30


def shorten(updates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Scales rows of squared norm above 1e30 to a largest entry of 1e12 at most.

  Args:
    updates: [n, d] float32, finite.

  Returns:
    (the rows, [n, d]; their squared norms, [n] float32, all finite).

  >>> rows, squares = shorten(tf.constant([[3.0, 4.0], [1e30, 0.0]]))
  >>> [round(float(s), 3) for s in squares / [1.0, 1e24]]
  [25.0, 1.0]
  """
  squares = tf.reduce_sum(updates**2, axis=1)
  ordinary = squares <= LARGEST_SQUARED_NORM

  def scaled():
    largest = tf.reduce_max(tf.abs(updates), axis=1)
    factor = tf.where(ordinary, 1.0, tf.minimum(np.float32(LARGEST_ENTRY) / largest, 1))
    rows = updates * factor[:, tf.newaxis]
    return rows, tf.reduce_sum(rows**2, axis=1)

  # The usual round copies nothing.
  return tf.cond(tf.reduce_all(ordinary), lambda: (updates, squares), scaled)
