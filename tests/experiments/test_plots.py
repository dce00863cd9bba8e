"""Plots: what is drawn, files that are whole PNGs, and one test per error."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tff_defenses.experiments import plot_style, plots

NAN = float("nan")


def curve(rounds, accuracy=0.9, success=0.0):
  return pd.DataFrame(
    {"round": rounds, "accuracy": accuracy, "attack_success_rate": success}
  )


def client_table(num_rounds, num_clients, malicious=()):
  rows = [
    (t, i, i in malicious, 1 / num_clients)
    for t in range(1, num_rounds + 1)
    for i in range(num_clients)
  ]
  return pd.DataFrame(rows, columns=["round", "client_index", "malicious", "weight"])


def assert_png(path, folder):
  """One whole PNG of a printable size with something on it, and nothing beside it."""
  with Image.open(path) as image:
    image.load()
    assert image.format == "PNG"
    assert round(image.info["dpi"][0]) == plot_style.DPI
    assert all(500 < side < 2000 for side in image.size)
    assert np.ptp(np.asarray(image.convert("L"))) > 200
  assert list(folder.iterdir()) == [path]


def test_success_is_drawn_with_gaps_left_out(tmp_path, figures):
  curves = {
    "krum": curve([1, 2, 3], accuracy=[0.5, NAN, 0.7], success=[0.1, 0.2, 1.0]),
    "flare": curve([1, 2]),
  }
  path = plots.success_over_rounds(curves, tmp_path / "a.png", title="A")
  assert_png(path, tmp_path)
  success, accuracy = figures[0].axes
  assert [len(line.get_xdata()) for line in accuracy.lines] == [2, 2]
  np.testing.assert_array_equal(success.lines[0].get_ydata(), [0.1, 0.2, 1.0])
  assert success.get_xlabel() == "round" and "accuracy" in accuracy.get_ylabel()
  assert success.get_ylim() == accuracy.get_ylim() == (-0.03, 1.03)


def test_thirteen_defenses_differ_in_dash_or_marker(tmp_path, figures):
  curves = {f"defense_{i}": curve([1, 2]) for i in range(13)}
  plots.success_over_rounds(curves, tmp_path / "a.png", title="A")
  lines = figures[0].axes[0].lines
  assert len({(str(x._dash_pattern), x.get_marker()) for x in lines}) == 13


@pytest.mark.parametrize("rounds", [[1], [1, 2]])
def test_run_without_attack_says_so(tmp_path, figures, rounds):
  curves = {"flare": curve(rounds, success=NAN)}
  assert_png(plots.success_over_rounds(curves, tmp_path / "a.png", title="A"), tmp_path)
  success, accuracy = figures[0].axes
  assert [text.get_text() for text in success.texts] == ["not measured"]
  assert not accuracy.texts
  assert all(tick == int(tick) for tick in accuracy.get_xticks())


def test_trust_marks_the_malicious_and_the_equal_weight(tmp_path, figures):
  clients = client_table(3, 4, malicious={3})
  clients.loc[0, "weight"] = NAN
  path = plots.trust_over_rounds(clients, tmp_path / "b.png", title="B")
  assert_png(path, tmp_path)
  *benign, malicious, equal = figures[0].axes[0].lines
  assert len(benign) == 3 and np.isnan(benign[0].get_ydata()[0])
  assert malicious.get_label() == "malicious, client 3"
  assert malicious.get_linestyle() == "--" != benign[0].get_linestyle()
  assert malicious.get_linewidth() > 2 * benign[0].get_linewidth()
  assert malicious.get_marker() != benign[0].get_marker()
  assert set(equal.get_ydata()) == {1 / 4}


def test_absent_clients_leave_gaps_and_change_the_equal_weight(tmp_path, figures):
  clients = client_table(3, 4).drop(index=[4])  # client 0 is absent in round 2
  plots.trust_over_rounds(clients, tmp_path / "b.png", title="B")
  lines = figures[0].axes[0].lines
  np.testing.assert_array_equal(np.isnan(lines[0].get_ydata()), [False, True, False])
  np.testing.assert_allclose(lines[-1].get_ydata(), [1 / 4, 1 / 3, 1 / 4])


def test_many_malicious_clients_share_a_legend_entry(tmp_path, figures):
  clients = client_table(2, 20, malicious=set(range(8)))
  plots.trust_over_rounds(clients, tmp_path / "b.png", title="B")
  labels = [text.get_text() for text in figures[0].legends[0].get_texts()]
  assert labels == ["benign (12)", "malicious (8)", "equal weight, 1/20"]


def test_mmd_is_annotated_starred_and_blank_on_the_diagonal(tmp_path, figures):
  mmd = np.array([[0.0, 0.002, NAN], [0.002, 0.0, 0.0031], [NAN, 0.0031, 0.0]])
  before = mmd.copy()
  malicious = [False, False, True]
  path = plots.mmd_between_clients(mmd, malicious, tmp_path / "c.png", title="C")
  assert_png(path, tmp_path)
  axes, bar = figures[0].axes
  assert sorted(t.get_text() for t in axes.texts) == ["2.00", "2.00", "3.10", "3.10"]
  assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2*"]
  assert "10^{-3}" in bar.get_ylabel()
  np.testing.assert_array_equal(mmd, before)


def test_mmd_names_the_clients_that_were_drawn(tmp_path, figures):
  """Place 0 of the round is client 4."""
  path = tmp_path / "c.png"
  plots.mmd_between_clients(np.ones((2, 2)), [False, True], path, [4, 17], title="C")
  axes = figures[0].axes[0]
  assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "17*"]
  assert [label.get_text() for label in axes.get_yticklabels()] == ["4", "17*"]


def test_large_mmd_has_no_numbers_and_a_star_for_every_malicious(tmp_path, figures):
  malicious = np.arange(40) >= 37
  mmd = np.ones((40, 40))
  plots.mmd_between_clients(mmd, malicious, tmp_path / "c.png", title="C")
  axes = figures[0].axes[0]
  assert not axes.texts
  np.testing.assert_array_equal(axes.get_xticks(minor=True), [37, 38, 39])
  assert [t.get_text() for t in axes.get_yticklabels(minor=True)] == ["*"] * 3


@pytest.mark.parametrize(
  "mmd", [[[0.0]], [[NAN]], np.full((3, 3), NAN), np.zeros((2, 2))]
)
def test_mmd_without_any_distance_is_still_drawn(tmp_path, mmd):
  malicious = np.zeros(len(mmd), bool)
  path = plots.mmd_between_clients(mmd, malicious, tmp_path / "c.png", title="C")
  assert_png(path, tmp_path)


def test_parents_are_made_and_an_old_file_is_replaced(tmp_path):
  path = tmp_path / "deep" / "figures" / "a.png"
  for _ in range(2):
    plots.success_over_rounds({"krum": curve([1, 2])}, str(path), title="A" * 300)
  assert_png(path, path.parent)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  path = tmp_path / "a.png"
  path.write_bytes(b"old")

  def fail(self, stream, **options):
    stream.write(b"half")
    raise OSError("disk full")

  monkeypatch.setattr(plot_style.Figure, "savefig", fail)
  with pytest.raises(OSError, match="disk full"):
    plots.success_over_rounds({"krum": curve([1])}, path, title="A")
  assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  ("curves", "message"),
  [
    ({}, "`curves` must hold at least one defense"),
    ({"krum": curve([])}, r"`curves\['krum'\]` must have .* got no row"),
    ({"krum": curve([1]).drop(columns="accuracy")}, ".* got no accuracy"),
  ],
)
def test_curves_that_are_empty_raise(tmp_path, curves, message):
  with pytest.raises(ValueError, match=f"^success_over_rounds: {message}"):
    plots.success_over_rounds(curves, tmp_path / "a.png", title="A")


@pytest.mark.parametrize(
  ("clients", "message"),
  [
    (client_table(0, 0), "got no row"),
    (client_table(1, 2).drop(columns="weight"), "got no weight"),
    (pd.concat([client_table(1, 2)] * 2), "got client 0 twice in round 1"),
  ],
)
def test_client_tables_that_do_not_fit_raise(tmp_path, clients, message):
  with pytest.raises(ValueError, match=f"^trust_over_rounds: `clients` .*{message}"):
    plots.trust_over_rounds(clients, tmp_path / "b.png", title="B")


@pytest.mark.parametrize(
  ("mmd", "malicious"),
  [(np.zeros((0, 0)), []), (np.zeros((2, 3)), [0, 0]), (np.zeros((2, 2)), [0])],
)
def test_mmd_of_a_wrong_shape_raises(tmp_path, mmd, malicious):
  with pytest.raises(ValueError, match=r"`mmd` must be \[n, n\]"):
    plots.mmd_between_clients(mmd, malicious, tmp_path / "c.png", title="C")


def test_import_needs_neither_tensorflow_nor_pyplot():
  code = (
    "import sys; from tff_defenses.experiments import figures, paper_figures, plots; "
    "print(any(m.startswith('tensorflow') for m in sys.modules), "
    "'matplotlib.pyplot' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ["False", "False"]
