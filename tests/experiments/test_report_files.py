"""Files of a report: what they hold, and that they are whole."""

import csv
import io
import re
import shutil
import subprocess

import pytest

from tests.experiments import fabricated_runs as fabricated
from tff_defenses.experiments import (
  report,
  report_files,
  report_html,
  report_latex,
  report_markdown,
  reproduction,
)
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.errors import OutputError
from tff_defenses.experiments.report_document import Document, Entry, Lines, Table

NASTY = 'a|b & c_d 50% #1 {x} <b>"q"</b> ~^\\ $5 τ ± é …'
TABLE = Table(
  NASTY,
  ("", NASTY),
  ((NASTY, Entry("5.0 | -4.0", "off", "x", "off by -9.0")),),
  f"below {NASTY}",
  marks="x marks",
)
NASTY_DOCUMENT = Document(NASTY, NASTY, (NASTY,), (TABLE, Lines(NASTY, (NASTY,))))


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A plan of three cells, one done with a figure, one failed, one to do."""
  cells = (
    fabricated.cell(row="ASR, 50 %", note="Seeds | unstated <b>"),
    fabricated.cell(row="ASR, 50 %", column="FLARE"),
    fabricated.cell(row="time", unit="seconds", metric="seconds_total", reported=None),
  )
  plan = fabricated.plan(tmp_path, *cells)
  runs = fabricated.put_seeds(plan, cells[0], {0: 0.48, 1: 0.50, 2: 0.55})
  fabricated.put(tmp_path, plan.config_of(cells[1], 0), error="Disk & co.")
  for figures in (tmp_path / "figures", runs[0] / "figures"):
    figures.mkdir()
    (figures / "success.png").write_bytes(fabricated.PNG)
  (tmp_path / "plan.json").write_text("{}")
  monkeypatch.setattr(reproduction, "read", lambda folder: plan)
  return tmp_path


def write(folder):
  """Writes the files of a folder's report; returns their paths."""
  return report_files.write_content(report.read(folder))


def test_all_files_are_written_and_no_others_remain(folder):
  before = set(folder.iterdir())
  paths = write(folder)
  names = ["scorecard.csv", "scorecard.md", "scorecard.tex", "report.html"]
  assert [path.name for path in paths] == names
  assert set(folder.iterdir()) - before == set(paths)


def test_writing_again_gives_the_same_bytes(folder):
  first = [path.read_bytes() for path in write(folder)]
  assert [path.read_bytes() for path in write(folder)] == first


def test_a_folder_that_cannot_be_written_is_named(folder):
  (folder / "scorecard.csv").mkdir()
  with pytest.raises(OutputError, match="cannot be written"):
    write(folder)


def test_csv_has_a_row_a_cell_and_unrounded_numbers(folder):
  path = write(folder)[0]
  rows = list(csv.DictReader(io.StringIO(path.read_text())))
  assert len(rows) == 3 and tuple(rows[0]) == report_files.COLUMNS
  first, failed, timed = rows
  assert (first["reported"], first["mean"], first["std"]) == ("50", "51", "3.605551275")
  assert first["values"] == "0=48; 1=50; 2=55" and first["defense"] == "krum"
  assert (first["difference"], first["band"], first["kind"]) == ("1", "5", "reproduced")
  assert failed["kind"] == "failed" and failed["mean"] == failed["difference"] == ""
  assert failed["notes"] == "seed 0 failed: ValueError: Disk & co."
  assert timed["unit"] == "seconds" and timed["seeds_done"] == "0"


def test_csv_of_a_reduced_plan_never_says_reproduced(folder):
  (score, *_) = report.read(folder).scores
  text = report_files.long_form([score], scale=0.1)
  (row,) = csv.DictReader(io.StringIO(text))
  assert (row["kind"], row["scale"]) == ("within band (reduced)", "0.1")


def test_csv_of_a_grid_has_no_scale_but_tells_what_is_reduced(tmp_path):
  for name, limit in (("whole", None), ("part", 100)):
    config = ExperimentConfig(max_train_images=limit)
    fabricated.put(tmp_path / name, config, accuracy=0.5)
  text = write(tmp_path)[0].read_text()
  rows = list(csv.DictReader(io.StringIO(text)))
  assert {row["scale"] for row in rows} == {""}
  assert sorted(row["reduced"] for row in rows) == ["no", "yes"]


