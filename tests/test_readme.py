"""README's code runs as it stands, and its paths and flags exist."""

import pathlib
import re

import pytest

import models
import run_experiments
from tff_defenses import aggregators
from tff_defenses.experiments import presets, readme_tables

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
  return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def namespace():
  """What the first example leaves behind, as a reader would go on from it."""
  scope = {}
  exec(compile(blocks("python")[0], "README.md, first example", "exec"), scope)
  return scope


def test_first_example_weights_ten_clients_by_trust(namespace):
  trust = namespace["output"].metrics["aggregator"]["trust"]
  assert trust.shape == (10,) and trust.sum() == pytest.approx(1)


def test_second_example_runs_a_round_of_tffs_own_algorithm(namespace):
  from tff_defenses import runtime

  exec(compile(blocks("python")[1], "README.md, second example", "exec"), namespace)
  process = namespace["process"]
  with runtime.use_local_worker() as worker:
    state = worker.call(process.initialize)
    output = worker.call(process.next, state, namespace["clients"])
  assert output.metrics["aggregator"]["trust"].sum() == pytest.approx(1)


def test_first_example_has_fifteen_lines_at_most():
  lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
  assert len(lines) <= 15


def test_paths_exist():
  named = re.findall(
    r"`((?:tff_defenses|benchmarks|docs)/[\w./]+)`|\]\((docs/[^)]+)\)", README
  )
  paths = [first or second for first, second in named]
  assert paths and all((ROOT / path).exists() for path in paths)


def test_flags_exist():
  known = set(run_experiments.FLAGS)
  commands = "\n".join(
    line for line in README.splitlines() if "run_experiments" in line
  )
  used = set(re.findall(r"--([a-z_]+)", commands)) | {"resume", "data_dir"}
  assert used - {"help"} <= known


def test_names_exist():
  for preset in re.findall(r"--preset=(\w+)", README):
    assert preset in presets.PRESETS
  for names in re.findall(r"--defense=([\w,]+)", README):
    assert set(names.split(",")) <= {"all", *aggregators.AGGREGATORS}
  assert "lenet" in models.MODELS


def test_tables_are_as_the_registries_have_them():
  assert readme_tables.filled(README) == README  # else run the command below the table


def test_text_without_marks_raises_with_the_tables_name():
  with pytest.raises(ValueError, match="<!-- defenses: generated -->"):
    readme_tables.filled("no table")
