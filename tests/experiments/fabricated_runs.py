"""Run folders and plans made by hand, for tests of what reads them."""

import base64
import dataclasses
import json
import pathlib

from tff_defenses.experiments import report
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.papers import Cell, PaperTable

# One grey pixel.
PNG = base64.b64decode(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5E"
  "rkJggg=="
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a report reads of a `reproduction.Plan`."""

  table: PaperTable
  output_dir: str
  scale: float = 1.0
  seeds: tuple = (0, 1, 2)
  from_scratch: bool = False

  @property
  def cells(self):
    return self.table.cells

  def config_of(self, cell, seed):
    return ExperimentConfig(**cell.settings, seed=seed)


def cell(row="ASR", column="Krum", reported=50.0, **changes):
  """A cell of Krum under a label flip; its column names the defense."""
  defense = {"FLARE": "flare", "Krum": "krum", "FedAvg": "fedavg"}.get(column, "krum")
  values = {
    "table": "flare:table9",
    "metric": "attack_success_rate",
    "unit": "percent",
    "band": None if reported is None else 5.0,
    "comparable": True,
    "note": "",
    "preset": "toy",
    "settings": {"defense": defense, "attack": "label_flip"},
    **changes,
  }
  return Cell(row=row, column=column, reported=reported, **values)


def plan(output_dir, *cells, **changes):
  """A plan of one small table."""
  of_plan = {
    n: changes.pop(n) for n in ("scale", "seeds", "from_scratch") if n in changes
  }
  values = {
    "name": "flare:table9",
    "paper": "flare",
    "title": "A table",
    "anchor": "Table 9, Sec. 9",
    "kind": "table",
    "paper_runs": 3,
    "unstated": ("The seeds.",),
    "deviations": ("Ours is smaller.",),
    "x": None,
    "variants": {},
    "not_comparable": (),
    **changes,
  }
  table = PaperTable(cells=tuple(cells), **values)
  return Plan(table=table, output_dir=str(output_dir), **of_plan)


def put(
  output_dir, config, *, version="1", rounds=None, error=None, folder=None, **values
):
  """A run's folder: done with `values`, failed with `error`, or with some rounds.

  Args:
    config: An `ExperimentConfig`.
    rounds: Finished so far; None: the run is done, unless it failed.
  """
  path = output_dir / (folder or config.folder_name)
  path.mkdir(parents=True, exist_ok=True)
  settings = {"config_hash": config.hash(), **config.settings(), "version": version}
  write(path / "config.json", settings | {"reduced": config.is_reduced})
  if error is not None:
    write(path / "failed.json", {"error": error, "type": "ValueError"})
  elif rounds is None:
    final = values.pop("final", {})
    write(path / "summary.json", values | {"seed": config.seed, "final": final})
  if rounds:
    rows = "".join(f"{i},0.5\r\n" for i in range(1, rounds + 1))
    (path / "metrics.csv").write_text(f"round,accuracy\r\n{rows}")
  return path


def put_seeds(plan, cell, values, **more):
  """Done runs of one cell, seed -> value of its metric, as a fraction."""
  return [
    put(path_of(plan), plan.config_of(cell, seed), **{cell.metric: value}, **more)
    for seed, value in values.items()
  ]


def report_of(folder, *, width=None):
  """The text of a folder's report."""
  return report.render(report.read(folder), width=width)


def path_of(plan):
  return pathlib.Path(plan.output_dir)


def write(file, content):
  file.write_text(json.dumps(content))
