"""Rules of the whole project: which way imports go, what is public, what is cheap."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("tff_defenses", "attacks", "models")
PROJECT = {*PACKAGES, "run_experiments", "tests", "benchmarks"}

# Place -> what its files may import from this project. `import tff_defenses` alone is
# in no list, because it leads everywhere.
MAY_IMPORT = {
  "models": ("models",),
  "attacks": ("models", "attacks", "tff_defenses.aggregators"),
  "tff_defenses/aggregators": ("models.split", "tff_defenses.aggregators"),
  "tff_defenses/runtime": ("tff_defenses.runtime",),
  "tff_defenses/learning": (
    "models",
    "tff_defenses.aggregators",
    "tff_defenses.learning",
  ),
  "run_experiments.py": ("tff_defenses.experiments", "tff_defenses.runtime"),
}
# Place -> what its files may import from elsewhere, besides the standard library.
MAY_REQUIRE = {
  "tff_defenses/aggregators": ("numpy", "tensorflow", "tensorflow_federated"),
  "run_experiments.py": ("absl",),
}
PRIVATE = ("tensorflow_federated.python", "federated_language")
LIGHT = (
  "tff_defenses",
  "tff_defenses.aggregators",
  "attacks",
  "models",
  *(f"tff_defenses.experiments.{m}" for m in ("names", "datasets", "partition")),
  *(
    f"tff_defenses.experiments.{m}"
    for m in ("commands", "figures", "paper_figures", "papers", "plots", "report")
  ),
  *(
    f"tff_defenses.experiments.{m}"
    for m in ("report_files", "reproduction", "jobs", "grid_state", "idle_settings")
  ),
)
HEAVY = ("tensorflow", "tensorflow_federated")


def files_in(place):
  path = ROOT / place
  return [path] if path.is_file() else sorted(path.rglob("*.py"))


def all_files():
  folders = (*PACKAGES, "tests", "benchmarks")
  return [*sorted(ROOT.glob("*.py")), *(f for p in folders for f in files_in(p))]


def module_of(path):
  """Dotted name; a package's `__init__` keeps its last part, for relative imports."""
  return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(source, module="module"):
  """Full names that a file imports, at any depth, `import_module("...")` included.

  `from a import b` counts as a.b. Of a name that is computed, the fixed beginning.
  """
  found = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = module.split(".")[: -node.level] if node.level else []
      base += [node.module] if node.module else []
      found += [".".join([*base, alias.name]) for alias in node.names]
    elif isinstance(node, ast.Call) and node.args and is_import_call(node.func):
      found += [fixed_beginning(node.args[0])]
  return [name for name in found if name]


def is_import_call(function):
  name = getattr(function, "attr", getattr(function, "id", None))
  return name in ("import_module", "__import__")


def fixed_beginning(argument):
  if isinstance(argument, ast.JoinedStr):
    argument = argument.values[0]
  value = getattr(argument, "value", "")
  return value.rstrip(".") if isinstance(value, str) else ""


def is_within(name, places):
  return any(name == place or name.startswith(f"{place}.") for place in places)


def imports_of(path):
  return imported(path.read_text(encoding="utf-8"), module_of(path))


@pytest.mark.parametrize(
  ("source", "names"),
  [
    ("import a.b as c, d", ["a.b", "d"]),
    ("def f():\n  from a.b import c, d", ["a.b.c", "a.b.d"]),
    ("from . import c\nfrom ..e import f", ["p.q.c", "p.e.f"]),
    ("importlib.import_module('a.b')", ["a.b"]),
    ("importlib.import_module(f'a.{name}')", ["a"]),
    ("importlib.import_module(name)", []),
  ],
)
def test_every_form_of_import_is_seen(source, names):
  assert imported(source, "p.q.module") == names


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_imports_go_one_way(place):
  files = files_in(place)
  wrong = [
    f"{module_of(path)} imports {name}"
    for path in files
    for name in imports_of(path)
    if name.split(".")[0] in PROJECT and not is_within(name, MAY_IMPORT[place])
  ]
  assert files and wrong == []


@pytest.mark.parametrize("place", MAY_REQUIRE)
def test_third_parties_are_few(place):
  known = {*sys.stdlib_module_names, *PROJECT}
  wrong = [
    f"{module_of(path)} imports {name}"
    for path in files_in(place)
    for name in imports_of(path)
    if name.split(".")[0] not in known and not is_within(name, MAY_REQUIRE[place])
  ]
  assert wrong == []


def test_only_the_public_interface_of_tff_is_imported():
  wrong = [
    f"{module_of(path)} imports {name}"
    for path in all_files()
    for name in imports_of(path)
    if is_within(name, PRIVATE)
  ]
  assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_library_does_not_print(package):
  calls = [
    f"{module_of(path)}:{node.lineno}"
    for path in files_in(package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
  ]
  assert calls == []


def test_all_public_names_exist():
  import tff_defenses as td

  assert len(set(td.__all__)) == len(td.__all__)
  assert [name for name in td.__all__ if getattr(td, name, None) is None] == []


def test_reading_the_lists_does_not_import_tensorflow(tmp_path):
  """One process imports all; it writes which import brought TensorFlow in, if any."""
  script = (
    "import importlib, json, pathlib, sys\n"
    "out, light, heavy = sys.argv[1], *map(json.loads, sys.argv[2:])\n"
    "guilty = []\n"
    "for name in light:\n"
    "  before = set(sys.modules)\n"
    "  importlib.import_module(name)\n"
    "  new = set(sys.modules) - before\n"
    "  guilty += [f'{name} imports {h}' for h in heavy if h in new]\n"
    "pathlib.Path(out).write_text(json.dumps(guilty))\n"
  )
  out, log = tmp_path / "guilty.json", tmp_path / "log"
  arguments = [str(out), json.dumps(LIGHT), json.dumps(HEAVY)]
  with log.open("w") as stream:
    done = subprocess.run(
      [sys.executable, "-c", script, *arguments],
      cwd=ROOT,
      stdout=stream,
      stderr=stream,
      check=False,
    )
  assert done.returncode == 0, log.read_text()
  assert json.loads(out.read_text()) == []