def test_csv_of_a_grid_names_its_settings(tmp_path):
  config = ExperimentConfig(attack="trigger", malicious_fraction=0.2)
  fabricated.put(tmp_path, config, accuracy=0.5, backdoor_accuracy=None)
  text = write(tmp_path)[0].read_text()
  (row,) = csv.DictReader(io.StringIO(text))
  assert (row["metric"], row["mean"], row["attack"]) == ("accuracy", "50", "trigger")
  assert row["row"] == "mnist5k, trigger, 20 % malicious, reduced no"


def test_html_holds_its_figures_folded_and_nothing_from_outside(folder):
  page = write(folder)[3].read_text()
  assert page.count("<img ") == page.count('src="data:image/png;base64,') == 2
  assert page.count("<details>") == 3  # two figures, and the list of every cell
  assert "<script" not in page and not re.search(r'(href|src)="(?!data:)', page)
  assert 'name="viewport"' in page


def test_html_says_verdicts_in_words_and_escapes(folder):
  page = write(folder)[3].read_text()
  assert (
    '<td class="reproduced">50.0 | 51.0 ± 3.6<small>reproduced</small></td>' in page
  )
  assert "<small>failed</small>" in page and "<small>missing</small>" in page
  assert "unstated &lt;b&gt;" in page and "<b>" not in page
  assert "ASR, 50 %" in page


def test_html_names_a_figure_that_is_gone(folder):
  content = report.read(folder)
  (folder / "figures" / "success.png").unlink()
  assert "success: success.png cannot be read." in report_html.render(content.document)


def test_html_escapes_every_part():
  page = report_html.render(NASTY_DOCUMENT)
  assert "<b>" not in page.split("</style>")[1] and "&lt;b&gt;" in page
  assert 'class="off"' in page and "x marks" not in page  # words stand there


def test_markdown_tables_have_one_width_whatever_the_names():
  text = report_markdown.render(NASTY_DOCUMENT)
  lines = [line for line in text.splitlines() if line.startswith("| ")]
  pipes = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
  assert pipes == [3, 3, 3]
  assert r"a\|b & c\_d 50% \#1 \{x\} \<b\>" in text and "x marks" in text
  assert not re.search(r"(?<!\\)<", text)


def test_latex_escapes_all_special_characters():
  text = report_latex.escaped(NASTY)
  assert text == (
    r"a\textbar{}b \& c\_d 50\% \#1 \{x\} \textless{}b\textgreater{}''q''"
    r"\textless{}/b\textgreater{} \textasciitilde{}\textasciicircum{}"
    r"\textbackslash{} \$5 $\tau$ $\pm$ é ..."
  )


@pytest.mark.parametrize(
  ("character", "text"), [("Ω", r"$\Omega$"), ("λ", r"$\lambda$")]
)
def test_latex_knows_greek(character, text):
  assert report_latex.escaped(character) == text


def test_latex_shows_what_it_cannot_write_as_a_question_mark():
  assert report_latex.escaped("漢 Ą") == "? A"


def test_latex_has_true_minus_signs_and_leaves_long_lists_out(folder):
  assert r"5.0 \textbar{} $-$4.0 x" in report_latex.render(NASTY_DOCUMENT)
  text = write(folder)[2].read_text()
  assert "Every cell" not in text and r"\toprule" in text and r"50 \%" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
@pytest.mark.parametrize("included", [False, True])
def test_latex_compiles_alone_and_included(tmp_path, included):
  name = "scorecard.tex"
  (tmp_path / name).write_text(report_latex.render(NASTY_DOCUMENT), encoding="utf-8")
  if included:
    name = "paper.tex"
    (tmp_path / name).write_text(
      r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
      r"Before \input{scorecard} after\end{document}"
    )
  command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60)
  assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_long_tables_take_several_latex_pages():
  rows = tuple((f"row {i}", "1") for i in range(90))
  text = report_latex.render(Document("T", "", (), (Table("T", ("r", "c"), rows),)))
  assert text.count(r"\begin{tabular}") == 3 and text.count(r"\midrule") == 3
