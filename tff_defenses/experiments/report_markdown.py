"""A report in Markdown, for a README or an issue."""

import re
from collections.abc import Iterable, Sequence

from tff_defenses.experiments.report_document import Document, Lines, Table


def render(document: Document) -> str:
  """The report as GitHub's Markdown."""
  parts = [f"# {escaped(document.title)}"]
  if document.label:
    parts.append(f"**{escaped(document.label)}**")
  parts += [escaped(paragraph) for paragraph in document.lead]
  for block in document.blocks:
    parts.append(f"## {escaped(block.title)}")
    if isinstance(block, Lines):
      parts.append(bullets(map(escaped, block.items)))
    else:
      parts.append(table_of(block))
      below = f"{block.legend} {block.marks}".strip()
      parts += [escaped(below)] if below else []
  return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
  r"""Text that Markdown shows as it is, on one line.

  >>> print(escaped("a|b *c* fl_plas 5 %"))
  a\|b \*c\* fl\_plas 5 %
  """
  return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def bullets(lines: Iterable[str]) -> str:
  """A list whose lines are Markdown already."""
  return "\n".join(f"- {line}" for line in lines)


def table_of(table: Table) -> str:
  """A table of a report as Markdown."""
  rule = [":--" if i < table.labels else "--:" for i in range(len(table.header))]
  rows = [[escaped(str(entry)) for entry in row] for row in (table.header, *table.rows)]
  return _joined([rows[0], rule, *rows[1:]])


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A table whose cells are Markdown already, all columns to the left."""
  return _joined([head, ["---"] * len(head), *rows])


def _joined(lines):
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)
