"""Tables of finished runs; percent only here."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

_PERCENT = {
  "accuracy": "accuracy %",
  "attack_success_rate": "ASR %",
  "attack_success_rate_over_rounds": "ASR over rounds %",
  "backdoor_accuracy": "BA all %",
  "backdoor_accuracy_nontarget": "BA %",
}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """An aligned table of runs for the terminal; columns that nobody filled are left out.

  Args:
    rows: Mappings with the columns to show; the keys of `summary.json` that are
      fractions are printed in percent, None as "-".
  """
  frame = pd.DataFrame(rows)
  for name in _PERCENT:
    if name in frame:
      frame[name] = [_percent(value) for value in frame[name]]
  for name in frame:
    if name.startswith("seconds"):
      frame[name] = [f"{value:.1f}" for value in frame[name]]
  empty = [name for name in frame if (frame[name] == "-").all()]
  frame = frame.drop(columns=empty).rename(columns=_PERCENT)
  return frame.to_string(index=False)


def _percent(value) -> str:
  return "-" if value is None or pd.isna(value) else f"{100 * value:.1f}"
