"""Which cells of a paper's table are wanted, by names or parts of names."""

from collections.abc import Sequence

from tff_defenses.experiments import names
from tff_defenses.experiments.config import ConfigError


def exact(
  table: str, field: str, wanted: Sequence[str] | None, known: Sequence[str]
) -> tuple[str, ...] | None:
  """The names asked for; None: all.

  Args:
    table: Its name, for messages.
    field: What they name, such as "defense".
    wanted: None, or "all" among them: all.
    known: Those that the table has.

  Raises:
    ConfigError: there is no such name, or none at all.
  """
  if wanted is None or "all" in wanted:
    return None
  if not wanted:
    raise ConfigError(f"plan: `{field}` must hold a name at least, got none.")
  for name in wanted:
    try:
      names.check_known(f"plan: {table}", field, name, known)
    except ValueError as error:
      raise ConfigError(str(error)) from error
  return tuple(dict.fromkeys(wanted))


def by_part(
  table: str, field: str, wanted: Sequence[str], known: Sequence[str]
) -> tuple[str, ...]:
  """The names that a part asked for belongs to, in any case, in the table's order.

  A part that is a whole name stands for that one alone.

  Args:
    table, field: For messages.
    wanted: Parts; "all" among them: all.
    known: Those that the table has.

  Raises:
    ConfigError: a part belongs to no name.
  """
  if "all" in wanted:
    return tuple(known)
  found = set()
  for part in wanted:
    named = [name for name in known if part.lower() == name.lower()]
    named = named or [name for name in known if part.lower() in name.lower()]
    if not named or not part.strip():
      raise ConfigError(
        f"plan: {table}: `{field}` must each be a name that it has, or part of one, "
        f"got {part!r}. It has: {'; '.join(known) or 'none'}."
      )
    found.update(named)
  return tuple(name for name in known if name in found)
