"""README's code runs as it stands; paths, flags and names of the documents exist."""

import json
import pathlib
import re

import numpy as np
import pytest

import attacks
import models
import run_experiments
from attacks.data import base as data_base
from attacks.updates import base as update_base
from tff_defenses import aggregators
from tff_defenses.aggregators import rows
from tff_defenses.experiments import (
  aims,
  data_attacks,
  datasets,
  papers,
  partition,
  presets,
  readme_tables,
  training_attacks,
)
from tff_defenses.experiments.config import ExperimentConfig

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "docs/findings.md", "docs/reproducing.md")
NAMES = {  # flag -> what may stand behind it; lists are separated by commas
  "dataset": datasets.DATASETS,
  "model": models.MODELS,
  "defense": ["all", *aggregators.AGGREGATORS],
  "attack": ["all", "none", *attacks.ATTACKS],
  "partition": partition.PARTITIONS,
  "preset": presets.PRESETS,
  "reproduce": papers.names(),
}


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
  first = namespace["output"]
  exec(compile(blocks("python")[1], "README.md, second example", "exec"), namespace)
  output = namespace["output"]
  assert output is not first
  assert output.metrics["aggregator"]["trust"].sum() == pytest.approx(1)


def test_third_example_runs_fl_plas(namespace):
  exec(compile(blocks("python")[2], "README.md, third example", "exec"), namespace)
  first, clients = namespace["first"], namespace["clients"]
  assert len(namespace["own"]) == len(clients)
  shapes = [tuple(w.shape) for w in models.MODELS["lenet"].build().trainable_variables]
  assert [np.shape(w) for w in first.trainable] == shapes
  assert len(blocks("python")) == 3


def test_first_example_has_fifteen_lines_at_most():
  lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
  assert len(lines) <= 15


def test_paths_exist():
  named = re.findall(
    r"`((?:tff_defenses|benchmarks|docs)/[\w./]+)`|\]\((docs/[^)]+)\)", README
  )
  paths = [first or second for first, second in named]
  assert paths and all((ROOT / path.partition("#")[0]).exists() for path in paths)


def known_flags():
  """Those of the command line alone, not of the libraries that are loaded here."""
  ours = run_experiments.FLAGS.get_key_flags_for_module(run_experiments)
  switches = {f"no{flag.name}" for flag in ours if flag.boolean}
  return {flag.name for flag in ours} | switches | {"help"}  # absl's own


def text_of(document):
  """Without commands of pip and TFF's worker, whose flags are not ours."""
  text = (ROOT / document).read_text().replace("\\_", "_")  # as Markdown shows it
  return re.sub(r"pip install [^&`\n]*|worker_binary [^`]*", "", text)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_flags_exist(document):
  used = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", text_of(document)))
  assert "attack" in used and used - known_flags() == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_exist(document):
  given = re.findall(rf"--({'|'.join(NAMES)})=([\w:,]+)", text_of(document))
  wrong = [
    f"--{flag}={name}"
    for flag, names in given
    for name in names.split(",")
    if name not in NAMES[flag]
  ]
  assert given and wrong == []


def recipe(title):
  """The text of an "Add ..." recipe."""
  return re.search(rf"\*\*{title}\*\*(.*?)(?=\n\*\*Add |\n## )", README, re.DOTALL)[1]


def test_recipe_of_an_attack_names_all_that_its_class_must_have():
  data, update = data_base.DataAttack, update_base.UpdateAttack
  must_have = {*data.__abstractmethods__, *data.__annotations__}
  must_have |= {*update.__abstractmethods__, "build_craft"}
  assert must_have > {"poison", "test_set", "target"}
  assert [n for n in must_have if f"`{n}`" not in recipe("Add an attack")] == []


def test_recipe_of_a_defense_names_what_is_not_done_for_a_rule_with_weights():
  assert "`rows.on_kept_rows`" in recipe("Add a defense") and rows.on_kept_rows


def test_settings_that_the_harness_takes_from_a_training_attack_are_named():
  taken = {"data_attack", "data_settings", "collude", *aims.SETTINGS}
  (text,) = re.findall(r"Training attacks\s+take besides:\s.*?\n\n", README, re.DOTALL)
  assert [name for name in taken if f"`{name}`" not in text] == []
  left = {*taken, "gamma"}
  for name in ("krum_backdoor", "scaling"):
    left &= set(training_attacks.own_settings(name, dict.fromkeys(left)))
  assert left == {"gamma"}


def test_settings_of_an_attack_are_looked_up_and_given_as_readme_says():
  (entry,) = re.findall(r"`help\((attacks\..*?)\)`", README)
  assert eval(entry, {"attacks": attacks}).__name__ == "ScalingAttack"
  ((attack, given),) = re.findall(r"--attack=(\w+) --attack_settings='(.*?)'", README)
  plain, half = (
    ExperimentConfig(attack=attack, attack_settings=settings)
    for settings in ({}, json.loads(given))
  )
  data = datasets.DATASETS[half.dataset]
  assert data_attacks.make(half, data).fraction == 0.5
  assert data_attacks.make(plain, data).fraction < 0.5


def test_tables_are_as_the_registries_have_them():
  assert readme_tables.filled(README) == README  # else run the command below the table


def test_text_without_marks_raises_with_the_tables_name():
  with pytest.raises(ValueError, match="<!-- defenses: generated -->"):
    readme_tables.filled("no table")
