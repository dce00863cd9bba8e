"""Copies what matters of an output folder to where the repository keeps results.

    uv run python -m tff_defenses.experiments.publish results/flare-table3-scale0.02

puts plan, configs, rows a round and a client, summaries, scorecard and figures of the
paper into `results/published/<folder's name>`; checkpoints, arrays and runs that have
only begun stay behind. `--report` works on the copy as on the original, but for what
needs these. `--refresh`, without a folder, writes the scorecards of all copies anew,
for when bands or verdicts have changed since.
"""

import argparse
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence

from tff_defenses.experiments import (
  commands,
  report,
  report_files,
  reproduction,
  run_values,
)
from tff_defenses.experiments.errors import OutputError, writing
from tff_defenses.experiments.whole_files import write_text

PUBLISHED = pathlib.Path("results") / "published"
_RUN_FILES = (
  *("config.json", "data.json", "machines.json", "start.json"),
  *("metrics.csv", "clients.csv", "timing.csv"),
  *("summary.json", "failed.json"),
)
_CARD_FILES = ("scorecard.csv", "scorecard.md")


def publish(folder: pathlib.Path, target: pathlib.Path) -> None:
  """Copies an output folder, whose report is made first.

  Args:
    folder: Of `--reproduce`, of any runs, or of one.
    target: Made; an earlier copy is replaced as a whole, so that nothing stays of runs
      that are gone or have failed since. On an error it is left as it was.

  Raises:
    OutputError: the folder holds no run, one of the two lies in the other, or a file,
      the plan among them, cannot be read or written.
  """
  _check_apart(folder.resolve(), target.resolve())
  begun = run_values.find(folder)
  if begun and not any(map(_has_ended, begun)):
    raise OutputError(
      f"publish: {folder} must hold a run that has ended, got {len(begun)} that have "
      "only begun. Give their command again first."
    )
  reproduction.read(folder)  # a plan that cannot be read must not become a plain grid
  commands.report(str(folder))
  with writing(target):
    target.parent.mkdir(parents=True, exist_ok=True)
    place = {"prefix": f".{target.name}-", "dir": target.parent}
    with tempfile.TemporaryDirectory(**place) as aside:  # a rename needs one disk
      new, old = pathlib.Path(aside) / target.name, pathlib.Path(aside) / ".old"
      for file in _wanted(folder):
        copy = new / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        if file.name == "failed.json":
          copy.write_text(_without_folders(copy.read_text()))
      _write_cards(new)  # without what has only begun
      _swap(new, target, old)


def refresh(published: pathlib.Path = PUBLISHED) -> list[pathlib.Path]:
  """Writes the scorecards of all published copies anew; returns those that changed.

  Raises:
    OutputError: a file cannot be read or written.
  """
  folders = sorted(file.parent for file in published.glob("*/scorecard.csv"))
  return [file for folder in folders for file in _write_cards(folder)]


def _write_cards(folder) -> list[pathlib.Path]:
  """Writes a copy's scorecards by what is in it; returns those that changed."""
  reproduction.read(folder)
  texts = report_files.texts(report.read(str(folder)))
  with writing(folder):
    before = {n: folder / n for n in _CARD_FILES if (folder / n).exists()}
    changed = [
      n for n in _CARD_FILES if n not in before or before[n].read_text() != texts[n]
    ]
    for name in changed:
      write_text(folder / name, texts[name])
  return [folder / name for name in changed]


def _without_folders(text: str) -> str:
  """A message without the folders of one machine; names of files stay.

  >>> _without_folders("load: /mnt/data/train.gz must be whole, not 1/2, in `/tmp/a`.")
  'load: train.gz must be whole, not 1/2, in `a`.'
  """
  text = text.replace(str(pathlib.Path.home()), "~")
  return re.sub(r"(?<![\w.~:/])/(?:[^\s/'\"`,]+/)+", "", text)


def _check_apart(folder, target):
  if target.is_relative_to(folder) or folder.is_relative_to(target):
    raise OutputError(
      f"publish: the folder and its copy must lie apart, got {folder} and {target}. "
      "Publish a folder of runs that neither holds published ones nor is one."
    )


def _wanted(folder) -> Iterator[pathlib.Path]:
  """Files of each run, the plans, and scorecard and figures of the folder itself."""
  runs = [run for run in run_values.find(folder) if _has_ended(run)]
  files = [run / name for run in runs for name in _RUN_FILES]
  files += [inner / "plan.json" for inner in run_values.find(folder, "plan.json")]
  files += [folder / name for name in _CARD_FILES]
  files += (folder / "figures").rglob("*.png")
  return (file for file in files if file.is_file())


def _has_ended(run):
  return any((run / name).exists() for name in ("summary.json", "failed.json"))


def _swap(new, target, old):
  """Puts `new` in the place of `target`, which becomes `old`; both or neither."""
  try:
    if target.exists():
      target.rename(old)
    new.rename(target)
  finally:
    if old.exists() and not target.exists():
      old.rename(target)


def main(argv: Sequence[str] | None = None) -> None:
  """Publishes the folders named on the command line; ends the program on an error."""
  parser = argparse.ArgumentParser(
    prog="python -m tff_defenses.experiments.publish",
    description=f"Copies what matters of output folders to {PUBLISHED}.",
  )
  parser.add_argument("folder", nargs="*", help="of --reproduce, or of any runs")
  parser.add_argument(
    "--refresh", action="store_true", help="write the scorecards of all copies anew"
  )
  given = parser.parse_args(argv)
  if given.refresh == bool(given.folder):
    parser.error("name folders of runs, or give --refresh alone")
  try:
    if given.refresh:
      refresh()
    for name in given.folder:
      folder = pathlib.Path(name).expanduser().resolve()
      publish(folder, PUBLISHED / folder.name)
  except OutputError as error:
    parser.exit(1, f"{error}\n")


if __name__ == "__main__":
  main()
