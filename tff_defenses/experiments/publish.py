"""Copies what matters of an output folder to where the repository keeps results.

    uv run python -m tff_defenses.experiments.publish results/flare-table3-scale0.02

puts plan, configs, rows a round, summaries, scorecard and figures of the paper into
`results/published/<folder's name>`; checkpoints, arrays and rows a client stay behind.
`--report` works on the copy as on the original.
"""

import pathlib
import shutil
import sys

from tff_defenses.experiments import commands
from tff_defenses.experiments.errors import writing

PUBLISHED = pathlib.Path("results") / "published"
_RUN_FILES = ("config.json", "metrics.csv", "timing.csv", "summary.json", "failed.json")
_CARD_FILES = ("scorecard.csv", "scorecard.md")


def publish(folder: pathlib.Path, target: pathlib.Path) -> None:
  """Copies an output folder, whose report is made first.

  Args:
    folder: Of `--reproduce` or of any runs.
    target: Made; what it holds already of the same runs is replaced.

  Raises:
    OutputError: the folder holds no run, or a file cannot be read or written.
  """
  commands.report(str(folder))
  with writing(target):
    for file in sorted(folder.rglob("*")):
      relative = file.relative_to(folder)
      if _is_wanted(relative):
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / relative)


def _is_wanted(relative: pathlib.Path) -> bool:
  """Files of the folder itself, its figures, and of each run."""
  parts = relative.parts
  if any(part.startswith(".") for part in parts):
    return False
  if len(parts) == 1:
    return parts[0] in ("plan.json", *_CARD_FILES)
  if parts[0] == "figures":
    return relative.suffix == ".png"
  return len(parts) == 2 and parts[1] in _RUN_FILES


def main() -> None:
  for name in sys.argv[1:]:
    folder = pathlib.Path(name).resolve()
    publish(folder, PUBLISHED / folder.name)


if __name__ == "__main__":
  main()
