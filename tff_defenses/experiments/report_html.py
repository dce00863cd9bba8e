"""A report as one HTML file that needs nothing else: figures inside, no script."""

import base64
import html
import pathlib

from tff_defenses.experiments.report_document import Document, Entry, Lines, Table

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.45 system-ui, sans-serif; color: #1b1b1b; background: #fff;
  max-width: 76rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; line-height: 1.25; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.label { font-weight: 700; border: 2px solid #7a4b00; background: #fff3d6;
  padding: .5rem .75rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; overflow-wrap: normal; }
th, td { padding: .3rem .6rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid #ddd; }
td { white-space: nowrap; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; }
th.left, td.left { text-align: left; white-space: normal; max-width: 22rem; }
td.left:first-child, th.left:first-child { position: sticky; left: 0;
  background: #fff; min-width: 6.5rem; }
th.group { text-align: left; background: #fafafa; padding-top: .8rem; }
td small { display: block; white-space: normal; min-width: 6rem; }
.reproduced { background: #dcefe0; }
.off { background: #fbdfd6; }
.failed { background: #f3c4c4; }
.running { background: #e2ebf7; }
.not-comparable, .no-paper-value, .missing { background: #f3f3f3; }
.legend { font-size: .85rem; color: #444; }
details { margin: .4rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
img { max-width: 100%; height: auto; }
@media (max-width: 40rem) {
  body { padding: .6rem; font-size: 15px; }
  table { font-size: .8rem; }
  th, td { padding: .25rem .4rem; }
  th.left, td.left { max-width: 9rem; }
}
"""


def render(document: Document) -> str:
  """The report as a page; figures that cannot be read are named instead."""
  parts = [f"<h1>{_text(document.title)}</h1>"]
  if document.label:
    parts.append(f'<p class="label">{_text(document.label)}</p>')
  parts += [f"<p>{_text(paragraph)}</p>" for paragraph in document.lead]
  for block in document.blocks:
    parts.append(f"<h2>{_text(block.title)}</h2>")
    if isinstance(block, Lines):
      items = "\n".join(f"<li>{_text(item)}</li>" for item in block.items)
      parts.append(f"<ul>\n{items}\n</ul>")
    else:
      parts.append(_table(block))
  if document.figures:
    parts.append("<h2>Figures</h2>")
    parts += [_figure(caption, file) for caption, file in document.figures]
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{_text(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
    "<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
  )


def _text(text):
  return html.escape(str(text))


def _table(table: Table):
  rows = "\n".join(_rows(table))
  head = "".join(
    f"<th{_left(table, i)}>{_text(name)}</th>"
    for i, name in enumerate(table.header)
    if i >= table.is_grouped
  )
  legend = f'\n<p class="legend">{_text(table.legend)}</p>' if table.legend else ""
  shown = (
    f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
    f"<tbody>\n{rows}\n</tbody></table></div>{legend}"
  )
  if not table.is_list:
    return shown
  return f"<details><summary>{len(table.rows)} rows</summary>\n{shown}</details>"


def _rows(table):
  heading = None
  for row in table.rows:
    if table.is_grouped and row[0] != heading:
      heading = row[0]
      span = len(row) - 1
      yield f'<tr><th class="group" colspan="{span}">{_text(heading)}</th></tr>'
    yield f"<tr>{_cells(table, row)}</tr>"


def _cells(table, row):
  found = []
  for i, entry in enumerate(row):
    if i < table.is_grouped:
      continue
    if not isinstance(entry, Entry):
      found.append(f"<td{_left(table, i)}>{_text(entry)}</td>")
      continue
    words = f"<small>{_text(entry.words)}</small>" if entry.words else ""
    kind = entry.kind.replace(" ", "-")
    found.append(f'<td class="{_text(kind)}">{_text(entry.text)}{words}</td>')
  return "".join(found)


def _left(table, i):
  return ' class="left"' if i < table.labels else ""


def _figure(caption, file: pathlib.Path):
  try:
    image = base64.b64encode(file.read_bytes()).decode()
  except OSError:
    return f"<p>{_text(caption)}: {_text(file.name)} cannot be read.</p>"
  return (
    f"<details><summary>{_text(caption)}</summary>"
    f'<img alt="{_text(caption)}" src="data:image/png;base64,{image}"></details>'
  )
