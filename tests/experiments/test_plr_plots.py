"""Panels about representations: what is drawn, by hand, and one test per error."""

import numpy as np
import pytest

from tests.experiments.templates import KERNEL
from tff_defenses.experiments import plr_plots
from tff_defenses.experiments.plr_files import Plrs

NAN = float("nan")
NAMES = np.array(["cat", "dog", "fox", "owl"])


def representations(rng, *, labels=None, malicious=(False, False, True)):
  """Three clients, one rejected; 12 samples of 4 classes."""
  plrs = rng.normal(size=(3, 12, 4))
  plrs[1] = NAN
  labels = np.arange(12) % 4 if labels is None else labels
  return Plrs(plrs[:, : len(labels)], labels, KERNEL, np.array(malicious), NAMES, 4)


def legend(axes):
  return [text.get_text() for text in axes.get_legend().get_texts()]


def test_scatter_names_both_groups_and_the_given_classes(axes, rng):
  plr_plots.draw_scatter(axes, representations(rng), classes=[0, 1, 3])
  assert legend(axes) == [
    f"{group}, {name}"
    for group in ("benign", "malicious")
    for name in ("cat", "dog", "owl")
  ]
  hollow, *_, full = axes.collections
  assert not len(hollow.get_facecolors()) and len(full.get_facecolors())


def test_scatter_needs_no_malicious_client_and_not_all_classes(axes, rng):
  labels = np.full(3, 2)  # as FLARE's auxiliary data: one class only
  plrs = representations(rng, labels=labels, malicious=[False] * 3)
  plr_plots.draw_scatter(axes, plrs, classes=[2, 0, 3])
  assert legend(axes) == ["benign, fox"]


def test_one_seed_draws_one_set_of_classes():
  labels = np.arange(12) % 4
  drawn = [tuple(plr_plots.draw_classes(labels, seed)) for seed in range(20)]
  assert drawn == [tuple(plr_plots.draw_classes(labels, seed)) for seed in range(20)]
  assert len(set(drawn)) == 4 and all(len(set(classes)) == 3 for classes in drawn)


def test_data_points_are_the_first_images_of_three_classes(axes, rng):
  plrs = representations(rng, labels=np.arange(12) % 3)
  points, names = plr_plots.data_points(plrs, seed=1)
  assert points.shape == (3, 3, 2) and names == ["cat", "dog", "fox"]
  assert np.isnan(points[1]).all()  # the rejected client
  plr_plots.draw_data_points(axes, plrs)
  markers = [len(c.get_paths()[0].vertices) for c in axes.collections]
  assert len(set(markers)) == 3  # circle, plus and square
  assert legend(axes)[:2] == ["benign, cat", "malicious, cat"]


def test_inter_distance_is_the_mean_to_the_benign_by_hand(axes):
  # On the plane of the templates (first and third axis): benign clients at (0, 0) and
  # (2, 0), the malicious one at (0, 4). To the benign others: 2 and 2; the malicious
  # one: (4 + sqrt(20)) / 2.
  one = np.array([[0, 9, 0, 5], [2, 8, 0, 1], [0, 1, 4, 0]], float)  # [n, o]
  plrs = np.repeat(one[:, np.newaxis], 3, axis=1)
  given = Plrs(plrs, np.arange(3), KERNEL, np.array([False, False, True]), NAMES, 1)
  plr_plots.draw_inter_distances(axes, given)
  dots = [c.get_offsets() for c in axes.collections]
  np.testing.assert_allclose([d[0, 1] for d in dots], [(4 + 20**0.5) / 2] * 3)
  middle = [line for line in axes.lines if len(set(line.get_ydata())) == 1]
  assert any(np.allclose(line.get_ydata(), 2.0) for line in middle)
  assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "fox"]


def test_averaged_mmd_leaves_out_the_client_itself_and_rejected_ones():
  mmd = np.array([[0, 1, NAN, 3], [1, 0, NAN, 5], [NAN] * 4, [3, 5, NAN, 0]])
  before = mmd.copy()
  np.testing.assert_array_equal(plr_plots.averaged_mmd(mmd), [2, 3, NAN, 4])
  np.testing.assert_array_equal(mmd, before)


def test_boxes_are_benign_and_dots_malicious(axes):
  benign, malicious = np.array([1.0, 2.0, NAN, 3.0]), np.array([9.0, 8.0])
  plr_plots.draw_boxes(axes, {"fMNIST": (benign, malicious)})
  assert axes.patches[0].get_facecolor()[:3] != (1, 1, 1)
  np.testing.assert_array_equal(axes.collections[0].get_offsets()[:, 1], [9, 8])
  medians = [line.get_ydata() for line in axes.lines]
  assert any(np.array_equal(y, [2.0, 2.0]) for y in medians)
  assert legend(axes) == ["benign", "malicious"]


@pytest.mark.parametrize(
  ("benign", "malicious"), [([-0.09, -0.05], [0.19]), ([-0.09, -0.05], [-0.04])]
)
def test_values_below_zero_lie_in_the_frame(axes, benign, malicious):
  """Eq. (4) of equal models is -2 / (m - 1)."""
  plr_plots.draw_boxes(axes, {"fMNIST": (np.array(benign), np.array(malicious))})
  low, high = axes.get_ylim()
  assert low <= min(benign) and high >= max(0, *malicious) and not axes.yaxis_inverted()


def test_flags_that_are_up_are_full(axes):
  flags = {"detected": ([1, 2, 3], [True, False, True]), "wrong": ([2], [False])}
  plr_plots.draw_flags(axes, flags)
  places = {}
  for dots in axes.collections:
    for x, y in dots.get_offsets():
      places[x, y] = dots.get_facecolors()[0].tolist()
  black, white = [0, 0, 0, 1], [1, 1, 1, 1]
  assert places == {(1, 1): black, (2, 1): white, (3, 1): black, (2, 0): white}
  labels = [label.get_text() for label in axes.get_yticklabels()]
  assert labels == ["wrong", "detected"] and axes.get_xlim() == (0.5, 3.5)


def test_shapes_that_disagree_or_are_empty_raise(axes, rng):
  plrs = representations(rng)
  for wrong in (plrs.plrs[:2], plrs.plrs[:, :5], plrs.plrs[0], plrs.plrs[..., :0]):
    given = Plrs(wrong, plrs.labels, KERNEL, plrs.malicious, NAMES, 1)
    for draw in (plr_plots.draw_scatter, plr_plots.draw_data_points):
      with pytest.raises(ValueError, match=r"`plrs` must be \[n, k, o\]"):
        draw(axes, given)


def test_fewer_than_three_classes_to_draw_from_raise():
  with pytest.raises(
    ValueError, match=r"at least 3 classes to draw from, got 2\. Give"
  ):
    plr_plots.draw_classes(np.arange(12) % 2, 0)
