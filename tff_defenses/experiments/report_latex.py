r"""A report in LaTeX: a document of its own, and equally good for `\input`.

Needs the packages booktabs and graphicx, which every distribution has.
"""

import re
import unicodedata

from tff_defenses.experiments.report_document import Document, Lines, Table

_ROWS = 40  # ours: more do not fit on a page
# \documentclass is redefined once it has been used: then the text is being included.
_HEAD = r"""% Compile it, or \input it where booktabs and graphicx are loaded.
\expandafter\ifx\csname @twoclasseserror\endcsname\documentclass
  \let\reportend\relax
\else
  \documentclass{article}
  \usepackage[utf8]{inputenc}
  \usepackage[margin=2cm]{geometry}
  \usepackage{booktabs,graphicx}
  \def\reportend{\end{document}}
  \begin{document}
\fi
"""
_SPECIAL = {
  "\\": r"\textbackslash{}",
  "{": r"\{",
  "}": r"\}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "<": r"\textless{}",
  ">": r"\textgreater{}",
  "|": r"\textbar{}",
  '"': "''",
  **{c: f"\\{c}" for c in "&%$#_"},
  "±": r"$\pm$",
  "−": "$-$",
  "≤": r"$\leq$",
  "≥": r"$\geq$",
  "≠": r"$\neq$",
  "×": r"$\times$",
  "√": r"$\surd$",
  "–": "--",
  "—": "---",
  "‘": "`",
  "’": "'",
  "“": "``",
  "”": "''",
}


def render(document: Document) -> str:
  """Label, lead, the tables that belong in a paper, and the lists."""
  parts = [rf"\section*{{{escaped(document.title)}}}"]
  if document.label:
    parts.append(rf"\textbf{{{escaped(document.label)}}}")
  parts += [escaped(paragraph) for paragraph in document.lead]
  for block in document.blocks:
    if isinstance(block, Lines):
      items = "\n".join(rf"  \item {{}}{escaped(item)}" for item in block.items)
      parts.append(_title(block))
      parts.append(f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}")
    elif not block.is_list:
      parts.append(_title(block))
      parts += _tables(block, document.label)
      below = f"{block.legend} {block.marks}".strip()
      parts += [rf"{{\footnotesize {escaped(below)}\par}}"] if below else []
  return _HEAD + "\n\n".join(parts) + "\n\\reportend\n"


def escaped(text: str) -> str:
  r"""Text that LaTeX prints as it is, on one line.

  >>> print(escaped("50% of a_b ± 1 & τ"))
  50\% of a\_b $\pm$ 1 \& $\tau$
  """
  return "".join(map(_character, " ".join(text.split())))


def _character(c):
  if c in _SPECIAL or c.isascii():
    return _SPECIAL.get(c, c)
  name = unicodedata.name(c, "").split()
  if name[:1] == ["GREEK"] and name[2:3] == ["LETTER"] and name[-1] != "OMICRON":
    greek = name[3].lower().replace("lamda", "lambda")
    capital = name[1] == "CAPITAL" and greek in _CAPITALS
    return f"$\\{greek.capitalize() if capital else greek}$"
  plain = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
  return c if c <= "\u00ff" and c.isalpha() else plain or "?"


_MINUS = re.compile(r"(?<![\w.-])-(?=\d)")
_CAPITALS = "gamma delta theta lambda xi pi sigma upsilon phi psi omega".split()


def _title(block):
  return rf"\subsection*{{{escaped(block.title)}}}"


def _tables(table: Table, label):
  """As many tabulars as pages are needed, each no wider than the text."""
  columns = "l" * table.labels + "r" * (len(table.header) - table.labels)
  for start in range(0, len(table.rows), _ROWS):
    rows = [_row(row) for row in table.rows[start : start + _ROWS]]
    lines = [
      rf"% {label}" if label else "%",
      r"\noindent\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
      rf"\begin{{tabular}}{{{columns}}}",
      r"\toprule",
      _row(table.header),
      r"\midrule",
      *rows,
      r"\bottomrule",
      r"\end{tabular}}",
    ]
    yield "\n".join(lines)


def _row(entries):
  texts = (escaped(str(entry)) for entry in entries)
  return " & ".join(_MINUS.sub("$-$", text) for text in texts) + r" \\"
