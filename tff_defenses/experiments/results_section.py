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


def counts(folder: pathlib.Path = _FOLDER) -> str:
  """One sentence: what became of all printed values of the tables run so far."""
  cards = [scorecard.build(plan) for plan in _plans(folder)]
  total = collections.Counter()
  for card in cards:
    total.update(_words(card))
  found = ", ".join(f"{number} {word}" for word, number in total.items())
  return (
    f"Printed values in the {len(cards)} scorecard{'s' * (len(cards) != 1)} so far: "
    f"{found or 'none'}; "
    "see [Results so far](#results-so-far)."
  )


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
  repeat = f"Again, or narrowed to a cell: `{_command(card)}`"
  return f"{title}{text}\n\n{report_markdown.table_of(table)}\n\n{repeat}"


def _command(card) -> str:
  """The command whose runs the rows hold."""
  plan, run = card.plan, [s for s in card.scores if s.by_seed]
  parts = _listed(name.split(", ")[-1] for name in plan.variants)  # commas part names
  flags = {
    "scale": None if plan.scale == 1 else f"{plan.scale:g}",
    "dataset": _listed(plan.config_of(s.cell, 0).dataset for s in run),
    "defense": _listed(plan.config_of(s.cell, 0).defense for s in run),
    "attack": _listed(plan.config_of(s.cell, 0).attack for s in run),
    "seeds": _listed(str(seed) for seed in sorted(plan.seeds)),
    "variants": f'"{parts}"' if parts else None,
  }
  given = (f" --{name}={value}" for name, value in flags.items() if value is not None)
  name = f"uv run run_experiments.py --reproduce={plan.name}{''.join(given)}"
  return f"{name} --data_dir=~/data"


def _listed(names) -> str:
  return ",".join(dict.fromkeys(names))
