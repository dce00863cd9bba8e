"""README's results: the scorecards of `results/published`, counts first."""

import collections
import dataclasses
import pathlib

from tff_defenses.experiments import (
  report_markdown,
  reproduction,
  scorecard,
  scorecard_document,
)

_FOLDER = pathlib.Path(__file__).parents[2] / "results" / "published"
_PAPERS = {"flare": "FLARE", "fl_plas": "FL-PLAS"}


def section(folder: pathlib.Path = _FOLDER) -> str:
  """Markdown: how many printed values were met, then a table for each folder."""
  cards = [scorecard.build(plan) for plan in _plans(folder)]
  if not cards:
    return "Nothing is published yet."
  return "\n\n".join([_overview(cards), *(_table(card) for card in cards)])


def _plans(folder):
  """The plans of the published folders, tables in the papers' order."""
  found = [reproduction.read(file.parent) for file in folder.glob("*/plan.json")]
  order = {plan.name: plan.table for plan in found}
  ranks = {name: (table.paper != "flare", name) for name, table in order.items()}
  return sorted(found, key=lambda plan: (ranks[plan.name], plan.output_dir))


def _overview(cards) -> str:
  """A row a folder: counts of the paper's printed values; reduced runs count apart."""
  counted = [_words(card) for card in cards]
  words = list(dict.fromkeys(word for found in counted for word in found))
  head = ["table", "scale", "seeds", *words]
  lines = [head, ["---"] * len(head)]
  for card, found in zip(cards, counted, strict=True):
    seeds = sorted({seed for score in card.scores for seed in score.by_seed})
    name = f"{_PAPERS[card.plan.table.paper]} {card.plan.table.anchor}"
    numbers = [str(found.get(word, "")) for word in words]
    lines.append([name, f"{card.plan.scale:g}", ", ".join(map(str, seeds)), *numbers])
  total = collections.Counter()
  for found in counted:
    total.update(found)
  lines.append(["all", "", "", *(str(total[word]) for word in words)])
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _words(card) -> dict[str, int]:
  """What became of the values that the paper prints: verdict -> cells."""
  printed = [s for s in card.printed if s.cell.reported is not None]
  found = scorecard.counts(printed)
  return {card.word(kind): number for kind, number in found.items()}


def _table(card) -> str:
  """The rows of which something was run."""
  rows = {s.cell.row for s in card.scores if s.by_seed}
  shown = [s for s in card.scores if s.cell.row in rows]
  part = dataclasses.replace(card, scores=tuple(shown))
  table = scorecard_document.as_printed(part)
  title = f"**{_PAPERS[card.plan.table.paper]} {card.plan.table.anchor}.** "
  label = f" {card.label}." if card.label else ""
  legend = f"{table.legend} {table.marks}".strip()
  text = report_markdown.escaped(f"{card.plan.table.title}.{label} {legend}")
  return f"{title}{text}\n\n{report_markdown.table_of(table)}"
