"""What exists, for `--list`: names and one line each, from the registries."""

from collections.abc import Iterable

import attacks
import models
from tff_defenses import aggregators
from tff_defenses.experiments import datasets, papers, partition, presets


def text() -> str:
  """All data sets, models, defenses, attacks, partitions, presets and tables."""
  sections = {
    "data sets": [(n, s.description) for n, s in datasets.DATASETS.items()],
    "models": [
      (n, f"{s.anchor}; {s.num_parameters:,} parameters")
      for n, s in models.MODELS.items()
    ],
    "defenses": [
      (n, f"{s.summary} ({s.paper})") for n, s in aggregators.AGGREGATORS.items()
    ],
    "attacks": [(n, f"{s.summary} ({s.paper})") for n, s in attacks.ATTACKS.items()],
    "partitions": [(n, s.description) for n, s in partition.PARTITIONS.items()],
    "presets": [(n, _preset(settings)) for n, settings in presets.PRESETS.items()],
    "tables and figures (--reproduce)": [
      (n, papers.load(n).title) for n in papers.names()
    ],
  }
  return "\n\n".join(_section(title, rows) for title, rows in sections.items())


def _section(title: str, rows: Iterable[tuple[str, str]]) -> str:
  lines = [f"  {name:<20s} {summary}" for name, summary in rows]
  return "\n".join([title, *lines])


def _preset(settings) -> str:
  return (
    f"{settings['dataset']}, {settings.get('model', 'default model')}, "
    f"{settings.get('num_clients', 10)} clients, {settings.get('rounds', 20)} rounds, "
    f"attack {settings.get('attack', 'none')}"
  )
