"""The probe: representations of each client's model, and no step of the global one."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import split
from tests.experiments import toy_runs
from tff_defenses.experiments import plr_files, probe
from tff_defenses.experiments.errors import OutputError

IMAGES = np.float32([[[[1.0], [2.0]]], [[[3.0], [5.0]]]])  # two of 1 x 2 x 1
# Layer `penultimate` [2, 2] without a bias, then `classifier`.
WEIGHTS = [np.eye(2, dtype=np.float32), np.ones([2, 2], np.float32)]


def model_fn():
  def keras_fn():
    return tf.keras.Sequential(
      [
        tf.keras.Input([1, 2, 1]),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(2, use_bias=False, name="penultimate"),
        tf.keras.layers.Dense(2, use_bias=False, name="classifier"),
      ]
    )

  return split.make_model_fn(keras_fn)


def test_representations_are_those_of_the_clients_models(runtime):
  made = model_fn()
  weights_type = tff.learning.models.weights_type_from_model(made).trainable
  factory = probe.PlrProbeFactory(split.plr_fn(made, IMAGES))
  process = factory.create_unified(weights_type)
  doubled = [-WEIGHTS[0], np.zeros([2, 2], np.float32)]  # initial minus trained
  still = [np.zeros_like(w) for w in WEIGHTS]
  info = [
    collections.OrderedDict(client_index=np.int32(i), num_examples=np.float32(1))
    for i in (0, 1)
  ]
  state = runtime.call(process.initialize)
  output = runtime.call(process.next, state, WEIGHTS, [still, doubled], info)
  seen = np.float32([[1, 2], [3, 5]])
  np.testing.assert_allclose(output.measurements["plrs"], [seen, 2 * seen])
  assert all((part == 0).all() for part in output.result)


def test_probing_a_run_gives_a_representation_for_each_client(flare_run, runtime):
  images = flare_run.trainer.federation.test_images[:4]
  plrs = probe.client_plrs(flare_run.trainer, runtime, flare_run.states, images)
  assert plrs.shape == (3, 4, 128) and np.isfinite(plrs).all()
  assert len({row.tobytes() for row in plrs}) == 3


def test_the_probes_round_is_the_one_after_the_last(flare_run, runtime, monkeypatch):
  given, call = [], runtime.call
  monkeypatch.setattr(runtime, "call", lambda *a: (given.append(a), call(*a))[1])
  images = flare_run.trainer.federation.test_images[:1]
  probe.client_plrs(flare_run.trainer, runtime, flare_run.states, images)
  _, state, _ = given[-1]  # the clients' learning rate follows from its number
  assert int(state.client_work) == flare_run.config.rounds + 1


def test_flare_run_keeps_representations_of_all_clients(flare_run, runtime, tmp_path):
  given = flare_run.trainer, runtime, flare_run.states, tmp_path
  probe.keep(*given)
  kept = plr_files.read(tmp_path)
  federation = flare_run.trainer.federation
  count = sum(min(20, (federation.test_labels == c).sum()) for c in range(10))
  assert kept.plrs.shape == (3, count, 128) and kept.kernel.shape == (128, 10)
  assert kept.plrs.dtype == np.float32 and np.isfinite(kept.plrs).all()
  assert kept.labels.shape == (count,) and (np.diff(kept.labels) >= 0).all()
  assert kept.malicious.tolist() == [False, False, True]
  assert kept.class_names.tolist() == list(federation.class_names)
  assert kept.round == 4  # one after the last
  first = (tmp_path / "plr.npz").read_bytes()
  (tmp_path / "plr.npz").unlink()
  probe.keep(*given)
  assert (tmp_path / "plr.npz").read_bytes() == first


def test_its_round_has_the_limit_of_the_others(flare_run, runtime, tmp_path):
  watched = toy_runs.NotesOptions(runtime)
  given = flare_run.trainer, watched, flare_run.states, tmp_path
  probe.keep(*given, round_seconds=9.0)
  assert watched.options == [{"timeout_seconds": 9.0}] * 2  # the start and the round


def test_representations_that_are_there_are_not_read_again(flare_run, tmp_path):
  (tmp_path / "plr.npz").write_bytes(b"there")
  probe.keep(flare_run.trainer, None, flare_run.states, tmp_path)
  assert (tmp_path / "plr.npz").read_bytes() == b"there"


@pytest.mark.parametrize("name", ["fedavg_run", "fl_plas_run"])
def test_other_rules_keep_none(name, request, tmp_path):
  run = request.getfixturevalue(name)
  probe.keep(run.trainer, None, run.states, tmp_path)
  assert not list(tmp_path.iterdir())


def test_many_clients_and_classes_mean_fewer_images():
  assert probe._images_a_class(10, 128, 10) == 20
  # 100 clients x 1,000 values x 100 classes are 10,000,000 values an image a class.
  assert probe._images_a_class(100, 1_000, 100) == 1
  assert probe._images_a_class(100, 100, 200) == 8  # 16,000,000 / 2,000,000
  assert probe._images_a_class(1_000, 1_000, 100) == 1


def test_first_images_of_each_class_are_shown():
  labels = np.array([2, 0, 2, 2, 0, 5])
  assert probe._first_of_each(labels, 2).tolist() == [1, 4, 0, 2, 5]


def test_folder_that_cannot_be_written_is_one_sentence(
  flare_run, runtime, tmp_path, monkeypatch
):
  def fail(plrs, folder):
    raise OSError("disk full")

  monkeypatch.setattr(plr_files, "write", fail)
  plrs = np.zeros((3, 2, 128), np.float32)
  monkeypatch.setattr(probe, "client_plrs", lambda *_, **__: plrs)
  with pytest.raises(OutputError, match="cannot be written: disk full"):
    probe.keep(flare_run.trainer, runtime, flare_run.states, tmp_path)
