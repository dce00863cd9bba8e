"""Checks of a file of paper numbers: every fault as a sentence that names its place."""

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attacks
from tff_defenses import aggregators
from tff_defenses.experiments import datasets, names, presets
from tff_defenses.experiments.config import NO_ATTACK, ExperimentConfig

METRICS = (
  "accuracy",
  "attack_success_rate",
  "attack_success_rate_over_rounds",
  "target_confidence",
  "backdoor_accuracy",
  "backdoor_accuracy_nontarget",
  "backdoor_accuracy_malicious",
  *(
    f"swap_{extractor}_extractor_{classifier}_classifier_{metric}"
    for extractor in ("clean", "backdoor")
    for classifier in ("clean", "backdoor")
    for metric in ("accuracy", "backdoor_accuracy")
  ),
  "train_loss",
  "detection_precision",
  "detection_recall",
  "detection_auc",
  "detection_false_positive_rate",
  "malicious_weight",
  "seconds_training_per_round",
  "seconds_aggregation_per_round",
  "peak_memory_bytes",
  "bytes_up",
  "bytes_down",
)
_TABLE_KEYS = (
  *("name", "paper", "title", "anchor", "kind", "paper_runs", "x"),
  *("unstated", "deviations", "bands", "columns", "rows"),
)
_ROW_KEYS = (
  *("label", "preset", "settings", "metric", "band", "note", "comparable"),
  *("variant", "reading_of", "columns", "unit", "readings"),
)
_KNOWN = {
  "dataset": datasets.DATASETS,
  "defense": aggregators.AGGREGATORS,
  "attack": [NO_ATTACK, *attacks.ATTACKS],
}


def faults(
  content: Mapping[str, Any],
  papers: Sequence[str],
  not_settings: Sequence[str],
  units: Sequence[str],
) -> list[str]:
  """All faults of a file's content, a sentence each.

  Args:
    content: As the module `papers` describes it.
    papers: Known ones.
    not_settings: Keys of a column that are no settings of a run.
    units: In which numbers are reported.
  """
  missing = [key for key in _TABLE_KEYS if key not in content]
  if missing:
    return [f"it must have {', '.join(map(repr, missing))}."]
  found = list(_unknown("the table", content, _TABLE_KEYS))
  for field, known in (("paper", papers), ("kind", ("table", "figure"))):
    found += _check_known("the table", field, content[field], known)
  if content["x"] is not None:
    found += _check_known("the table", "x", content["x"], ["round", *_fields()])
  found += _band_faults(content["bands"])
  for name, column in content["columns"].items():
    found += _column_faults(f"column {name!r}", column, content, not_settings)
  for row in content["rows"]:
    found += _row_faults(row, content, [f"reported_{unit}" for unit in units])
  labels = collections.Counter(row.get("label") for row in content["rows"])
  twice = [label for label, count in labels.items() if count > 1]
  found += [f"row {label!r}: a label must stand once, got it twice." for label in twice]
  return found


def _band_faults(bands) -> Iterator[str]:
  for name, band in bands.items():
    place = f"band {name!r}"
    yield from _unknown(
      place, band, ("within", "within_at_zero", "step", "columns", "reason")
    )
    widths = [band.get("within"), band.get("within_at_zero", 0), band.get("step", 0)]
    for width in (*widths, *band.get("columns", {}).values()):
      if not _is_number(width) or width < 0:
        yield f"{place}: `within` must be a number >= 0, got {width!r}."
    if "step" in band and "within_at_zero" not in band:
      yield f"{place}: `within_at_zero` must be given beside `step`, got none."
    if not band.get("reason"):
      yield f"{place}: `reason` must say why so wide, got nothing."


def _column_faults(place, column, content, not_settings) -> Iterator[str]:
  settings = {k: v for k, v in column.items() if k not in not_settings}
  yield from _settings_faults(place, settings)
  if "defense" not in column:
    yield f"{place}: `defense` must be given."
  if "reading_of" in column:
    printed = [n for n, c in content["columns"].items() if "reading_of" not in c]
    yield from _check_known(place, "reading_of", column["reading_of"], printed)


def _row_faults(row, content, reported_keys) -> Iterator[str]:
  place = f"row {row.get('label')!r}"
  missing = [key for key in ("label", "preset", "metric") if key not in row]
  if missing:
    yield f"{place}: it must have {', '.join(map(repr, missing))}."
    return
  yield from _unknown(place, row, (*_ROW_KEYS, *reported_keys))
  yield from _check_known(place, "preset", row["preset"], presets.PRESETS)
  yield from _settings_faults(place, row.get("settings", {}))
  for column in row.get("columns", ()):
    yield from _check_known(place, "columns", column, content["columns"])
  for reading in row.get("readings", ()):
    where = f"{place}, reading {reading.get('label')!r}"
    yield from _unknown(where, reading, ("label", "settings", "note"))
    for key in ("label", "settings"):
      if key not in reading:
        yield f"{where}: {key!r} must be given."
    if not reading.get("note"):
      yield f"{where}: `note` must say what it changes, got nothing."
    yield from _settings_faults(where, reading.get("settings", {}))
  by_column = (
    row["metric"] if isinstance(row["metric"], Mapping) else {"": row["metric"]}
  )
  for column, metric in by_column.items():
    where = f"{place}, column {column!r}" if column else place
    yield from _check_known(where, "metric", metric, METRICS)
  if row.get("comparable", True) is False and not row.get("note"):
    yield f"{place}: `note` must say why it is not comparable, got nothing."
  given = [key for key in reported_keys if key in row]
  if len(given) > 1:
    yield f"{place}: its numbers must have one unit, got {' and '.join(given)}."
  for key in given:
    for column, value in row[key].items():
      yield from _number_faults(place, column, value, row, content)


def _number_faults(place, column, value, row, content) -> Iterator[str]:
  where = f"{place}, column {column!r}"
  known = row.get("columns", content["columns"])
  if column not in known:
    yield f"{where}: it must be one of {', '.join(known)}. {_nearest(column, known)}"
    return
  bound = isinstance(value, Mapping)
  if bound and (len(value) != 1 or not set(value) <= {"above", "below"}):
    yield f'{where}: it must be {{"above": number}} or {{"below": ...}}, got {value!r}.'
    return
  number = next(iter(value.values())) if bound else value
  if not _is_number(number):
    yield f"{where}: it must be a finite number, got {number!r}."
  metric = row["metric"]
  metric = metric.get(column) if isinstance(metric, Mapping) else metric
  if not bound and row.get("band", metric) not in content["bands"]:
    yield f"{where}: it must have a band, got none for {row.get('band', metric)!r}."


def _settings_faults(place, settings) -> Iterator[str]:
  yield from _unknown(place, settings, _fields())
  for field, known in _KNOWN.items():
    if field in settings:
      yield from _check_known(place, field, settings[field], known)


def _fields():
  return [field.name for field in dataclasses.fields(ExperimentConfig)]


def _unknown(place, found, known) -> Iterator[str]:
  for key in found:
    if key not in known:
      yield f"{place}: there is no {key!r}. {_nearest(key, known)}"


def _nearest(name, known):
  hint = names.nearest(name, known)
  return hint[:1].upper() + hint[1:] if hint else f"Choose of {', '.join(known)}."


def _check_known(place, field, value, known) -> Iterator[str]:
  try:
    names.check_known(place, field, value, known)
  except ValueError as error:
    yield str(error)


def _is_number(value):
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return is_number and math.isfinite(value)
