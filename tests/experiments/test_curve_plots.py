"""Lines and dots: ours filled with its spread, the paper's hollow."""

import numpy as np

from tff_defenses.experiments import curve_plots, plot_style

NAN = float("nan")


def line(label, std=0.1, **settings):
  x = np.array([1.0, 2.0, 3.0])
  return curve_plots.Line(label, x, x / 10, np.full(3, std), **settings)


def labels(axes):
  return axes.get_legend_handles_labels()[1]


def test_band_is_one_standard_deviation(axes):
  curve_plots.draw_lines(axes, [line("krum")])
  (band,) = axes.collections
  heights = {round(y, 6) for _, y in band.get_paths()[0].vertices}
  assert heights == {0.0, 0.1, 0.2, 0.3, 0.4}  # 0.1 to 0.3, less and plus 0.1


def test_one_seed_has_no_band(axes):
  curve_plots.draw_lines(axes, [line("krum", std=NAN)])
  assert not axes.collections[0].get_paths()
  assert labels(axes) == ["krum"]


def test_papers_points_are_hollow_and_bounds_have_arrows(axes):
  paper = ((1.0, 0.8, "above"), (2.0, 0.1, "below"), (3.0, 0.5, None))
  curve_plots.draw_lines(axes, [line("krum", paper=paper)])
  ours, *hollow, _ = axes.lines
  assert [tuple(p.get_xydata()[0]) for p in hollow] == [(1, 0.8), (2, 0.1), (3, 0.5)]
  assert {p.get_markerfacecolor() for p in hollow} == {"none"}
  assert ours.get_markerfacecolor() != "none"
  assert {p.get_marker() for p in hollow} == {ours.get_marker()}
  up, down = (arrow.xyann[1] for arrow in axes.texts)
  assert up > 0 > down
  assert labels(axes) == ["krum", "hollow: paper"]


def test_a_line_of_the_paper_alone_says_that_it_was_not_run(axes):
  empty = np.empty(0)
  only = curve_plots.Line("krum", empty, empty, empty, paper=((1.0, 0.5, None),) * 2)
  curve_plots.draw_lines(axes, [only])
  assert labels(axes) == ["krum (not run)", "hollow: paper"]


def test_styles_are_shared_by_number(axes):
  curve_plots.draw_lines(axes, [line("flare")], numbers={"krum": 0, "flare": 1})
  style = plot_style.line(1)
  assert axes.lines[0].get_marker() == style["marker"]
  assert axes.lines[0].get_color() == style["color"]


def test_dots_lie_side_by_side_with_their_spread(axes):
  curve_plots.draw_dots(
    axes,
    ["Krum", "FLARE", "local"],
    paper=[(98.3, None), (0.0, "below"), None],
    mean=[90.0, 1.0, NAN],
    std=[2.0, NAN, NAN],
  )
  assert set(labels(axes)) == {"ours", "paper"}
  points = [p.get_xydata()[0] for p in axes.lines if len(p.get_xdata()) == 1]
  np.testing.assert_allclose(points, [[-0.14, 98.3], [0.86, 0.0]])
  spread = axes.collections[0].get_segments()[0]
  np.testing.assert_allclose(spread[:, 1], [88, 92])
  assert [t.get_text() for t in axes.get_xticklabels()] == ["Krum", "FLARE", "local"]
