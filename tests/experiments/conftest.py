"""Fixtures of the data set tests."""

import pytest

from tff_defenses.experiments import raw_files, tfds_files


@pytest.fixture
def isolated(monkeypatch, tmp_path):
  """No system folder, no network, no TFDS cache."""
  monkeypatch.setattr(raw_files, "SYSTEM_FOLDER", tmp_path / "no_system")
  monkeypatch.setattr(tfds_files, "can_reach", lambda host: False)
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no_tfds"))
