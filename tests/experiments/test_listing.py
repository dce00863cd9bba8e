"""What `--list` prints: every name of every registry."""

import attacks
import models
from tff_defenses import aggregators
from tff_defenses.experiments import datasets, listing, papers, partition, presets

KINDS = {
  "data sets": datasets.DATASETS,
  "models": models.MODELS,
  "defenses": aggregators.AGGREGATORS,
  "attacks": attacks.ATTACKS,
  "partitions": partition.PARTITIONS,
  "presets": presets.PRESETS,
  "tables and figures (--reproduce)": papers.names(),
}


def test_every_name_is_listed_under_its_title_with_a_line_of_text():
  sections = dict(s.split("\n", 1) for s in listing.text().split("\n\n"))
  assert list(sections) == list(KINDS)
  for title, known in KINDS.items():
    rows = [line.split(maxsplit=1) for line in sections[title].splitlines()]
    assert [name for name, _ in rows] == list(known)
    assert all(text.strip() for _, text in rows)
