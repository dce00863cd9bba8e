"""A run of `results/published` comes out again, byte for byte, on other CPUs too."""

import os
import pathlib
import subprocess
import sys

import pytest

from tff_defenses.experiments import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Made on an AMD CPU without AVX-512; an Intel one with it gave the same bytes.
PUBLISHED = ROOT / "results" / "published" / "findings-onednn"
RUN = "mnist5k-fedavg-krum_backdoor-2c93eaf64c8e7654"
FLAGS = (
  *("--dataset=mnist5k", "--model=lenet", "--max_train_images=1500"),
  *("--max_test_images=500", "--num_clients=10", "--malicious_fraction=0.1"),
  *("--rounds=6", "--local_epochs=2", "--batch_size=16", "--optimizer=adam"),
  *("--learning_rate=0.001", "--defense=fedavg", "--attack=krum_backdoor"),
  '--attack_settings={"form":"self","boost":10.0}',
)


@pytest.mark.slow  # a minute, and its bytes are those of AVX2's kernels alone
@pytest.mark.skipif(
  "avx2" not in machine.describe()["instructions"], reason="this CPU has no AVX2"
)
def test_digits_do_not_depend_on_the_cpu_where_its_kernels_are_limited(tmp_path):
  kernels = {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}
  script = [sys.executable, str(ROOT / "run_experiments.py")]
  subprocess.run(
    [*script, *FLAGS, f"--output_dir={tmp_path / 'run'}"],
    env={**os.environ, **kernels},
    check=True,
    timeout=600,
  )
  for name in ("config.json", "metrics.csv", "clients.csv"):
    expected = (PUBLISHED / RUN / name).read_bytes()
    assert (tmp_path / "run" / name).read_bytes() == expected, name
