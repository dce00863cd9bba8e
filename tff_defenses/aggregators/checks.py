"""Settings outside their range, told in one sentence each."""

import difflib
import math
import numbers
from collections.abc import Sequence
from typing import Any

SMALLEST = 2.0**-126  # of float32; TensorFlow takes what is below for 0


def check_choice(who: str, name: str, value: Any, choices: Sequence[str]) -> None:
  """Raises ValueError unless `value` is one of `choices`; proposes the nearest."""
  if value not in choices:
    known = ", ".join(repr(choice) for choice in choices)
    close = difflib.get_close_matches(str(value), choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{who}: `{name}` must be one of {known}, got {value!r}.{hint}")


def check_at_least(who: str, name: str, symbol: str, value: Any, least: int) -> None:
  """Raises ValueError unless `value` is a whole number >= `least`."""
  if not is_whole(value) or value < least:
    raise ValueError(
      f"{who}: `{name}` ({symbol}) must be a whole number >= {least}, got {value!r}."
    )


def check_positive(
  who: str, name: str, symbol: str, value: Any, advice: str = ""
) -> None:
  """Raises ValueError unless `value` is a finite number > 0, in float32 too."""
  if not is_number(value) or value < SMALLEST:
    is_tiny = is_number(value) and value > 0
    rule = f"at least {SMALLEST:.2g}, as float32 has 0 below" if is_tiny else "> 0"
    raise ValueError(
      f"{who}: `{name}` ({symbol}) must be {rule}, got {value!r}.{advice}"
    )


def check_fraction(who: str, name: str, symbol: str, value: Any) -> None:
  """Raises ValueError unless `value` is a number in (0, 1]."""
  if not is_number(value) or not 0 < value <= 1:
    raise ValueError(f"{who}: `{name}` ({symbol}) must be in (0, 1], got {value!r}.")


def is_whole(value: Any) -> bool:
  """Whether `value` is an integer, of Python or NumPy (True and False are none)."""
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
  """Whether `value` is a finite real number (True and False are none)."""
  number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return number and math.isfinite(value)
