"""Hours that each table and figure of the papers takes at full scale on this machine.

Run by hand; writes the column of hours that docs/reproducing.md shows:

    python benchmarks/full_scale_hours.py --data_dir ~/data

Every kind of run is calibrated once (see `experiments.calibration`), so this takes some
ten minutes. Data sets that are not at hand are left blank.
"""

import argparse
import os
import pathlib
import sys
import tempfile

import pandas as pd

_DEFAULT = pathlib.Path(__file__).parent.parent / "docs" / "full_scale_hours.csv"


def hours(data_dir: str, runtime) -> pd.DataFrame:
  """A row a table: its runs, those that could be estimated, and their hours in all."""
  from tff_defenses.experiments import calibration, papers, reproduction

  with tempfile.TemporaryDirectory(prefix="tff_defenses_hours_") as folder:
    plans = [
      reproduction.plan(name, data_dir=data_dir, output_dir=os.path.join(folder, name))
      for name in papers.names()
    ]
    configs = [(plan.name, config) for plan in plans for config in plan.configs()]
    frame = calibration.estimate(
      [config for _, config in configs], runtime, adopts=False
    )
  frame["table"] = [name for name, _ in configs]
  found = frame.groupby("table", sort=False)["hours"].agg(["size", "count", "sum"])
  found.columns = ["runs", "estimated", "hours"]
  return found.reset_index()


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--data_dir", required=True, help="folder with raw data files")
  parser.add_argument("--output", type=pathlib.Path, default=_DEFAULT)
  options = parser.parse_args()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  from tff_defenses import runtime as runtime_lib

  with runtime_lib.use_local_worker() as runtime:
    frame = hours(options.data_dir, runtime)
  frame.to_csv(options.output, index=False, float_format="%.1f", lineterminator="\n")
  print(frame.to_string(index=False), file=sys.stderr)


if __name__ == "__main__":
  main()
