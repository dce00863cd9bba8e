"""README's results: the scorecards of `results/published`, counts first."""

import collections
import dataclasses
import pathlib

from tff_defenses.experiments import (
  papers,
  report_markdown,
  reproduction,
  scorecard,
  scorecard_document,
  verdicts,
)

_FOLDER = pathlib.Path(__file__).parents[2] / "results" / "published"
# How verdicts begin, in the order of the columns.
_ORDER = ("reproduced", "within", "off", "not", "missing", "failed")


_NOTHING = "Nothing is published yet."


def section(folder: pathlib.Path = _FOLDER) -> str:
  """Markdown: how many printed values were met, table by table, and the figures."""
  cards = [scorecard.build(plan) for plan in _plans(folder)]
  parts = [_overview(_with_printed_values(cards)), _figures(cards, folder)]
  return "\n\n".join(part for part in parts if part) if cards else _NOTHING


def tables(folder: pathlib.Path = _FOLDER) -> str:
  """Markdown: the paper's values and ours, a table for each folder.

  Figures of which the paper prints no value have none, nor have folders without a
  finished run.
  """
  cards = _with_printed_values(scorecard.build(plan) for plan in _plans(folder))
  shown = (card for card in cards if any(s.by_seed for s in card.scores))
  return "\n\n".join(map(_table, shown)) or _NOTHING


def counts(folder: pathlib.Path = _FOLDER) -> str:
  """What became of all printed values of the tables run so far, in words."""
  cards = _with_printed_values(scorecard.build(plan) for plan in _plans(folder))
  total, tables = _total(cards), {card.plan.name for card in cards}
  some = f"{len(tables)} tables and figures" if len(tables) != 1 else "table"
  found = [
    f"Printed values in the {some} run so far: {_in_words(total)}; "
    "see [Results so far](#results-so-far)."
  ]
  partial = _partial(cards)
  if partial:
    found.append(f"{partial} of these rest on fewer runs than the paper's mean.")
  readings = _total_of_readings(cards)
  if readings:
    found.append(f"In other readings of the papers: {_in_words(readings)}.")
  return " ".join(found)


def _in_words(total) -> str:
  return ", ".join(f"{total[word]} {word}" for word in _in_order(total))


def _plans(folder):
  """The plans of the published folders, tables in the papers' order."""
  found = [reproduction.read(file.parent) for file in folder.glob("*/plan.json")]
  order = papers.names()
  return sorted(found, key=lambda plan: (order.index(plan.name), plan.output_dir))


def _overview(cards) -> str:
  """A row a folder: counts of the paper's printed values; reduced runs count apart."""
  counted, readings = [_words(card) for card in cards], _total_of_readings(cards)
  words = _in_order({word for found in (*counted, readings) for word in found})
  lines = []
  for card, found in zip(cards, counted, strict=True):
    seeds = dict.fromkeys(tuple(sorted(s.by_seed)) for s in card.scores if s.by_seed)
    name = _name(card)
    numbers = [str(found.get(word, "")) for word in words]
    shown = "; ".join(", ".join(map(str, some)) for some in sorted(seeds))
    scale = f"{card.plan.scale:g}" if card.is_reduced else "full"
    lines.append([name, scale, shown, *numbers])
  total = _total(cards)
  lines.append(["all, each value once", "", "", *(str(total[word]) for word in words)])
  if readings:
    numbers = [str(readings[word] or "") for word in words]
    lines.append(["other readings that were run", "", "", *numbers])
  return report_markdown.plain_table(["table", "scale", "seed numbers", *words], lines)


def _words(card) -> dict[str, int]:
  """What became of the values that the paper prints: verdict -> cells."""
  printed = [s for s in card.printed if s.cell.reported is not None]
  found = scorecard.counts(printed)
  return {card.word(kind): number for kind, number in found.items()}


def _total(cards) -> collections.Counter:
  """Each printed value once, by the runs of the largest scale that measured it."""
  scores = ((card, score) for card in cards for score in card.printed)
  found = collections.Counter({verdicts.REPRODUCED: 0})  # said even if there is none
  found.update(card.word(s.kind) for card, s in _largest(scores))
  return found


