"""Checks of what the plots are given; each raises ValueError."""


def check_frame(who, name, frame, columns):
  """A table with all `columns` and a row at least; `name`: the caller's argument."""
  missing = [column for column in columns if column not in frame.columns]
  if missing or frame.empty:
    found = f"no {', '.join(missing)}" if missing else "no row"
    raise ValueError(
      f"{who}: `{name}` must have the columns {', '.join(columns)} and a row at least, "
      f"got {found}. Give the table that a finished run wrote."
    )


def check_once(who, clients):
  """No client twice in a round."""
  twice = clients[clients.duplicated(["round", "client_index"])]
  if len(twice):
    raise ValueError(
      f"{who}: `clients` must have a client once a round, got client "
      f"{twice['client_index'].iloc[0]} twice in round {twice['round'].iloc[0]}. "
      "Draw one run at a time."
    )


def check_mmd(mmd, malicious):
  """`mmd` [n, n] and `malicious` [n], not empty."""
  if not mmd.size or mmd.shape != (len(malicious), len(malicious)):
    raise ValueError(
      "mmd_between_clients: `mmd` must be [n, n] and `malicious` [n] with n >= 1, got "
      f"{list(mmd.shape)} and {list(malicious.shape)}. Take both from one round."
    )


def check_scatter(plrs, labels, malicious):
  """`plrs` [n, k, o], `labels` [k] and `malicious` [n], not empty."""
  if plrs.ndim != 3 or not plrs.size or plrs.shape[:2] != (len(malicious), len(labels)):
    shapes = [list(array.shape) for array in (plrs, malicious, labels)]
    raise ValueError(
      "plr_scatter: `plrs` must be [n, k, o], not empty, for `malicious` [n] and "
      f"`labels` [k], got {shapes[0]}, {shapes[1]} and {shapes[2]}. "
      "Take all from one round."
    )
