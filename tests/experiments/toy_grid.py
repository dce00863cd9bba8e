"""A real grid of three small runs, as a process that may be killed.

`python -m tests.experiments.toy_grid <output folder> <cache folder> [fedavg|...]`
"""

import pathlib
import sys

from tests.experiments import toy_runs

RUNS = {"fedavg": toy_runs.FEDAVG, "fl_plas": toy_runs.FL_PLAS, "flare": toy_runs.FLARE}


def configs(output, cache, names):
  """One config a name, each in its own folder."""
  return [
    toy_runs.toy(pathlib.Path(output) / name, cache, **RUNS[name]) for name in names
  ]


def main(output, cache, *names):
  from tff_defenses import runtime
  from tff_defenses.experiments import grid

  with runtime.use_local_worker() as running:
    result = grid.run(configs(output, cache, names or RUNS), running)
  print(result, flush=True)
  return 0 if result.ok else 1


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
