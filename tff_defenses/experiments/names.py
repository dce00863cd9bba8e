"""Checks of names against the dicts that list what exists."""

import difflib
from collections.abc import Iterable


def nearest(name: object, names: Iterable[str]) -> str:
  """Sentence fragment that proposes the known name closest to `name`, or "".

  >>> nearest("minst", ["mnist", "cifar10"])
  'did you mean `mnist`?'
  >>> nearest("imagenet", ["mnist", "cifar10"])
  ''
  """
  folded = {known.lower(): known for known in names}
  close = difflib.get_close_matches(str(name).lower(), folded, n=1)
  return f"did you mean `{folded[close[0]]}`?" if close else ""


def check_known(who: str, field: str, value: object, known: Iterable[str]) -> None:
  """Raises unless `value` is one of the names in `known`.

  Args:
    who: caller named at the start of the message.
    field: setting that holds the value.
    value: name to check.
    known: the names that exist, listed in the message in the order given.

  Raises:
    ValueError: `value` is not in `known`; the message proposes the nearest name.
  """
  known = list(known)
  if value in known:
    return
  hint = nearest(value, known)
  raise ValueError(
    f"{who}: `{field}` must be one of {', '.join(known)}; got {value!r}. "
    + (hint[:1].upper() + hint[1:] if hint else "Choose a name from that list.")
  )