def _total_of_readings(cards) -> collections.Counter:
  """The same of values that were measured in another reading of the paper."""
  scores = ((card, score) for card in cards for score in card.readings)
  measured = ((card, score) for card, score in scores if score.by_seed)
  return collections.Counter(card.word(s.kind) for card, s in _largest(measured))


def _partial(cards) -> int:
  """How many of the total's verdicts rest on fewer seeds than the paper's runs."""
  scores = ((card, score) for card in cards for score in card.printed)
  return sum(
    score.is_verdict and len(score.by_seed) < (card.plan.table.paper_runs or 1)
    for card, score in _largest(scores)
  )


def _largest(scores) -> list:
  """(card, score) of each printed value; runs from random weights are another start."""
  found = {}
  for card, score in sorted(scores, key=lambda pair: pair[0].plan.scale):
    cell = score.cell
    place = cell.table, cell.row, cell.column, cell.metric
    if cell.reported is None or card.plan.from_scratch:
      continue
    if score.by_seed or place not in found:
      found[place] = card, score
  return list(found.values())


def _with_printed_values(cards) -> list:
  return [card for card in cards if _words(card)]


def _in_order(words) -> list[str]:
  """The words, those of values that were met first."""

  def rank(word):
    return next((i for i, start in enumerate(_ORDER) if word.startswith(start)), 99)

  return sorted(words, key=lambda word: (rank(word), word))


def _name(card) -> str:
  start = ", from random weights" if card.plan.from_scratch else ""
  return f"{papers.PAPER_NAMES[card.plan.table.paper]} {card.plan.table.anchor}{start}"


def _figures(cards, folder) -> str:
  """Links to the published figures, from the repository's root."""
  links = []
  for card in cards:
    for file in sorted(pathlib.Path(card.plan.output_dir).glob("figures/*.png")):
      scale = f", scale {card.plan.scale:g}" if card.is_reduced else ""
      path = file.relative_to(folder)
      links.append(f"[{_name(card)}{scale}](results/published/{path})")
  return f"Figures of these runs: {'; '.join(links)}." if links else ""


def _table(card) -> str:
  """The rows of which something was run."""
  rows = {s.cell.row for s in card.scores if s.by_seed}
  shown = [s for s in card.scores if s.cell.row in rows]
  part = dataclasses.replace(card, scores=tuple(shown))
  table = scorecard_document.as_printed(part)
  title = f"**{_name(card)}.** "
  label = f" {card.label}." if card.label else ""
  label += " From random weights." if card.plan.from_scratch else ""
  legend = f"{table.legend} {table.marks}".strip()
  text = report_markdown.escaped(f"{card.plan.table.title}.{label} {legend}")
  parts = [f"{title}{text}", report_markdown.table_of(table)]
  if card.faults:  # such as runs that began from two starts
    faults = map(report_markdown.escaped, card.faults)
    parts += ["Problems:", report_markdown.bullets(faults)]
  commands = report_markdown.bullets(f"`{command}`" for command in _commands(card))
  return "\n\n".join([*parts, "Again, or narrowed to a cell:", commands])


def _commands(card) -> list[str]:
  """The commands that make the values shown: one for equal seeds and reading."""
  alike = collections.defaultdict(list)
  for score in card.scores:
    if score.by_seed:
      alike[tuple(sorted(score.by_seed)), score.cell.variant].append(score.cell)
  return [_command(card.plan, *key, cells) for key, cells in alike.items()]


def _command(plan, seeds, variant, cells) -> str:
  configs = [plan.config_of(cell, 0) for cell in cells]
  parts = [
    f"--reproduce={plan.name}",
    *([] if plan.scale == 1 else [f"--scale={plan.scale:g}"]),
    *(["--from_scratch"] if plan.from_scratch else []),
    f"--dataset={_listed(config.dataset for config in configs)}",
    f"--defense={_listed(config.defense for config in configs)}",
    f"--attack={_listed(config.attack for config in configs)}",
    f"--seeds={_listed(map(str, seeds))}",
    *([f'--variants="{variant}"'] if variant else []),
  ]
  return f"uv run run_experiments.py {' '.join(parts)} --data_dir=~/data"


def _listed(names) -> str:
  return ",".join(dict.fromkeys(names))
