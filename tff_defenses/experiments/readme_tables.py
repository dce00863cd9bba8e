"""The README's tables: defenses, attacks, and the published results.

    uv run python -m tff_defenses.experiments.readme_tables README.md

replaces what stands between `<!-- NAME: generated -->` and `<!-- end -->`.
"""

import pathlib
import re
import sys

import attacks
from tff_defenses import aggregators
from tff_defenses.experiments import report_markdown, results_section
from tff_defenses.experiments.errors import OutputError

_NEEDS = {
  "auxiliary_data": "10 trusted images",
  "root_data": "100 trusted images with labels",
  "client_state": "clients that keep state",
  "global_weights": "the global weights",
  "num_byzantine": "the number of malicious clients",
}
_SIGHTS = {
  "own_data": "own data",
  "own_training": "own training",
  "benign_updates": "the others' updates",
  "aggregator": "the rule",
}


def defenses() -> str:
  """Markdown table of `AGGREGATORS`."""
  head = ("`--defense`", "rule", "reference", "needs", "assumes")
  return report_markdown.plain_table(
    head,
    (
      (
        f"`{name}`",
        spec.summary,
        _reference(spec.paper, spec.anchor),
        "; ".join(text for need, text in _NEEDS.items() if need in spec.needs),
        str(spec.assumption),
      )
      for name, spec in aggregators.AGGREGATORS.items()
    ),
  )


def attack_table() -> str:
  """Markdown table of `ATTACKS`."""
  return report_markdown.plain_table(
    ("`--attack`", "what it does", "changes", "sees", "reference"),
    (
      (
        f"`{name}`",
        spec.summary,
        spec.kind,
        "; ".join(text for sight, text in _SIGHTS.items() if sight in spec.sees),
        _reference(spec.paper, spec.anchor),
      )
      for name, spec in attacks.ATTACKS.items()
    ),
  )


TABLES = {
  "defenses": defenses,
  "attacks": attack_table,
  "counts": results_section.counts,
  "results": results_section.section,
  "tables": results_section.tables,
}


def filled(text: str) -> str:
  """A README's text with every table as the registries have it now.

  Raises:
    ValueError: the marks of a table are missing.
  """
  for name, table in TABLES.items():
    block = re.compile(rf"(<!-- {name}: generated -->\n).*?(<!-- end -->)", re.S)
    if not block.search(text):
      raise ValueError(
        f"readme_tables: the text must hold `<!-- {name}: generated -->` and a line "
        "`<!-- end -->` below it, got neither. Put them where the table belongs."
      )
    text = block.sub(lambda found, t=table: found[1] + t() + "\n" + found[2], text)
  return text


def _reference(paper: str, anchor: str) -> str:
  return anchor if anchor.startswith(paper) else f"{paper}, {anchor}"


def main() -> None:
  file = pathlib.Path(sys.argv[1])
  try:
    file.write_text(filled(file.read_text()))
  except OutputError as error:
    sys.exit(str(error))


if __name__ == "__main__":
  main()
