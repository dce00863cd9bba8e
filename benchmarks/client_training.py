"""Speed of one federated round of ours against a plain TensorFlow loop.

Run by hand, on a machine that is otherwise idle:

    python benchmarks/client_training.py                      # all models
    python benchmarks/client_training.py --model cifar_cnn --intra_op_threads 0 1 2

Measured: seconds from the call of `next` to the new state, so ours also pays for the
worker process, the broadcast, the aggregation and the metrics. Two raw loops are what
one writes without TFF, with `GradientTape`, a Keras optimizer and TensorFlow's default
threads, client after client, then the mean:

    raw, steps      `for batch in dataset` in Python around one `tf.function` step
    raw, one graph  the same `for` inside a `tf.function`

All start every round from the same weights and read the same batches of the same
shards; equal training losses in the table show that they do the same work (dropout and
rounding may move the last digits). Pixels and labels are random.

What counts is the ratio to a raw loop: below 1 a round of ours is faster. Loops take
turns and every ratio is taken within one run, since seconds depend on the machine and
on what else it does. Aim on two cores for cifar_cnn: at most 0.65 of the loop inside a
`tf.function`. Ratios of medians over five runs: 0.67, 0.73, 0.46, 0.68 and 0.67 to that
loop, 0.67 to 0.85 to the steps in Python. Little is left to gain: in a round of 5.6 s
the worker computed for 10.0 s on two cores, 0.1 s was not training, and neither more
threads between operations, nor more clients at once, nor other settings of the memory
allocator were faster.

All loops use oneDNN, which TensorFlow leaves off on CPUs without AVX-512 VNNI, unless
TF_ENABLE_ONEDNN_OPTS=0 is given. Medians of two or three rounds of ours on such a CPU
(AVX2, two cores), without it and with it: 8.6 s and 5.8 s lenet, 12.4 s and 8.3 s
cifar_cnn, 2.6 s and 2.4 s fmnist_cnn (--clients 4), 9.6 s and 3.5 s mobilenet, 5.7 s
and 3.3 s resnet18 (--images 64; the raw steps took 4.8 s and 1.4 s).
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import tempfile

import numpy as np
import training_loops

from tff_defenses import runtime


@dataclasses.dataclass(frozen=True)
class Case:
  """One model and the training of its clients."""

  model: str
  num_clients: int
  num_images: int  # of each client
  batch_size: int
  optimizer: str  # key in `training_loops.OPTIMIZERS`
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
    Case("mobilenet", 4, 128, 32, "sgdm", 2.5e-3),  # FL-PLAS; clients, images: ours
    Case("resnet18", 2, 256, 32, "sgdm", 1.5e-5),  # the same
  )
}


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
  """The aligned table; ratios are to the first row, the raw steps."""
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
  model = spec.build()
  weights = tuple(
    [variable.numpy() for variable in variables]
    for variables in (model.trainable_variables, model.non_trainable_variables)
  )
  with tempfile.TemporaryDirectory() as folder:
    shard_set = write_shards(case, spec, folder)
    given = (case, spec, shard_set, weights)
    loops = []
    try:
      for intra, inter, calls in itertools.product(
        options.intra_op_threads, options.inter_op_threads, options.concurrency
      ):
        threads = {"intra_op_threads": intra, "inter_op_threads": inter}
        loops.append(training_loops.Ours(*given, concurrency=calls, **threads))
      # Last made, first run: Keras models of before a graph was built (by TFF) fail.
      raw = [
        training_loops.Raw(*given, one_graph=one_graph) for one_graph in (False, True)
      ]
      loops[:0] = raw
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
  add(
    "--clients",
    type=_at_least(1),
    help=f"clients a round (default: {_defaults('num_clients')})",
  )
  add(
    "--images",
    type=_at_least(1),
    help=f"images of each client (default: {_defaults('num_images')})",
  )
  add(
    "--intra_op_threads",
    nargs="+",
    type=_at_least(0),
    default=[None],
    help="threads of one TensorFlow operation in our worker; 0: TensorFlow's choice. "
    "Several values: a worker and a row of the table each (default: the worker's own)",
  )
  add(
    "--inter_op_threads",
    nargs="+",
    type=_at_least(0),
    default=[None],
    help="operations that run at once in our worker; 0: TensorFlow's choice. Several "
    "values: as above (default: the worker's own)",
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


def _defaults(name):
  """A setting of every case, in words."""
  return ", ".join(f"{getattr(case, name)} {case.model}" for case in CASES.values())


def _at_least(minimum):
  def whole_number(text):
    if int(text) < minimum:
      raise argparse.ArgumentTypeError(f"must be >= {minimum}, got {text}")
    return int(text)

  return whole_number


def main() -> None:
  options = _parse_flags()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  os.environ.setdefault(runtime.ONEDNN, "1")
  for name in options.model:
    run_case(_resized(CASES[name], options), options)


if __name__ == "__main__":
  main()
