"""Numbers as tables print them.

>>> shown(97.25, "percent", like=97.31, sign=True)
'+97.25'
"""

import math

_UNITS = {"percent": "%", "seconds": "s"}  # others as they are called


def unit(name: str) -> str:
  """A unit as printed."""
  return _UNITS.get(name, name.replace("_", " "))


def shown(
  value: float | None, unit: str, *, like: float | None = None, sign: bool = False
) -> str:
  """A number as printed; "-" if it is absent.

  Args:
    value: In `unit`.
    unit: "percent": one decimal, or as many as `like` has; others: four digits.
    like: The paper's number.
    sign: Whether a plus is shown.
  """
  if value is None or not math.isfinite(value):
    return "-"
  plus = "+" if sign else ""
  if unit == "percent":
    text = f"{value:{plus}.{max(1, _decimals(like))}f}"
  elif abs(value) >= 1000:
    text = f"{value:{plus},.0f}"
  else:
    text = f"{value:{plus}.4g}"
  return text.replace("-", "", 1) if not float(text.replace(",", "")) else text


def _decimals(number):
  _, _, decimals = repr(float(number or 0)).partition(".")
  return len(decimals) if decimals.isdigit() and decimals != "0" else 0
