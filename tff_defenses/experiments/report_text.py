"""A report for the terminal."""

import textwrap
from collections.abc import Sequence

from tff_defenses.experiments.report_document import Document, Lines, Table

_LABEL_WIDTH = 34  # ours: longer row labels are wrapped,
_LISTED_WIDTH = 44  # and longer ones in a list shortened
_GAP = 2


def render(document: Document, *, width: int = 100) -> str:
  """The report as text.

  Args:
    document: What to print.
    width: Tables that are wider are broken into blocks of columns.
  """
  title = textwrap.wrap(document.title, width)
  parts = ["\n".join([*title, "=" * len(max(title, key=len))])]
  if document.label:
    parts.append(f"*** {document.label} ***")
  parts += [textwrap.fill(paragraph, width) for paragraph in document.lead]
  for block in document.blocks:
    parts.append(f"{block.title}\n{'-' * min(len(block.title), width)}")
    if isinstance(block, Lines):
      parts[-1] += "\n" + "\n".join(_item(item, width) for item in block.items)
    else:
      draw = _grouped if block.is_grouped else _blocks
      parts[-1] += "\n" + draw(block, width)
      below = f"{block.legend} {block.marks}".strip()
      parts[-1] += "\n" + textwrap.fill(below, width) if below else ""
  return "\n\n".join(parts)


def aligned(
  header: Sequence[str], rows: Sequence[Sequence[str]], *, labels: int = 0
) -> str:
  """Lines with columns padded to one width; the first `labels` columns to the left.

  >>> print(aligned(["who", "n"], [["flare", "7"], ["krum", "12"]], labels=1))
  who     n
  flare   7
  krum   12
  """
  lines = [list(header), *(list(row) for row in rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  padded = [
    [
      text.ljust(size) if i < labels else text.rjust(size)
      for i, (text, size) in enumerate(zip(line, widths, strict=True))
    ]
    for line in lines
  ]
  return "\n".join((" " * _GAP).join(line).rstrip() for line in padded)


def _item(text, width):
  text = " ".join(text.split())
  return textwrap.fill(text, width, initial_indent="- ", subsequent_indent="  ")


def _blocks(table: Table, width):
  """The table, its label columns repeated in front of each block of the others."""
  rows = [[" ".join(str(entry).split()) for entry in row] for row in table.rows]
  count = table.labels
  narrow = min(_LABEL_WIDTH, max(16, width // (2 * max(1, count))))
  sizes = [
    max([len(table.header[i]), *(len(row[i]) for row in rows)]) + _GAP
    for i in range(len(table.header))
  ]
  taken = sum(min(size, narrow + _GAP) for size in sizes[:count])
  if rows and count > 1 and taken + max(sizes[count:], default=0) > width:
    return _numbered(table, width)
  blocks, room = [[]], width - taken
  for i in range(count, len(sizes)):
    if blocks[-1] and room < sizes[i]:
      blocks.append([])
      room = width - taken
    blocks[-1].append(i)
    room -= sizes[i]
  return "\n\n".join(_block(table, rows, [*range(count), *b], narrow) for b in blocks)


def _numbered(table: Table, width):
  """Labels that leave no room for anything else: a list of them, then the numbers."""
  count, rows = table.labels, table.rows
  differs = [len({row[i] for row in rows}) > 1 for i in range(count)]
  keys = [str(number) for number in range(1, len(rows) + 1)]
  known = [("all", [not d for d in differs], rows[0])] if not all(differs) else []
  known += [(key, differs, row) for key, row in zip(keys, rows, strict=True)]
  indent = " " * (max(len(key) for key, *_ in known) + 1 + _GAP)
  listed = [
    textwrap.fill(
      ", ".join(
        f"{table.header[i]} {row[i]}" for i in range(count) if told[i] and row[i] != "-"
      ),
      width,
      initial_indent=f"{key}:".ljust(len(indent)),
      subsequent_indent=indent,
    )
    for key, told, row in known
  ]
  short = tuple((key, *row[count:]) for key, row in zip(keys, rows, strict=True))
  numbers = Table(table.title, ("#", *table.header[count:]), short)
  return "\n".join(listed) + "\n\n" + _blocks(numbers, width)


def _grouped(table: Table, width):
  """A long list: the first column as a heading of the rows that share it."""
  rows = [[" ".join(str(entry).split()) for entry in row] for row in table.rows]
  body = [[textwrap.shorten(row[1], _LISTED_WIDTH), *row[2:]] for row in rows]
  header, *lines = aligned(table.header[1:], body, labels=1).splitlines()
  found, heading = [f"  {header}"], None
  for row, line in zip(rows, lines, strict=True):
    if row[0] != heading:
      heading = row[0]
      found.append(textwrap.fill(heading, width, subsequent_indent="  "))
    found.append(f"  {line}")
  return "\n".join(found)


def _block(table, rows, columns, narrow):
  """Some columns of the table; long labels take several lines."""
  lines = []
  for row in rows:
    labels = [_wrapped(row[i], narrow) for i in columns[: table.labels]]
    rest = [row[i] for i in columns[table.labels :]]
    for depth in range(max(map(len, labels), default=1)):
      left = [label[depth] if depth < len(label) else "" for label in labels]
      lines.append([*left, *(rest if depth == 0 else [""] * len(rest))])
  header = [table.header[i] for i in columns]
  return aligned(header, lines, labels=table.labels)


def _wrapped(text, width):
  return textwrap.wrap(text, width, subsequent_indent="  ") or [""]
