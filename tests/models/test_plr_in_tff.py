"""PLR functions, models and dropout inside TFF."""

import functools
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from models import MODELS, split


def test_traces_in_a_tff_computation_from_a_tff_model_fn():
  import tensorflow_federated as tff

  model_fn = split.make_model_fn(functools.partial(MODELS["mobilenet"].build, seed=1))
  plr = split.plr_fn(model_fn, np.zeros([2, 32, 32, 3]))
  rows = tff.types.TensorType(np.float32, [None, 3_217_226])
  many = tff.tensorflow.computation(lambda matrix: plr.many(matrix), rows)
  expected = tff.types.TensorType(np.float32, [None, 2, 1024])
  assert many.type_signature.result.is_equivalent_to(expected)


IN_TFF = """
import functools, sys
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from models import MODELS, split

keras_fn = functools.partial(MODELS["lenet"].build, seed=3)
model_fn = split.make_model_fn(keras_fn)
images = np.random.default_rng(0).integers(0, 256, (10, 28, 28, 1))
plr = split.plr_fn(model_fn, images)
rng = np.random.default_rng(1)
rows = rng.normal(0, 0.05, (5, 1199882)).astype(np.float32)
many = tff.tensorflow.computation(
  lambda x: plr.many(x), tff.types.TensorType(np.float32, [None, 1199882])
)
np.testing.assert_allclose(many(rows), plr.many(rows), rtol=1e-4, atol=1e-4)

# Same start as an eager build, and dropout that repeats itself.
process = tff.learning.algorithms.build_unweighted_fed_avg(
  model_fn, tff.learning.optimizers.build_sgdm(0.01)
)
def client(seed):
  x = np.random.default_rng(seed).integers(0, 256, (16, 28, 28, 1))
  y = np.arange(16, dtype=np.int32) % 10
  data = dict(x=x.astype(np.float32), y=y)
  return tf.data.Dataset.from_tensor_slices(data).batch(4)
start = process.initialize()
for a, b in zip(start.global_model_weights.trainable, keras_fn().weights, strict=True):
  np.testing.assert_array_equal(a, b)
ends = [
  process.next(start, [client(1), client(2)]).state.global_model_weights.trainable
  for _ in range(3)
]
for end in ends[1:]:
  for a, b in zip(ends[0], end, strict=True):
    np.testing.assert_array_equal(a, b)
assert any(np.any(a != b) for a, b in zip(ends[0], keras_fn().weights, strict=True))
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.slow
def test_runs_in_a_tff_worker_and_training_repeats(tmp_path):
  # Own session: TFF's stock context leaves its worker behind, and writes to our pipe.
  with open(tmp_path / "log", "w") as log:
    child = subprocess.Popen(
      [sys.executable, "-c", IN_TFF, str(tmp_path / "done")],
      cwd=pathlib.Path(__file__).parents[2],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      start_new_session=True,
    )
    try:
      child.wait(timeout=300)
    finally:
      try:
        os.killpg(child.pid, signal.SIGKILL)
      except ProcessLookupError:
        pass  # the worker has ended too
  assert (tmp_path / "done").exists(), (tmp_path / "log").read_text()[-3000:]
