"""docs/reproducing.md is what the paper numbers say, and names every table."""

import pathlib

from tff_defenses.experiments import papers, reproducing_page, reproduction

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_up_to_date():
  hours = reproducing_page.read_hours(DOCS / "full_scale_hours.csv")
  assert (DOCS / "reproducing.md").read_text() == reproducing_page.page(hours)


def test_the_hours_are_of_as_many_runs_as_a_table_has():
  """A column that is added later has no hours until they are measured again."""
  hours = reproducing_page.read_hours(DOCS / "full_scale_hours.csv")
  for name, row in hours.items():
    assert int(row["runs"]) == len(reproduction.plan(name).configs()), name


def test_every_table_has_its_command_and_its_hours():
  hours = {"flare:table3": {"runs": "9", "estimated": "8", "hours": "12.5"}}
  text = reproducing_page.page(hours)
  for name in papers.names():
    assert f"--reproduce={name} " in text and f"## {name}\n" in text
  row = next(line for line in text.splitlines() if "`flare:table3`](" in line)
  assert "| 12.5+ |" in row and "| 9 |" in row


def test_bands_are_listed_by_metric():
  """A band that is made wider after the runs changes the page."""
  _, after = reproducing_page.page({}).split("## flare:table4\n")
  section = after.split("\n## ")[0]
  assert "- `accuracy`, in percentage points: 3 (20), 5 (8)\n" in section
  _, after = reproducing_page.page({}).split("## flare:fig12\n")
  assert "- `target_confidence`, in percentage points: up to the bound (2)\n" in after


def test_a_table_without_hours_says_so():
  row = next(
    line for line in reproducing_page.page({}).splitlines() if "`flare:fig1`](" in line
  )
  assert row.endswith("| - |")
