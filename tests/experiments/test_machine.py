"""The kind of CPU, read from a file as Linux has it."""

import json

import pytest

from tff_defenses.experiments import machine, records

CPU_INFO = """processor\t: 0
model name\t: AMD EPYC 7B13
flags\t\t: fpu sse2 fma avx avx2 avx512fake

processor\t: 1
model name\t: another
flags\t\t: fpu avx512f
"""


def test_the_first_processor_is_described(tmp_path):
  (tmp_path / "cpuinfo").write_text(CPU_INFO)
  found = machine.describe(tmp_path / "cpuinfo")
  assert found["cpu"] == "AMD EPYC 7B13"
  assert found["instructions"] == ["avx2", "fma"]
  assert found["cores"] >= 1 and found["system"].startswith("Linux ")


def test_what_the_file_does_not_say_is_unknown(tmp_path):
  found = machine.describe(tmp_path / "absent")
  assert (found["cpu"], found["instructions"]) == ("unknown", [])


def test_this_machine_has_a_name():
  assert machine.describe()["cpu"] != "unknown"


@pytest.mark.parametrize(
  ("variable", "value", "key"),
  [
    ("TF_ENABLE_ONEDNN_OPTS", "0", "onednn"),
    ("TF_ENABLE_ONEDNN_OPTS", "1", "onednn"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2", "max_isa"),
  ],
)
def test_what_kernels_were_asked_for_is_told(monkeypatch, variable, value, key):
  monkeypatch.setenv(variable, value)
  assert machine.describe()[key] == value
  monkeypatch.delenv(variable)
  assert machine.describe()[key] == "not set"


def test_a_run_lists_the_kinds_of_machines_in_turn(tmp_path):
  folder = records.RunFolder(tmp_path, {"config_hash": "a", "version": "1"})
  here, there = {"cpu": "a"}, {"cpu": "b"}
  for description in (here, here, there, there, here):
    folder.keep_machine(description)
  found = json.loads((tmp_path / "machines.json").read_text())
  assert found == {"machines": [here, there, here]}
  folder.discard()
  assert not (tmp_path / "machines.json").exists()
