"""The statistic of FLARE's Eq. (4), between all models at once, and its kernel's width.

Reference: Wang et al., ASIA CCS 2022, Eq. (4); forms in `flare.mmd`.
Symbols: n clients, m auxiliary samples, o PLR width, gamma of the Gaussian kernel
  exp(-gamma ||a - b||^2).
"""

import tensorflow as tf

from tff_defenses.aggregators import checks, geometry

FORMS = ("paper", "authors", "gretton")


def statistic(plrs, form, gamma) -> tf.Tensor:
  """Eq. (4) before the clip; [n, m, o] -> [n, n] float64.

  One kernel matrix over all n * m PLRs. See `flare.mmd` for the arguments.

  Raises:
    ValueError: an unknown form, m < 2, or another rank.
  """
  plrs = tf.convert_to_tensor(plrs)
  checks.check_choice("mmd", "form", form, FORMS)
  check_plrs("mmd", plrs)
  num_samples = plrs.shape[1]
  squares, width = _squared_distances(plrs)
  kernel = tf.exp(
    -(1.0 / width if gamma is None else tf.cast(gamma, tf.float64)) * squares
  )
  num_models = tf.shape(plrs)[0]
  shape = [num_models, num_samples, num_models, num_samples]
  blocks = tf.transpose(tf.reshape(kernel, shape), [0, 2, 1, 3])
  cross = tf.reduce_sum(blocks, axis=[2, 3])
  within = tf.linalg.diag_part(cross) - num_samples  # k(a, a) = 1
  if form == "gretton":
    cross -= tf.linalg.trace(blocks)
  pairs = float(num_samples * (num_samples - 1))
  cross_pairs = float(num_samples**2) if form == "authors" else pairs
  # To the last bit: (i, j) and (j, i) add the same numbers in another order.
  cross = (cross + tf.transpose(cross)) / 2.0
  return (within[:, tf.newaxis] + within) / pairs - 2.0 * cross / cross_pairs


def clipped(statistic, form: str) -> tf.Tensor:
  """Distances: the authors' code has none below 0, so ties go to the lowest index."""
  return tf.maximum(statistic, 0.0) if form == "authors" else statistic


def median_gamma(plrs) -> tf.Tensor:
  """Kernel width from the median distance of all n * m PLRs; [n, m, o] -> [] float64.

  gamma = 1 / (2 s^2), s the median over distinct pairs; 1 / o where s is 0.
  """
  squares, width = _squared_distances(plrs)
  pairs = tf.linalg.band_part(tf.ones_like(squares), 0, -1)
  pairs = tf.cast(tf.linalg.set_diag(pairs, tf.zeros_like(squares[0])), tf.bool)
  ordered = tf.sort(tf.sqrt(tf.boolean_mask(squares, pairs)))
  count = tf.shape(ordered)[0]
  median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2.0
  return tf.where(median > 0, 1.0 / (2.0 * median**2), 1.0 / width)


def gamma_of(plrs, bandwidth):
  """Kernel width of a setting `bandwidth`, [] or None for 1 / o; see `FlareFactory`.

  Raises:
    ValueError: it is no number above 0, "median" or None.
  """
  check_bandwidth("flare", bandwidth)
  if bandwidth == "median":
    return median_gamma(plrs)
  return None if bandwidth is None else 1.0 / (2.0 * bandwidth**2)


def negative_fraction(statistic) -> tf.Tensor:
  """Share of the pairs i < j with a negative statistic; [n, n] -> []."""
  ones = tf.ones_like(statistic)
  pairs = tf.linalg.band_part(ones, 0, -1) - tf.linalg.band_part(ones, 0, 0)
  negative = tf.reduce_sum(pairs * tf.cast(statistic < 0, tf.float64))
  share = tf.math.divide_no_nan(negative, tf.reduce_sum(pairs))
  return tf.cast(share, tf.float32)


def check_plrs(who: str, plrs: tf.Tensor) -> None:
  """Raises ValueError unless `plrs` is [n, m, o] with m >= 2."""
  if plrs.shape.rank != 3:
    raise ValueError(
      f"{who}: `plrs` (R_i, Sec. 4.1) must be [n, m, o], got shape {plrs.shape}. "
      "`plr_fn` must give [m, o] for one model."
    )
  checks.check_at_least(who, "plrs", "m, Eq. 4 divides by m - 1", plrs.shape[1], 2)


def check_bandwidth(who: str, value) -> None:
  """Raises ValueError unless `value` is a number above 0, "median" or None."""
  if value not in (None, "median"):
    advice = " Or pass None or 'median'."
    checks.check_positive(who, "bandwidth", "sigma", value, advice=advice)


def _squared_distances(plrs):
  """All pairs of the n * m PLRs, [n m, n m] float64, and o.

  From differences: benign models differ by little, and among copies of one model the
  index must decide ties, not rounding.
  """
  width = plrs.shape[-1]
  return geometry.squared_differences(tf.reshape(plrs, [-1, width])), float(width)
