"""The common start of a comparison."""

from tff_defenses.experiments import starts, weight_files
from tff_defenses.experiments.config import ExperimentConfig


def test_pretrained_file_is_read_from_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "w.npz").write_bytes(b"weights")
  monkeypatch.setattr(weight_files, "load", lambda path, keras_fn: path)
  monkeypatch.setattr(starts, "_starts", {})
  config = ExperimentConfig(pretrained_file="~/w.npz", pretrain_on_aux=False)
  config.check()
  assert starts.initial_weights(config, None, None) == str(tmp_path / "w.npz")
