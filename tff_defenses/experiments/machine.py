"""On what kind of CPU a run was made: the last digits of its numbers depend on it."""

import os
import pathlib
import platform
import re
from typing import Any

from tff_defenses import runtime

_CPU_INFO = "/proc/cpuinfo"
# What TensorFlow and oneDNN choose their loops by.
_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")


def describe(cpu_info: str | os.PathLike = _CPU_INFO) -> dict[str, Any]:
  """CPU model and what else float32 results hang on; cores, operating system.

  Args:
    cpu_info: A file as Linux has it; what it does not say is "unknown", or absent.
  """
  file = pathlib.Path(cpu_info)
  text = file.read_text(errors="replace") if file.is_file() else ""
  has = set(_first(text, "flags", "").split())
  return {
    "cpu": _first(text, "model name", "unknown"),
    "instructions": [name for name in _INSTRUCTIONS if name in has],
    "onednn": os.environ.get(runtime.ONEDNN, "not set"),  # the variables' values
    "max_isa": os.environ.get(runtime.MAX_ISA, "not set"),
    "cores": len(os.sched_getaffinity(0)),
    "system": f"{platform.system()} {platform.machine()}",
  }


def _first(text, name, otherwise):
  """The first line's value that begins with a name."""
  found = re.search(rf"^{name}\s*:[ \t]*(.*)$", text, re.MULTILINE)
  return found.group(1).strip() if found else otherwise
