"""docs/reproducing.md: every table and figure of the papers, how to run it, how long.

    uv run python -m tff_defenses.experiments.reproducing_page docs/reproducing.md

writes the page anew from the paper numbers; hours come from `full_scale_hours.csv`
beside it, which `benchmarks/full_scale_hours.py` measures.
"""

import collections
import csv
import math
import pathlib
import sys
from collections.abc import Iterable, Mapping

from tff_defenses.experiments import papers, report_markdown

_POINTS = {"percent": "in percentage points"}
_INTRODUCTION = """\
# Reproducing the papers

Each table and figure is a command. It runs what is missing, then prints and writes the
scorecard: the paper's value, ours (mean and standard deviation over seeds), the
difference, and whether it lies within a band (listed below with the number of values that
have it, with its reason in `tff_defenses/experiments/paper_numbers/*.json`; written
before the runs, and since then only ever narrowed).

```bash
uv run run_experiments.py --reproduce=flare:table3 --data_dir=~/data            # the paper's setting
uv run run_experiments.py --reproduce=flare:table3 --data_dir=~/data --dry_run  # only: how long?
uv run run_experiments.py --reproduce=flare:table3 --data_dir=~/data --dataset=fashion_mnist --attack=krum_backdoor --defense=krum,flare --seeds=0
uv run run_experiments.py --reproduce=flare:table3 --data_dir=~/data --scale=0.05 --jobs=2
uv run run_experiments.py --report=results/flare-table3-scale0.05               # at any time
```

`--scale=s` does about s times the work: epochs are divided by the cube root of 1/s, the
rounds and the training images share the rest; every number of such a run is marked as
reduced and none counts as reproduced. Not scaled are how many clients there are, how many
of them attack, how long attackers train by themselves (`mal_epochs`) and the images that
semantic and edge-case attackers hold: at a small scale they train longer, and on more,
than honest clients do. Nor are auxiliary and root images, or FL-PLAS's pre-trained start:
it is made once, about five minutes for MNIST and 45 for CIFAR-10, and
kept. The Dirichlet split's smallest client shrinks with the images. `--variants=all` adds
other readings of the papers, `--variants="split as published"` one of them, by its name
or part of it. FL-PLAS's runs start from a model of clean training (MNIST: federated
averaging, CIFAR: on all clients' images together; `--from_scratch`: random weights),
since the authors' checkpoints are not public.

Hours are for all seeds at full scale on two cores, one process, estimated by
`benchmarks/full_scale_hours.py` from short runs on a machine about twice as fast as that
of the latest published ones. "+": without the runs whose data were not at hand, or that
were added since; "-": no run could be estimated.
"""  # noqa: E501 (commands are one line, to be copied)


def page(hours: Mapping[str, Mapping[str, str]]) -> str:
  """The whole page.

  Args:
    hours: Table -> row of full_scale_hours.csv; tables may be missing.
  """
  tables = [papers.load(name) for name in papers.names()]
  parts = [_INTRODUCTION, _overview(tables, hours)]
  return "\n".join(parts + [_section(table) for table in tables])


def read_hours(file: pathlib.Path) -> dict[str, dict[str, str]]:
  """full_scale_hours.csv by table."""
  with file.open(newline="") as lines:
    return {row["table"]: row for row in csv.DictReader(lines)}


def _overview(tables, hours):
  head = ["`--reproduce=`", "what", "runs", "values in the paper", "hours"]
  lines = []
  for table in tables:
    row = hours.get(table.name, {})
    printed = sum(
      cell.reported is not None and cell.reading_of is None for cell in table.cells
    )
    lines.append(
      [
        f"[`{table.name}`](#{_anchor(table)})",
        f"{papers.PAPER_NAMES[table.paper]} {table.anchor}: {table.title}",
        row.get("runs", "-"),
        str(printed),
        _hours(row),
      ]
    )
  return report_markdown.plain_table(head, lines) + "\n"


def _hours(row):
  """Hours in all; "+": some runs could not be estimated."""
  if not row or row["estimated"] == "0":
    return "-"
  return row["hours"] + ("" if row["estimated"] == row["runs"] else "+")


def _anchor(table):
  return table.name.replace(":", "")


def _section(table) -> str:
  seeds = table.paper_runs
  lines = [
    f"## {table.name}",
    "",
    f"{papers.PAPER_NAMES[table.paper]} {table.anchor}: {table.title}."
    + ("" if seeds is None else f" Paper: {seeds} run{'s' * (seeds != 1)} a cell."),
    "",
    f"    uv run run_experiments.py --reproduce={table.name} --data_dir=~/data",
    "",
  ]
  lines += _list("Bands, where the paper prints a number", _bands(table))
  lines += _list("Not stated in the paper", table.unstated)
  lines += _list("What we do differently", table.deviations)
  lines += _list("Not comparable", table.not_comparable)
  other = (f"`{name}`: {note}" for name, note in table.variants.items())
  lines += _list("Other readings, by `--variants`", other)
  return "\n".join(lines)


def _bands(table) -> Iterable[str]:
  """Each metric's bands, by how many printed numbers have them."""
  widths: dict = collections.defaultdict(collections.Counter)
  for cell in table.cells:
    if cell.reported is not None and cell.reading_of is None and cell.comparable:
      width = math.inf if cell.bound else cell.band
      widths[cell.metric, cell.unit][width] += 1
  for (metric, unit), counts in widths.items():
    shown = ", ".join(f"{_width(w)} ({counts[w]})" for w in sorted(counts))
    yield f"`{metric}`, {_POINTS.get(unit, unit)}: {shown}"


def _width(band) -> str:
  return "up to the bound" if math.isinf(band) else f"{band:g}"


def _list(title: str, points: Iterable[str]) -> list[str]:
  points = list(points)
  return [f"{title}:", "", *(f"- {point}" for point in points), ""] if points else []


def main() -> None:
  file = pathlib.Path(sys.argv[1])
  file.write_text(page(read_hours(file.with_name("full_scale_hours.csv"))))


if __name__ == "__main__":
  main()
