"""A report as blocks of text and tables, the same for every format."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Entry:
  """An entry of a table that has a verdict.

  Args:
    text: What is printed.
    kind: Of verdict, for the colour; "" for none.
    mark: Sign after the text where there is no room for words.
    words: The verdict in words.
  """

  text: str
  kind: str = ""
  mark: str = ""
  words: str = ""

  def __str__(self) -> str:
    return f"{self.text} {self.mark}".strip()


@dataclasses.dataclass(frozen=True)
class Table:
  """Entries are text or `Entry`; all rows are as long as the header.

  Args:
    legend: Below the table.
    marks: What the entries' marks mean, for formats that show them.
    labels: How many columns at the left are labels: aligned left, repeated where a
      table is broken.
    is_grouped: Rows with the same first column follow each other: it may head them.
    is_list: A long list, for reference: folded where that is possible, and left out of
      LaTeX.
  """

  title: str
  header: tuple[str, ...]
  rows: tuple[tuple[Entry | str, ...], ...]
  legend: str = ""
  marks: str = ""
  labels: int = 1
  is_grouped: bool = False
  is_list: bool = False


@dataclasses.dataclass(frozen=True)
class Lines:
  """Sentences under a title."""

  title: str
  items: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Document:
  """A report.

  Args:
    title: One line.
    label: A warning that stands out; "" for none.
    lead: Paragraphs below the title.
    blocks: In order.
    figures: (caption, PNG file); for formats that can show them.
  """

  title: str
  label: str
  lead: tuple[str, ...]
  blocks: tuple[Table | Lines, ...]
  figures: tuple[tuple[str, pathlib.Path], ...] = ()
