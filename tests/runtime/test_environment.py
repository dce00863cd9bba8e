"""What `--check_env` finds, with requirements made to fail one at a time."""

import collections
import importlib.metadata
import os
import platform
import shutil
import sys

import pytest

from tff_defenses import runtime as runtime_package
from tff_defenses.runtime import Finding, check, environment, format_findings, worker


def finding(name):
  return next(found for found in check() if found.name == name)


def test_this_machine_is_fit():
  unfit = [found for found in check() if not found.ok and found.name != "memory"]
  assert unfit == []


def test_every_package_is_looked_at():
  names = [found.name for found in check()]
  assert len(set(names)) == len(names)
  for name in ("tensorflow-federated", "jaxlib", "scikit-learn", "worker binary"):
    assert name in names


def test_wrong_python_is_reported(monkeypatch):
  version = collections.namedtuple("version", "major minor micro")(3, 12, 1)
  monkeypatch.setattr(sys, "version_info", version)
  assert not finding("Python").ok


@pytest.mark.parametrize(
  ("function", "value"),
  [
    ("system", "Darwin"),
    ("machine", "arm64"),
    ("libc_ver", ("glibc", "2.28")),
    ("libc_ver", ("", "")),
  ],
)
def test_wrong_platform_is_reported(monkeypatch, function, value):
  monkeypatch.setattr(platform, function, lambda: value)
  assert not finding("platform").ok


def test_glibc_is_compared_by_number(monkeypatch):
  monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.4"))
  assert not finding("platform").ok


def test_wrong_and_missing_packages_are_reported(monkeypatch):
  def version(name):
    if name == "numpy":
      return "1.250.1"  # begins with the same letters as 1.25
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "version", version)
  assert (finding("numpy").found, finding("numpy").ok) == ("1.250.1", False)
  assert (finding("jaxlib").found, finding("jaxlib").ok) == ("missing", False)
  assert "uv run" in finding("jaxlib").remedy


def test_missing_and_forbidden_binary_are_reported(monkeypatch, tmp_path):
  monkeypatch.setattr(worker, "worker_binary", lambda: None)
  assert finding("worker binary").found == "missing"
  path = tmp_path / "worker_binary"
  path.touch()
  monkeypatch.setattr(worker, "worker_binary", lambda: path)
  assert "chmod" in finding("worker binary").remedy
  assert not finding("worker binary").ok


def test_little_memory_is_reported(monkeypatch):
  monkeypatch.setattr(environment, "_available_memory_bytes", lambda: 2**30)
  assert finding("memory").found == "1.0 GiB available"
  assert not finding("memory").ok


def test_full_disk_is_reported(monkeypatch):
  usage = collections.namedtuple("usage", "free")(0)
  monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
  assert not finding("disk").ok


def test_machine_without_affinity_is_only_reported(monkeypatch):
  monkeypatch.delattr(os, "sched_getaffinity")
  assert finding("cores").ok


def test_table_is_aligned_and_remedies_follow_failures():
  table = format_findings(
    [Finding("Python", "3.11.9", True, "unused"), Finding("jax", "0.5", False, "do it")]
  )
  assert table == (
    "ok    Python  3.11.9\nFAIL  jax     0.5\n      -> do it"  # two spaces a column
  )


def test_worker_is_really_started(runtime):
  import tensorflow_federated as tff

  before = tff.framework.get_context_stack().current
  found = check(start_worker=True)[-1]
  tff.framework.set_default_context(before)
  assert found.ok and found.found.startswith("1 + 1 = 2")


def test_worker_that_cannot_start_is_a_finding(monkeypatch):
  def fail():
    raise runtime_package.WorkerError("no worker here")

  monkeypatch.setattr("tff_defenses.runtime.context.use_local_worker", fail)
  found = check(start_worker=True)[-1]
  assert (found.found, found.ok) == ("WorkerError: no worker here", False)
