"""The loops that `client_training.py` compares: `build_fed_avg`, and plain TensorFlow.

Each has `name`, `run(round_number)` and `close()`.
"""

import collections
import functools
import time

import numpy as np

MOMENTUM = 0.9  # FL-PLAS code; its weight decay is left out on both sides


class Ours:
  """Rounds of `build_fed_avg` on a local worker."""

  def __init__(self, case, spec, shard_set, weights, **threads):
    from tff_defenses import runtime

    self._process = _build_process(case, spec, shard_set, weights)
    self._paths = [shard_set.path(i) for i in range(case.num_clients)]
    given = {name: value for name, value in threads.items() if value is not None}
    self._runtime = runtime.use_local_worker(**given)
    self._state = self._runtime.call(self._process.initialize)
    worker = self._runtime.worker
    threads = f"{worker.intra_op_threads} x {worker.inter_op_threads}"
    self.name = f"ours: {worker.concurrency} at once, threads {threads}"

  def close(self) -> None:
    self._runtime.close()

  def run(self, round_number: int) -> tuple[float, float]:
    """Runs one round; returns (seconds, training loss)."""
    clients = [
      collections.OrderedDict(
        shard=path, client_index=i, is_malicious=False, seed=_seed(round_number, i)
      )
      for i, path in enumerate(self._paths)
    ]
    started = time.perf_counter()
    _, metrics = self._runtime.call(self._process.next, self._state, clients)
    return time.perf_counter() - started, float(metrics["clients"]["train_loss"])


class Raw:
  """The same rounds in plain TensorFlow, in this process."""

  def __init__(self, case, spec, shard_set, weights, *, one_graph: bool):
    import tensorflow as tf

    self.name = "raw, one graph" if one_graph else "raw, steps"

    self._model = spec.build()
    trainable = self._model.trainable_variables
    self._variables = [*trainable, *self._model.non_trainable_variables]
    self._weights = [*weights[0], *weights[1]]
    self._optimizer = OPTIMIZERS[case.optimizer][1](case.learning_rate)
    self._optimizer.build(self._model.trainable_variables)
    self._paths = [shard_set.path(i) for i in range(case.num_clients)]
    self._read = functools.partial(_read, case, shard_set)
    step = _build_step(self._model, self._optimizer)
    self._go_through = _build_pass(step, one_graph)
    self._tf = tf

  def close(self) -> None:
    """Nothing to end."""

  def run(self, round_number: int) -> tuple[float, float]:
    """Runs one round; returns (seconds, training loss)."""
    datasets = [  # made before the clock starts: eager tracing is not training
      self._read(path, _seed(round_number, i)) for i, path in enumerate(self._paths)
    ]
    started = time.perf_counter()
    results = [self._train(dataset) for dataset in datasets]
    updates, losses = zip(*results, strict=True)
    mean = [np.mean(arrays, axis=0) for arrays in zip(*updates, strict=True)]
    self._set([w - u for w, u in zip(self._weights, mean, strict=True)])
    return time.perf_counter() - started, float(np.mean(losses))

  def _train(self, dataset):
    """One client: (update as a list of arrays, mean loss over its images)."""
    self._set(self._weights)
    for variable in self._optimizer.variables[:]:
      if "learning_rate" not in variable.name:
        variable.assign(self._tf.zeros_like(variable))
    loss = self._go_through(dataset)
    trained = [variable.numpy() for variable in self._variables]
    update = [w - t for w, t in zip(self._weights, trained, strict=True)]
    return update, loss

  def _set(self, weights) -> None:
    for variable, value in zip(self._variables, weights, strict=True):
      variable.assign(value)


def _build_process(case, spec, shard_set, weights):
  import tensorflow_federated as tff

  import tff_defenses as td
  from models import split
  from tff_defenses.learning.client_input import CLIENT_INPUT_TYPE

  @tff.tensorflow.computation(CLIENT_INPUT_TYPE)
  def read(client):
    return _read(case, shard_set, client["shard"], client["seed"])

  return td.build_fed_avg(
    split.make_model_fn(spec.build),
    OPTIMIZERS[case.optimizer][0](case.learning_rate),
    dataset_computation=read,
    initial_weights=tff.learning.models.ModelWeights(*weights),
  )


def _build_step(model, optimizer):
  import tensorflow as tf

  loss_fn = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

  @tf.function(reduce_retracing=True)
  def step(images, labels):
    with tf.GradientTape() as tape:
      loss = loss_fn(labels, model(images, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss

  return step


def _build_pass(step, one_graph):
  """dataset -> mean loss over its images."""
  import tensorflow as tf

  def go_through(dataset):
    loss_sum, seen = tf.constant(0.0), tf.constant(0.0)
    for batch in dataset:
      count = tf.cast(tf.shape(batch["y"])[0], tf.float32)
      loss_sum += step(batch["x"], batch["y"]) * count
      seen += count
    return loss_sum / seen

  return tf.function(go_through) if one_graph else go_through


def _tff_adam(learning_rate):
  import tensorflow_federated as tff

  return tff.learning.optimizers.build_adam(learning_rate)


def _tff_sgdm(learning_rate):
  import tensorflow_federated as tff

  return tff.learning.optimizers.build_sgdm(learning_rate, MOMENTUM)


def _keras_adam(learning_rate):
  import tensorflow as tf

  return tf.keras.optimizers.Adam(learning_rate)


def _keras_sgdm(learning_rate):
  import tensorflow as tf

  return tf.keras.optimizers.SGD(learning_rate, MOMENTUM)


OPTIMIZERS = {"adam": (_tff_adam, _keras_adam), "sgdm": (_tff_sgdm, _keras_sgdm)}


def _read(case, shard_set, path, seed):
  from tff_defenses.experiments import shards

  return shards.read(path, shard_set.image_shape, batch_size=case.batch_size, seed=seed)


def _seed(round_number, client_index):
  return 1000 * round_number + client_index
