"""Speed of one federated round of ours against a plain TensorFlow loop.

Run by hand, on a machine that is otherwise idle:

    python benchmarks/client_training.py                      # all models, 5 minutes
    python benchmarks/client_training.py --model cifar_cnn --intra_op_threads 0 1 2

Measured: seconds from the call of `next` to the new state, so ours also pays for the
worker process, the broadcast, the aggregation and the metrics. The raw loop is what one
writes without TFF: `for images, labels in dataset` around one `tf.function` step with
`GradientTape` and a Keras optimizer, client after client, TensorFlow's default threads,
then the mean. Both start every round from the same weights and read the same batches
of the same shards; equal training losses in the table show that both do the same work
(dropout and rounding may move the last digits). Pixels and labels are random.

What counts is the ratio ours / raw: below 1 a round of ours is faster. Rounds alternate
and every ratio is taken within one run, since seconds depend on the machine and on
what else it does. Expected on two cores: at most 0.65 for cifar_cnn.
"""

import argparse
import collections
import dataclasses
import functools
import itertools
import os
import statistics
import tempfile
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
  """One model and the training of its clients."""

  model: str
  num_clients: int
  num_images: int  # of each client
  batch_size: int
  optimizer: str  # key in `_OPTIMIZERS`
  learning_rate: float

  def __str__(self) -> str:
    return (
      f"{self.model}: {self.num_clients} clients x {self.num_images:,} images, batch "
      f"{self.batch_size}, {self.optimizer} {self.learning_rate:g}"
    )


CASES = {
  case.model: case
  for case in (
    Case("cifar_cnn", 10, 1000, 32, "adam", 1e-3),  # FLARE; images: ours
    Case("fmnist_cnn", 10, 128, 64, "adam", 1e-3),  # FLARE; images: ours, it is slow
    Case("lenet", 10, 600, 32, "sgdm", 6.7e-3),  # FL-PLAS; clients: ours, paper 30
  )
}
MOMENTUM = 0.9  # FL-PLAS code; its weight decay is left out on both sides


class Ours:
  """Rounds of `build_fed_avg` on a local worker."""

  def __init__(self, case, spec, shard_set, weights, **threads):
    from tff_defenses import runtime

    self._process = _build_process(case, spec, shard_set, weights)
    self._paths = [shard_set.path(i) for i in range(case.num_clients)]
    self._runtime = runtime.use_local_worker(**threads)
    self._state = self._runtime.call(self._process.initialize)
    worker = self._runtime.worker
    self.name = f"ours: {worker.concurrency} at once, intra-op {_threads(worker)}"

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

  name = "raw loop"

  def __init__(self, case, spec, shard_set, weights):
    import tensorflow as tf

    self._model = spec.build()
    self._weights = weights
    self._optimizer = _OPTIMIZERS[case.optimizer][1](case.learning_rate)
    self._optimizer.build(self._model.trainable_variables)
    self._paths = [shard_set.path(i) for i in range(case.num_clients)]
    self._read = functools.partial(_read, case, shard_set)
    self._step = _build_step(self._model, self._optimizer)
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
    self._model.set_weights([w - u for w, u in zip(self._weights, mean, strict=True)])
    return time.perf_counter() - started, float(np.mean(losses))

  def _train(self, dataset):
    """One client: (update as a list of arrays, mean loss over its images)."""
    self._model.set_weights(self._weights)
    for variable in self._optimizer.variables[:]:
      if "learning_rate" not in variable.name:
        variable.assign(self._tf.zeros_like(variable))
    loss_sum, seen = 0.0, 0
    for batch in dataset:
      loss = self._step(batch["x"], batch["y"])
      loss_sum += loss * len(batch["y"])
      seen += len(batch["y"])
    trained = self._model.get_weights()
    update = [w - t for w, t in zip(self._weights, trained, strict=True)]
    return update, loss_sum / seen


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
    _OPTIMIZERS[case.optimizer][0](case.learning_rate),
    dataset_computation=read,
    initial_weights=tff.learning.models.ModelWeights(weights, []),
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


_OPTIMIZERS = {"adam": (_tff_adam, _keras_adam), "sgdm": (_tff_sgdm, _keras_sgdm)}


def _read(case, shard_set, path, seed):
  from tff_defenses.experiments import shards

  return shards.read(path, shard_set.image_shape, batch_size=case.batch_size, seed=seed)


