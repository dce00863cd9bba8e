"""Tables that were broken off at any byte count and keep whole rounds only."""

import pandas as pd
import pytest

from tff_defenses.experiments import round_tables

ROWS = pd.DataFrame({"round": [1, 1, 2, 2, 13, 13], "value": [0.5, 1, 22, 33, 4, 55]})


@pytest.fixture(params=["\n", "\r\n"])
def table(request, tmp_path):
  """A file of rounds 1 to 3 with two rows each."""
  file = tmp_path / "t.csv"
  rows = ROWS.replace({"round": {13: 3}})
  file.write_text(rows.to_csv(index=False, lineterminator=request.param), newline="")
  return file


def test_every_prefix_of_a_file_counts_whole_rows_only(table):
  whole = table.read_bytes()
  end = b"\r\n" if b"\r\n" in whole else b"\n"
  for size in range(len(whole) + 1):
    table.write_bytes(whole[:size])
    lines = whole[:size].split(end)[1:-1]
    expected = max((int(line.split(b",")[0]) for line in lines), default=0)
    assert round_tables.whole_rounds(table) == expected
    if expected:
      round_tables.cut(table, expected)
      kept = table.read_bytes()
      assert whole.startswith(kept) and kept.count(end) == 1 + len(lines)


def test_cut_keeps_the_bytes_of_earlier_rounds(table):
  whole = table.read_bytes()
  round_tables.cut(table, 3)
  assert table.read_bytes() == whole
  round_tables.cut(table, 2)
  assert whole.startswith(table.read_bytes()) and len(table.read_bytes()) < len(whole)
  assert round_tables.whole_rounds(table) == 2
  round_tables.cut(table, 0)
  assert not table.exists()


def test_round_that_is_missing_ends_the_count(tmp_path):
  file = tmp_path / "t.csv"
  file.write_text("round,value\n1,1\n3,1\n")
  assert round_tables.whole_rounds(file) == 1


def test_line_that_is_not_a_row_is_dropped(tmp_path):
  file = tmp_path / "t.csv"
  file.write_bytes(b"round,value\n1,1\n\x00\x00\xff\n2,5,7\nx,2\n")
  assert round_tables.whole_rounds(file) == 1
  round_tables.cut(file, 1)
  assert file.read_text() == "round,value\n1,1\n"


def test_absent_and_empty_files_hold_no_round(tmp_path):
  assert round_tables.whole_rounds(tmp_path / "absent") == 0
  (tmp_path / "empty").touch()
  assert round_tables.whole_rounds(tmp_path / "empty") == 0


def test_rows_are_appended_below_one_header(tmp_path):
  file = tmp_path / "t.csv"
  for rows in (ROWS[:2], ROWS[2:]):
    round_tables.append(file, rows)
  assert pd.read_csv(file).equals(ROWS)


def test_a_file_that_has_begun_keeps_its_columns(tmp_path):
  file = tmp_path / "t.csv"
  file.write_text("round,value\n1,5\n")
  rows = pd.DataFrame({"round": [2], "new": [0.5], "value": [6]})
  round_tables.append(file, rows)
  assert file.read_text() == "round,value\n1,5\n2,6\n"
