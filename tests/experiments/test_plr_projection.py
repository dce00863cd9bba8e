"""The projection on three templates, by hand; and one test per error."""

import numpy as np
import pytest

from tests.experiments.templates import KERNEL
from tff_defenses.experiments import plr_projection

NAN = float("nan")


def test_template_basis_spans_the_differences_by_hand():
  basis = plr_projection.template_basis(KERNEL, [0, 1, 2])
  assert basis.shape == (4, 2)
  # Differences (3, 0, 0, 0) and (0, 0, 3, 0): the plane of the first and third axis.
  np.testing.assert_allclose(basis @ basis.T, np.diag([1.0, 0, 1, 0]), atol=1e-12)


def test_template_basis_is_orthonormal_and_ignores_the_order(rng):
  kernel = rng.normal(size=(128, 10)).astype(np.float32)
  basis = plr_projection.template_basis(kernel, [7, 2, 5])
  np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
  for a, b in ((2, 7), (5, 7), (5, 2)):
    difference = kernel[:, a].astype(float) - kernel[:, b]
    np.testing.assert_allclose(basis @ (basis.T @ difference), difference, atol=1e-6)
  other = plr_projection.template_basis(kernel, [2, 5, 7])
  np.testing.assert_allclose(other @ other.T, basis @ basis.T, atol=1e-9)


def test_templates_on_a_line_give_one_direction_even_if_two_are_equal():
  kernel = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 5.0]])
  basis = plr_projection.template_basis(kernel, [0, 1, 2])
  np.testing.assert_allclose(np.abs(basis), [[0.0], [1.0]], atol=1e-12)
  projected = plr_projection.project_plrs([[0.0, 0.0], [9.0, 4.0]], kernel, [0, 1, 2])
  np.testing.assert_allclose(np.abs(projected), [[2.0, 0.0], [2.0, 0.0]], atol=1e-12)


def test_project_plrs_by_hand():
  # First and third coordinate: a 6 x 2 rectangle around (4, 6); the others are noise.
  plrs = np.array([[1, 50, 5, 0], [7, -3, 5, 9], [1, 8, 7, 4], [7, 0, 7, 1]], float)
  projected = plr_projection.project_plrs(plrs.reshape(2, 2, 4), KERNEL, [0, 1, 2])
  assert projected.shape == (2, 2, 2)
  x, y = projected.reshape(4, 2).T
  np.testing.assert_allclose(x * np.sign(x[1]), [-3, 3, -3, 3], atol=1e-12)
  np.testing.assert_allclose(y * np.sign(y[2]), [-1, -1, 1, 1], atol=1e-12)


def test_projection_keeps_distances_in_the_plane(rng):
  kernel, plrs = rng.normal(size=(16, 10)), rng.normal(size=(30, 16))
  inner = plrs @ plr_projection.template_basis(kernel, [1, 2, 3])
  projected = plr_projection.project_plrs(plrs, kernel, [1, 2, 3])
  np.testing.assert_allclose(
    np.linalg.norm(projected[0] - projected, axis=1),
    np.linalg.norm(inner[0] - inner, axis=1),
    atol=1e-9,
  )


def test_nan_plrs_stay_nan_and_out_of_the_fit(rng):
  plrs = rng.normal(size=(5, 4))
  broken = np.concatenate([plrs, [[1.0, NAN, 0.0, 0.0], [np.inf, 0.0, 0.0, 0.0]]])
  projected = plr_projection.project_plrs(broken, KERNEL, [0, 1, 2])
  assert np.isnan(projected[5:]).all()
  np.testing.assert_allclose(
    projected[:5], plr_projection.project_plrs(plrs, KERNEL, [0, 1, 2]), atol=1e-12
  )


@pytest.mark.parametrize(
  "classes", [[0, 1], [0, 1, 1], [0, 1, 4], [-1, 0, 1], [0, 1, 2, 3]]
)
def test_classes_that_are_not_three_columns_raise(classes):
  with pytest.raises(ValueError, match="`classes` must be three different columns"):
    plr_projection.template_basis(KERNEL, classes)


def test_equal_templates_raise():
  with pytest.raises(
    ValueError, match=r"templates of `classes` \(0, 1, 2\) must differ"
  ):
    plr_projection.template_basis(np.ones((4, 3)), [0, 1, 2])


@pytest.mark.parametrize(
  ("plrs", "message"),
  [
    (np.zeros((5, 3)), "with o = 4"),
    (np.zeros(()), "with o = 4"),
    (np.zeros((0, 4)), "at least 2 finite rows, got 0"),
    (np.full((6, 4), NAN), "at least 2 finite rows, got 0"),
  ],
)
def test_plrs_that_cannot_be_projected_raise(plrs, message):
  with pytest.raises(ValueError, match=f"project_plrs: `plrs` must .*{message}"):
    plr_projection.project_plrs(plrs, KERNEL, [0, 1, 2])
