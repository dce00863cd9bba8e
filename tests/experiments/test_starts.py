"""The common start of a comparison."""

import types

from tests.doubles import equal, weights_of
from tff_defenses.experiments import federation, starts, weight_files
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.learning import pretraining


def test_pretrained_file_is_read_from_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "w.npz").write_bytes(b"weights")
  monkeypatch.setattr(weight_files, "load", lambda path, keras_fn: path)
  monkeypatch.setattr(starts, "_starts", {})
  config = ExperimentConfig(pretrained_file="~/w.npz", pretrain_on_aux=False)
  config.check()
  assert starts.initial_weights(config, None, None) == str(tmp_path / "w.npz")


def test_pretraining_trains_on_the_auxiliary_data_as_a_client_trains(monkeypatch):
  given = {}

  def pretrain(model_fn, images, labels, optimizer, **settings):
    given.update(settings, images=images, labels=labels)

  monkeypatch.setattr(pretraining, "pretrain", pretrain)
  monkeypatch.setattr(starts, "_starts", {})
  config = ExperimentConfig(local_epochs=2, batch_size=8)
  held = types.SimpleNamespace(aux_images="D", aux_labels="its labels")
  limits = []
  runtime = types.SimpleNamespace(call=lambda f, **limit: (limits.append(limit), f()))
  fed = types.SimpleNamespace(held_out=held)
  starts.initial_weights(config, fed, runtime, round_seconds=9.0)
  assert limits == [{"timeout_seconds": 9.0}]
  assert equal(given.pop("initial_weights"), weights_of(federation.keras_fn(config)()))
  expected = {"images": "D", "labels": "its labels", "epochs": 2, "batch_size": 8}
  assert given == expected
