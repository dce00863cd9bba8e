"""Can this machine run the experiments? One finding a requirement, with its remedy."""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
import sys
import time

from tff_defenses.runtime import worker

_GIB = 2**30
_MIN_MEMORY_BYTES = 4 * _GIB  # ours: driver and worker take 2 to 3 GiB with CIFAR-10
_MIN_DISK_BYTES = 1 * _GIB  # ours: client shards and checkpoints of one large run
_MIN_GLIBC = (2, 31)  # TFF's wheel is tagged manylinux_2_31
_INSTALL = "pip install uv && uv run python run_experiments.py --check_env"
_PACKAGES = {  # package -> leading part of the versions known to work together
  "tensorflow": "2.14",
  "tensorflow-federated": "0.87.0",
  "jax": "0.4",
  "jaxlib": "0.4",
  "numpy": "1.25",
  "scipy": "1.9",
  "scikit-learn": "1",
  "matplotlib": "3",
  "pandas": "2",
  "tensorflow-datasets": "4",
}


@dataclasses.dataclass(frozen=True)
class Finding:
  """One requirement, and what was found.

  Attributes:
    name: what was looked at.
    found: what was found, in words.
    ok: whether that is enough.
    remedy: what to do if it is not.
  """

  name: str
  found: str
  ok: bool
  remedy: str


def check(*, start_worker: bool = False) -> list[Finding]:
  """Looks at all requirements; imports no package, so it works with broken ones.

  Args:
    start_worker: also import TFF, start a worker and compute 1 + 1 on it (20 s).

  Returns:
    The findings, in the order in which remedies should be tried.
  """
  findings = [_check_python(), _check_platform()]
  findings += [_check_package(name, want) for name, want in _PACKAGES.items()]
  findings += [_check_binary(), _check_cores(), _check_memory(), _check_disk()]
  if start_worker:
    findings.append(_check_worker())
  return findings


def format_findings(findings: list[Finding]) -> str:
  """Lays findings out as a table; the remedy follows each requirement not met.

  Args:
    findings: what `check` returned.

  Returns:
    Lines without a final newline.
  """
  width = max((len(finding.name) for finding in findings), default=0)
  lines = []
  for finding in findings:
    mark = "ok  " if finding.ok else "FAIL"
    lines.append(f"{mark}  {finding.name:{width}}  {finding.found}")
    if not finding.ok:
      lines.append(f"      -> {finding.remedy}")
  return "\n".join(lines)


def _check_python() -> Finding:
  ok = sys.version_info[:2] == (3, 11)
  return Finding("Python", platform.python_version(), ok, f"Use 3.11: {_INSTALL}")


def _check_platform() -> Finding:
  library, version = platform.libc_ver()
  numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
  found = f"{platform.system()} {platform.machine()} {library} {version}".rstrip()
  ok = (platform.system(), platform.machine(), library) == ("Linux", "x86_64", "glibc")
  return Finding(
    "platform",
    found,
    ok and numbers >= _MIN_GLIBC,
    "TFF is built for Linux x86-64 with glibc >= 2.31 only: use such a machine or "
    "container (Debian 11, Ubuntu 20.04 or later).",
  )


def _check_package(name: str, wanted: str) -> Finding:
  try:
    found = importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    found = "missing"
  parts = wanted.split(".")
  ok = found.split(".")[: len(parts)] == parts
  return Finding(
    name,
    found,
    ok,
    f"Needs {wanted}: {_INSTALL} (or, in a new environment, "
    "pip install --no-deps -r requirements.txt)",
  )


def _check_binary() -> Finding:
  path = worker.worker_binary()
  if path is None or not path.is_file():
    return Finding(
      "worker binary", "missing", False, f"Install TensorFlow Federated: {_INSTALL}"
    )
  ok = os.access(path, os.X_OK)
  found = "executable" if ok else "not executable"
  return Finding("worker binary", found, ok, f"chmod +x {path}")


def _check_cores() -> Finding:
  linux = hasattr(os, "sched_getaffinity")
  cores = worker.usable_cores() if linux else os.cpu_count() or 1
  return Finding("cores", str(cores), cores >= 1, "")


def _check_memory() -> Finding:
  available = _available_memory_bytes()
  return Finding(
    "memory",
    "unknown" if available is None else f"{available / _GIB:.1f} GiB available",
    available is None or available >= _MIN_MEMORY_BYTES,
    "About 4 GiB should be free: end other programs, or run fewer jobs (`--jobs=1`).",
  )


def _available_memory_bytes() -> int | None:
  try:
    text = pathlib.Path("/proc/meminfo").read_text()
  except OSError:
    return None
  match = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
  return 1024 * int(match.group(1)) if match else None


def _check_disk() -> Finding:
  free = shutil.disk_usage(os.curdir).free
  return Finding(
    "disk",
    f"{free / _GIB:.1f} GiB free in the current folder",
    free >= _MIN_DISK_BYTES,
    "About 1 GiB should be free: set `--output_dir` to a folder on a larger disk.",
  )


def _check_worker() -> Finding:
  from tff_defenses.runtime import context

  remedy = f"See the lines above; if all are ok, install anew: {_INSTALL}"
  try:
    with context.use_local_worker() as runtime:
      import tensorflow_federated as tff

      started = time.monotonic()
      add = tff.tensorflow.computation(lambda: 1 + 1)
      result = runtime.call(add, timeout_seconds=60)
  except Exception as error:  # whatever it is, the user asked what is wrong
    return Finding("worker", f"{type(error).__name__}: {error}", False, remedy)
  seconds = time.monotonic() - started
  return Finding("worker", f"1 + 1 = {result} in {seconds:.1f} s", result == 2, remedy)
