"""The map at the top of the harness names every module of it."""

import pathlib
import re

from tff_defenses import experiments

FOLDER = pathlib.Path(experiments.__file__).parent


def test_every_module_is_on_the_map():
  words = set(re.findall(r"\w+", experiments.__doc__))
  modules = {file.stem for file in FOLDER.glob("*.py")} - {"__init__"}
  starred = {name for name in modules if name.startswith("report_")}
  common = {"errors", "names", "registry_calls"}  # small helpers of all
  assert modules - words - starred - common == set()
