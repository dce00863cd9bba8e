"""PLRs in two dimensions: on the plane of three classes' templates.

References: FLARE Sec. 4.3 and Figs. 1(a), 6, 10; the projection is Mueller et al.'s
(2019).
Symbols: o PLR width, c classes, k samples.
"""

from collections.abc import Sequence

import numpy as np
import scipy.linalg
from sklearn.decomposition import PCA

RANK_TOLERANCE = 1e-6  # ours: float32 rounding of a kernel


def template_basis(kernel: np.ndarray, classes: Sequence[int]) -> np.ndarray:
  """Orthonormal basis of the plane of three templates; [o, c] -> [o, k] (Sec. 4.3).

  A class's template is its column of the classifier kernel. The basis comes from a QR
  decomposition of the differences of the templates.

  Args:
    kernel: [o, c].
    classes: three of 0..c-1.

  Returns:
    [o, 2]; [o, 1] where the three templates lie on one line.

  Raises:
    ValueError: `classes` are not three different columns, or their templates are equal.

  Deviations: "the hyperplane on which the templates reside" is read as the plane
    through the three points, as in the paper's source (Mueller et al., 2019). The
    other reading, their span, is three-dimensional.

  >>> kernel = np.array([[0.0, 1.0, 0.0], [5.0, 5.0, 5.0], [0.0, 0.0, 2.0]])
  >>> abs(template_basis(kernel, [0, 1, 2])).tolist()
  [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
  """
  kernel = np.asarray(kernel, float)
  _check_classes(kernel, classes)
  first, *others = kernel[:, list(classes)].T  # [o] each
  differences = np.stack(others, axis=1) - first[:, np.newaxis]
  basis, r, _ = scipy.linalg.qr(differences, mode="economic", pivoting=True)
  sizes = np.abs(np.diag(r))  # pivoting sorts them, largest first
  rank = int(np.sum(sizes > RANK_TOLERANCE * np.abs(kernel[:, list(classes)]).max()))
  if rank == 0:
    raise ValueError(
      f"template_basis: templates of `classes` {tuple(classes)} must differ, got three "
      "equal columns of the kernel. Use a trained model."
    )
  return basis[:, :rank]


def project_plrs(
  plrs: np.ndarray, kernel: np.ndarray, classes: Sequence[int]
) -> np.ndarray:
  """PLRs on the plane of three templates, in two dimensions; [..., o] -> [..., 2].

  Inner products with `template_basis`, then PCA fitted on all of them; as the plane has
  two dimensions, PCA centres and rotates. A PLR with a NaN or inf stays out of the fit
  and becomes NaN. Templates on one line leave the second dimension 0.

  Args:
    plrs: [..., o].
    kernel: [o, c].
    classes: three of 0..c-1.

  Raises:
    ValueError: as in `template_basis`; another width than the kernel's; fewer than two
      finite PLRs.
  """
  plrs = np.asarray(plrs, float)
  basis = template_basis(kernel, classes)
  if plrs.ndim < 1 or plrs.shape[-1] != len(basis):
    raise ValueError(
      f"project_plrs: `plrs` must be [..., o] with o = {len(basis)}, the rows of the "
      f"kernel, got {list(plrs.shape)}. Take both from one model."
    )
  rows = plrs.reshape(-1, len(basis))
  finite = np.isfinite(rows).all(axis=1)
  if finite.sum() < 2:
    raise ValueError(
      f"project_plrs: `plrs` must hold at least 2 finite rows, got {finite.sum()}. "
      "Leave out rejected clients, and choose classes that the labels hold."
    )
  projected = np.full((len(rows), 2), np.nan)
  projected[finite] = 0.0
  inner = rows[finite] @ basis  # [k, 2] or [k, 1]
  projected[finite, : basis.shape[1]] = PCA(svd_solver="full").fit_transform(inner)
  return projected.reshape(*plrs.shape[:-1], 2)


def _check_classes(kernel, classes):
  known = range(kernel.shape[1]) if kernel.ndim == 2 else ()
  if len(set(classes)) != 3 or len(classes) != 3 or not set(classes) <= set(known):
    raise ValueError(
      "template_basis: `classes` must be three different columns of `kernel` [o, c], "
      f"got {tuple(classes)} and a kernel {list(kernel.shape)}. Count classes from 0."
    )
