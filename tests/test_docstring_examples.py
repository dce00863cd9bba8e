"""Every example in a docstring is run, and shows what the code answers."""

import doctest
import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("attacks", "models", "tff_defenses")
EXAMPLE = re.compile(r"^\s*>>> ", re.MULTILINE)


def num_examples(path):
  return len(EXAMPLE.findall(path.read_text(encoding="utf-8")))


def module_of(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = [
  path
  for package in PACKAGES
  for path in sorted((ROOT / package).rglob("*.py"))
  if num_examples(path)
]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_examples_are_true(path):
  result = doctest.testmod(importlib.import_module(module_of(path)))
  # All of them: doctest passes over what it does not find, such as a nested function.
  assert result.attempted == num_examples(path) > 0
  assert result.failed == 0


def test_every_package_has_examples():
  assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)
