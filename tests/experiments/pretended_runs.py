"""Runs that are only pretended: files as of a real one, in an instant.

As a script it is a process of a grid without TensorFlow: `pretended_runs.py <folder>
<number of runs> <log> [<what happens to the first process that comes>] --jobs=1`.
"""

import os
import pathlib
import signal
import sys
import time

import numpy as np
import pandas as pd

from tests.experiments.toy_runs import toy
from tff_defenses.experiments import (
  claims,
  grid_state,
  progress,
  records,
  round_tables,
  run_record,
)
from tff_defenses.experiments import jobs as jobs_lib

SUMMARY = {
  **dict.fromkeys(records.SUMMARY_KEYS),
  "accuracy": 0.5,
  "backdoor_accuracy_nontarget": 0.25,
  "seed": 0,
}
TIMING = {"seconds_round": 3.0, "seconds_training": 2.0, "seconds_aggregation": 0.5}


def configs(folder, number):
  """Configs that differ in their seed."""
  return [toy(pathlib.Path(folder) / f"run{k}", folder, seed=k) for k in range(number)]


def finish(config, *, seconds=0.0, log=None):
  """Does to the folder what `loop.run` does; a line in the log for each run made."""
  path = progress.folder(config)
  with claims.claim(path):
    folder = records.RunFolder(path, run_record.describe(config))
    if folder.is_complete:
      return
    if log is not None:
      with open(log, "a") as stream:
        stream.write(f"{path.name}\n")
    time.sleep(seconds)
    tables = {  # not `add_round`, which imports TensorFlow
      "metrics.csv": pd.DataFrame([{"round": 1, "accuracy": 0.5}]),
      "clients.csv": records.client_rows(1, [0], np.array([False]), {}),
      "timing.csv": pd.DataFrame([{"round": 1, **TIMING}]),
    }
    for name, rows in tables.items():
      round_tables.append(path / name, rows)
    folder.write_arrays({"malicious": np.zeros(3, bool)})
    folder.write_summary(SUMMARY)


def main(folder, number, log, happens):
  """Takes what is free, as `grid.run`, until nothing is left."""
  assert jobs_lib.CHILD_VARIABLE in os.environ
  mark = pathlib.Path(folder) / "happened"
  todo = configs(folder, int(number))
  while grid_state.is_left(todo):
    for config in todo:
      if progress.status(config) != progress.LEFT:
        continue
      try:
        with claims.claim(progress.folder(config)):
          if happens != "nothing" and not mark.exists():
            mark.write_text("")
            happen(happens)
        finish(config, seconds=0.2, log=log)
      except claims.ClaimedError:
        continue
    time.sleep(0.05)


def happen(what):
  if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
  if what == "waits":
    time.sleep(60)
  sys.exit("error: the process cannot go on")


if __name__ == "__main__":
  assert sys.argv[-1] == "--jobs=1"
  main(*sys.argv[1:-1])
