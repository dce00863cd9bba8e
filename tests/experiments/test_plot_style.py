"""The common look, the composition of panels, and writes that leave no half file."""

import numpy as np
import pytest
from PIL import Image

from tff_defenses.experiments import plot_style


def draw_a(axes):
  axes.plot([1, 2], [0, 1], label="a")


def draw_b(axes):
  axes.plot([1, 2], [1, 0], label="b")
  axes.plot([1, 2], [0, 1], label="a")


def draw_own(axes):
  axes.plot([1, 2], [0, 1], label="own")
  axes.legend()


def test_panels_share_a_legend_unless_they_have_their_own(tmp_path, figures):
  draws = [draw_a, draw_b, draw_own]
  path = plot_style.compose(draws, tmp_path / "a.png", title="T", note="n = 3")
  with Image.open(path) as image:
    assert np.ptp(np.asarray(image.convert("L"))) > 200
  (legend,) = figures[0].legends
  assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
  assert legend.get_title().get_text() == "n = 3"


def test_a_note_is_shown_even_if_all_panels_have_their_own_legend(tmp_path, figures):
  plot_style.compose([draw_own], tmp_path / "a.png", title="T", note="n = 3")
  assert not figures[0].legends and figures[0].get_supxlabel() == "n = 3"


@pytest.mark.parametrize(
  ("count", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3))]
)
def test_grid_fits_the_number_of_panels(tmp_path, figures, count, grid):
  plot_style.compose([draw_a] * count, tmp_path / "a.png", title="T")
  axes = figures[0].axes
  spec = axes[0].get_subplotspec().get_gridspec()
  assert (spec.nrows, spec.ncols) == grid
  assert sum(a.axison for a in axes) == count


def test_thirteen_lines_differ_without_their_colours():
  styles = [plot_style.line(i) for i in range(13)]
  assert len({(str(s["linestyle"]), s["marker"]) for s in styles}) == 13


def test_colours_of_the_two_groups_differ_in_grey():
  def grey(colour):
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue

  assert grey(plot_style.BENIGN) - grey(plot_style.MALICIOUS) > 80
