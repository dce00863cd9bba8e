"""The printed table of runs."""

from tff_defenses.experiments import report

ROWS = [
  {
    "defense": "fedavg",
    "accuracy": 0.875,
    "attack_success_rate": None,
    "seconds": 1.25,
  },
  {"defense": "flare", "accuracy": 1.0, "attack_success_rate": 0.5, "seconds": 10},
]


def cells(text):
  return [line.split() for line in text.splitlines()]


def test_fractions_are_percent_and_none_is_a_dash():
  assert cells(report.table(ROWS)) == [
    ["defense", "accuracy", "%", "ASR", "%", "seconds"],
    ["fedavg", "87.5", "-", "1.2"],
    ["flare", "100.0", "50.0", "10.0"],
  ]


def test_columns_that_nobody_filled_are_left_out():
  text = report.table([{**ROWS[0], "backdoor_accuracy_nontarget": float("nan")}])
  assert cells(text)[0] == ["defense", "accuracy", "%", "seconds"]


def test_rows_keep_their_order_and_are_not_changed():
  rows = [dict(row) for row in ROWS[::-1]]
  assert [row[0] for row in cells(report.table(rows))[1:]] == ["flare", "fedavg"]
  assert rows == ROWS[::-1]
