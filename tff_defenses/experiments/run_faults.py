"""What is wrong with runs that lie in one folder: sentences for its report."""

import collections
import json
from collections.abc import Callable, Sequence

from tff_defenses.experiments import run_values

# The server's images are the first of the data set, whatever seed and defense.
_OF_SERVER_DATA = ("dataset", "aux_class", "aux_size", "aux_source", "root_per_class")


_OF_START = (  # what the model before round 1 depends on: not defense, not attack
  *("dataset", "model", "seed", "max_train_images", "pretrained_file"),
  *("pretrain_on_aux", "warmup_rounds", "warmup_on_all", "warmup_pooled", "aux_class"),
  *("aux_size", "aux_source", "root_per_class", "num_clients", "clients_per_round"),
  *("participation", "partition", "classes_per_client", "alpha", "min_client_images"),
  *("as_published", "local_epochs", "batch_size", "drop_remainder", "augment"),
  *("optimizer", "learning_rate", "momentum", "weight_decay"),
)


def of(runs: Sequence[run_values.RunValues]) -> list[str]:
  """Sentences: of several versions, of other images, or of other starts."""
  return [*_versions(runs), *_data(runs), *_starts(runs)]


def foreign(runs: Sequence[run_values.RunValues]) -> list[str]:
  """A sentence if there are runs, none of which belongs to the folder's table."""
  if not runs:
    return []
  return [
    f"report: {len(runs)} run(s) in the folder belong to no cell of this table and "
    f"are left out: {_names(runs)}."
  ]


def _versions(runs):
  found = _grouped(runs, lambda run: run.version)
  if len(found) > 1:
    parts = [f"{version} ({_names(found[version])})" for version in sorted(found)]
    yield (
      f"report: runs of {len(found)} versions lie in one folder: {', '.join(parts)}. "
      "Their numbers need not agree; run again what is of the older one."
    )


def _data(runs):
  """Runs of one data set whose files were not the same: another `--data_dir`."""
  for dataset, count, parts in _differing(runs, _server_digest, _OF_SERVER_DATA):
    yield (
      f"report: runs on {dataset} must have read the same images, got {count} sets of "
      f"files: {parts}. Give all the same --data_dir; run again what read the others."
    )


def _starts(runs):
  """Runs that were to start alike and did not: another cache, or another machine."""
  for dataset, count, parts in _differing(runs, _start_digest, _OF_START):
    yield (
      f"report: runs on {dataset} must have started from the same weights, got {count} "
      f"starts: {parts}. Give all the same --cache_dir or, on CPUs with and without "
      "AVX-512, ONEDNN_MAX_CPU_ISA=AVX2; run again what started from the others."
    )


def _differing(runs, digest: Callable, settings):
  """(data set, number, names) of each group alike in settings and not in a digest."""
  known = [run for run in runs if digest(run)]
  alike = _grouped(known, lambda run: [run.config.get(n) for n in settings])
  for group in alike.values():
    found = _grouped(group, digest)
    if len(found) > 1:
      parts = "; ".join(map(_names, found.values()))
      yield group[0].config["dataset"], len(found), parts


def _server_digest(run):
  return _value(run, "data.json", "server")


def _start_digest(run):
  return _value(run, "start.json", "weights")


def _value(run, file, name):
  """None: an early run, or a file that cannot be read."""
  try:
    return json.loads((run.folder / file).read_text())[name]
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _grouped(runs, key: Callable) -> dict[str, list]:
  found = collections.defaultdict(list)
  for run in runs:
    found[str(key(run))].append(run)
  return found


def _names(runs, most=4) -> str:
  more = f" and {len(runs) - most} more" if len(runs) > most else ""
  return ", ".join(run.folder.name for run in runs[:most]) + more
