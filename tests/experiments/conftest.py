"""Fixtures of the data set tests, and finished runs that several tests look at."""

import os
import types

import pytest

from tests.experiments import counted_rounds, fake_runs, toy_runs
from tff_defenses.experiments import raw_files, reproduction, tfds_files


@pytest.fixture
def isolated(monkeypatch, tmp_path):
  """No system folder, no network, no TFDS cache."""
  monkeypatch.setattr(raw_files, "SYSTEM_FOLDER", tmp_path / "no_system")
  monkeypatch.setattr(tfds_files, "can_reach", lambda host: False)
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no_tfds"))


@pytest.fixture(scope="session")
def shard_cache(tmp_path_factory):
  """Folder for client shards."""
  return tmp_path_factory.mktemp("shards")


@pytest.fixture(scope="session")
def finish(runtime, shard_cache, tmp_path_factory):
  """Runs a toy experiment in a new folder; returns it `Finished`."""

  def run(**changes):
    folder = tmp_path_factory.mktemp("run")
    return toy_runs.run(toy_runs.toy(folder, shard_cache, **changes), runtime)

  return run


@pytest.fixture(scope="session")
def fedavg_run(finish):
  """FedAvg under the trigger, three rounds."""
  return finish(**toy_runs.FEDAVG)


@pytest.fixture(scope="session")
def fl_plas_run(finish):
  """FL-PLAS under the trigger, three of four clients a round."""
  return finish(**toy_runs.FL_PLAS)


@pytest.fixture(scope="session")
def flare_run(finish):
  """FLARE under its own paper's backdoor."""
  return finish(**toy_runs.FLARE)


@pytest.fixture
def figures(monkeypatch):
  """Figures that were written, for looking at their parts."""
  from tff_defenses.experiments import plot_style

  drawn, write = [], plot_style.write

  def keep(figure, path):
    drawn.append(figure)
    return write(figure, path)

  monkeypatch.setattr(plot_style, "write", keep)
  return drawn


@pytest.fixture
def axes():
  """Empty axes of a figure that belongs to no window."""
  from matplotlib.figure import Figure

  return Figure().subplots()


@pytest.fixture
def synced(monkeypatch):
  """Inodes of the files that were put on the disk, in order."""
  found, fsync = [], os.fsync

  def note(file):
    found.append(os.fstat(file).st_ino)
    fsync(file)

  monkeypatch.setattr(os, "fsync", note)
  return found


@pytest.fixture
def toy(tmp_path, shard_cache):
  """A toy config that writes to this test's own folder."""
  return lambda **changes: toy_runs.toy(tmp_path / "run", shard_cache, **changes)


@pytest.fixture
def never_train(monkeypatch):
  """Fails the test if anything is built."""

  def fail(*_, **__):
    raise AssertionError("a run was started")

  from tff_defenses.experiments import trainers

  monkeypatch.setattr(trainers, "build", fail)


@pytest.fixture
def count_rounds(monkeypatch):
  """Runs a config with a `CountsRounds`, and returns that and what was written."""
  from tff_defenses.experiments import loop, trainers

  def run(config, fails_at=None, **settings):
    trainer = counted_rounds.CountsRounds(config, fails_at)

    def build(*_, **watching):
      trainer.watching = watching
      return trainer

    monkeypatch.setattr(trainers, "build", build)
    nothing = dict.fromkeys(("shrink", "shrink_if_short"), lambda: None)
    runtime = types.SimpleNamespace(peak_memory_bytes=lambda: 0, **nothing)
    if fails_at is None:
      return trainer, loop.run(config, runtime, **settings)
    with pytest.raises(KeyboardInterrupt):
      loop.run(config, runtime, **settings)
    return trainer, None

  return run


@pytest.fixture
def source(tmp_path):
  """Two runs of FLARE's Table 2 at reduced scale, with what else a run leaves."""
  plan = reproduction.plan(
    "flare:table2",
    scale=0.1,
    seeds=[0],
    datasets=["fashion_mnist"],
    defenses=["fedavg", "krum"],
    output_dir=str(tmp_path / "flare-table2-scale0.1"),
  )
  plan.save()
  for config in plan.configs():
    folder = fake_runs.write(config)
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "state").write_text("big")
    (folder / ".claim").touch()
  return tmp_path / "flare-table2-scale0.1"