def _seed(round_number, client_index):
  return 1000 * round_number + client_index


def _threads(worker):
  return worker.intra_op_threads or "default"


def write_shards(case: Case, spec, folder: str):
  """Writes random images and labels for each client."""
  from tff_defenses.experiments import shards

  rng = np.random.default_rng(0)
  shape = (case.num_images, *spec.image_shape)
  clients = [
    (rng.integers(256, size=shape, dtype=np.uint8), rng.integers(10, size=shape[0]))
    for _ in range(case.num_clients)
  ]
  return shards.write(folder, dataclasses.asdict(case), clients, spec.image_shape)


def measure(loops: list, num_rounds: int) -> dict[str, tuple[list[float], float]]:
  """Runs one warm-up round of each loop, then `num_rounds` in turns.

  Returns:
    name -> (seconds of each round, training loss of the last).
  """
  seconds, losses = {loop.name: [] for loop in loops}, {}
  for round_number in range(num_rounds + 1):
    for loop in loops:
      elapsed, losses[loop.name] = loop.run(round_number)
      if round_number:
        seconds[loop.name].append(elapsed)
  return {name: (seconds[name], losses[name]) for name in seconds}


def format_table(results, num_images: int) -> str:
  """The aligned table; ratios are to the first row."""
  base, _ = next(iter(results.values()))
  head = ("min s", "median s", "images/s", "ratio of medians", "of minima", "loss")
  rows = [("", *head)]
  for name, (seconds, loss) in results.items():
    least, median = min(seconds), statistics.median(seconds)
    ratios = median / statistics.median(base), least / min(base)
    numbers = (f"{least:.2f}", f"{median:.2f}", f"{num_images / median:,.0f}")
    rows.append((name, *numbers, *(f"{r:.2f}" for r in ratios), f"{loss:.3f}"))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    row[0].ljust(widths[0])
    + "".join(
      f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)
    )
    for row in rows
  )


def run_case(case: Case, options) -> None:
  """Measures one model and prints its table."""
  from models import MODELS

  spec = MODELS[case.model]
  weights = spec.build().get_weights()
  with tempfile.TemporaryDirectory() as folder:
    shard_set = write_shards(case, spec, folder)
    given = (case, spec, shard_set, weights)
    loops = []
    try:
      for threads, calls in itertools.product(
        options.intra_op_threads, options.concurrency
      ):
        loops.append(Ours(*given, intra_op_threads=threads, concurrency=calls))
      # Last made, first run: Keras models of before a graph was built (by TFF) fail.
      loops.insert(0, Raw(*given))
      results = measure(loops, options.rounds)
    finally:
      for loop in loops:
        loop.close()
  print(f"\n{case}; {options.rounds} rounds of each loop after a warm-up")
  print(format_table(results, case.num_clients * case.num_images), flush=True)


def _resized(case, options):
  given = {"num_clients": options.clients, "num_images": options.images}
  return dataclasses.replace(case, **{k: v for k, v in given.items() if v is not None})


def _parse_flags():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add(
    "--model",
    nargs="+",
    choices=CASES,
    default=list(CASES),
    help="models to measure, one table each (default: all)",
  )
  add(
    "--rounds",
    type=_at_least(1),
    default=5,
    help="measured rounds of each loop; more make the minima steadier (default: 5)",
  )
  add("--clients", type=_at_least(1), help="clients a round (default: 10)")
  add(
    "--images",
    type=_at_least(1),
    help="images of each client (default: "
    + ", ".join(f"{c.num_images} {c.model}" for c in CASES.values())
    + ")",
  )
  add(
    "--intra_op_threads",
    nargs="+",
    type=_at_least(0),
    default=[1],
    help="threads of one TensorFlow operation in our worker; 0: TensorFlow's choice. "
    "Several values: a worker and a row of the table each (default: 1)",
  )
  add(
    "--concurrency",
    nargs="+",
    type=_at_least(1),
    default=[None],
    help="clients that our worker computes at once; several values: as above "
    "(default: the number of usable cores)",
  )
  return parser.parse_args()


def _at_least(minimum):
  def whole_number(text):
    if int(text) < minimum:
      raise argparse.ArgumentTypeError(f"must be >= {minimum}, got {text}")
    return int(text)

  return whole_number


def main() -> None:
  options = _parse_flags()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  for name in options.model:
    run_case(_resized(CASES[name], options), options)


if __name__ == "__main__":
  main()
