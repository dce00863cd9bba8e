"""Speed and memory of the aggregation rules, beside what one would write without them.

Run by hand, on a machine that is otherwise idle:

    python benchmarks/aggregators.py                        # all
    python benchmarks/aggregators.py --parts rules --sizes 10x3400000 --rules krum
    python benchmarks/aggregators.py --parts flare collect memory

Four tables:

    rules    seconds of each rule's server step on random updates [n, d], measurements
             included (of fedavg the mean alone), and of peers in the same run: NumPy
             for the rules that look at each parameter by itself or add up, and for the
             rules that compare clients one Gram matrix of what they compare
             (`tf.matmul(x, x, transpose_b=True)`; bucketing, with Krum inside: of the
             n/2 buckets; foolsgold: of the last kernel), the least that they can do.
             TensorFlow has two threads, NumPy one. ByzFL (PyTorch, two threads) is a
             further peer where installed; its Multi-Krum averages n - f rows, ours
             n - f - 2.
    flare    seconds of FLARE's server step on its CIFAR-10 model with 10 auxiliary
             images. The paper: 3.2 s for 10 clients, 28.3 s for 50.
    collect  seconds to bring n updates of 1,000,000 numbers to the server in TFF; the
             last column must stay level.
    memory   the most that a worker holds in a whole round, in copies of the updates
             [n, d] (the clients' own included, since they live in the same worker).

Ratios are ours divided by the peer's: below 1 ours is faster. Ours and the peers take
turns; of the two ratios that of minima is the steadier one on a busy machine.
"""

import argparse
import os
import statistics

import aggregator_peers as peers
import numpy as np

NUM_THREADS = 2
SIZES = ("10x3400000", "30x3200000", "100x1200000")
PARTS = ("rules", "flare", "collect", "memory")
LABELS = {"fedavg": "fedavg (mean alone)"}  # its step is TFF's; see `server_step`
FLARE_CLIENTS = (10, 50)
COLLECTED_CLIENTS = (10, 20, 40, 80)
MEMORY_CLIENTS, TFF_COLUMNS = 20, 1_000_000


def format_table(rows: list[tuple]) -> str:
  """Aligned columns; the first is text, the others are numbers."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  )


def rule_rows(name: str, updates, num_rounds: int) -> list[tuple]:
  """One line for each peer of a rule."""
  num_clients, num_columns = updates.shape
  num_byzantine = num_clients // 10
  factory = peers.build_factory(name, num_clients)
  step = peers.server_step(factory, num_columns)
  others = peers.peers_of(name, updates, max(1, num_byzantine))
  others |= peers.byzfl_of(name, updates, num_byzantine, NUM_THREADS)
  seconds = peers.timed({"ours": lambda: step(updates), **others}, num_rounds)
  ours, rows = seconds.pop("ours"), []
  for label, theirs in seconds.items():
    pairs = [(f(ours), f(theirs)) for f in (min, statistics.median)]
    cells = [f"{x:.3f}" for pair in pairs for x in pair]
    ratios = [f"{our / their:.2f}" for our, their in pairs]
    rows.append((LABELS.get(name, name), *cells, *ratios, label))
  return rows


def measure_rules(options) -> None:
  """Prints one table for each size."""
  import tensorflow as tf

  for num_clients, num_columns in options.sizes:
    rng = np.random.default_rng(0)
    shape = num_clients, num_columns
    updates = tf.constant(rng.standard_normal(shape, np.float32))
    head = ("", "min s", "peer", "median s", "peer", "ratio of min", "of medians", "to")
    rows = [head]
    for name in options.rules:
      rows += rule_rows(name, updates, options.rounds)
    print(f"\nRules: {num_clients} updates of {num_columns:,} numbers")
    print(format_table(rows), flush=True)


def measure_flare(options) -> None:
  rows = [("clients", "min s", "median s")]
  for num_clients in FLARE_CLIENTS:
    step = {"": peers.flare_step(num_clients)}
    (seconds,) = peers.timed(step, options.rounds).values()
    rows.append(_line(num_clients, seconds))
  print("\nFLARE's server step, cifar_cnn, 10 auxiliary images")
  print(format_table(rows), flush=True)


def measure_collecting(options) -> None:
  from tff_defenses import runtime

  collect = peers.collect_in_tff(TFF_COLUMNS)
  rows = [("clients", "min s", "median s", "min s per client")]
  with runtime.use_local_worker() as running:
    for num_clients in COLLECTED_CLIENTS:
      seeds = list(range(num_clients))
      call = {"": lambda seeds=seeds: running.call(collect, seeds)}
      (seconds,) = peers.timed(call, options.rounds).values()
      rows.append((*_line(num_clients, seconds), f"{min(seconds) / num_clients:.4f}"))
  print(f"\nCollecting updates of {TFF_COLUMNS:,} numbers in TFF")
  print(format_table(rows), flush=True)


def measure_memory(options) -> None:
  rows = [("", "copies")]
  for name in options.rules:
    copies = peers.peak_copies(name, MEMORY_CLIENTS, TFF_COLUMNS)
    rows.append((name, f"{copies:.1f}"))
  print(f"\nMemory of a round: {MEMORY_CLIENTS} clients, {TFF_COLUMNS:,} numbers each")
  print(format_table(rows), flush=True)


MEASURES = dict(
  zip(
    PARTS,
    (measure_rules, measure_flare, measure_collecting, measure_memory),
    strict=True,
  )
)


def _line(label, seconds):
  return str(label), f"{min(seconds):.3f}", f"{statistics.median(seconds):.3f}"


def _size(text):
  try:
    num_clients, num_columns = map(int, text.split("x"))
  except ValueError:
    num_clients = num_columns = 0
  if num_clients < 1 or num_columns < 1000:
    raise argparse.ArgumentTypeError(
      f"must be clients x numbers (>= 1000), such as {SIZES[0]}, got {text!r}"
    )
  return num_clients, num_columns


def _num_rounds(text):
  if int(text) < 1:
    raise argparse.ArgumentTypeError(f"must be >= 1, got {text}")
  return int(text)


def _parse_flags():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add(
    "--parts",
    nargs="+",
    choices=PARTS,
    default=list(PARTS),
    help="tables to make (default: all)",
  )
  add(
    "--sizes",
    nargs="+",
    type=_size,
    default=[_size(text) for text in SIZES],
    help=f"clients x numbers of an update (default: {' '.join(SIZES)})",
  )
  add(
    "--rules",
    nargs="+",
    metavar="RULE",
    help="keys of the registry (`run_experiments.py --list`), but for "
    f"{', '.join(peers.NEEDS_A_MODEL)} (default: all others)",
  )
  add(
    "--rounds",
    type=_num_rounds,
    default=5,
    help="measured calls of each, after one that warms up (default: 5)",
  )
  options = parser.parse_args()
  options.rules = _known_rules(parser, options.rules)
  return options


def _known_rules(parser, names):
  from tff_defenses.aggregators.registry import AGGREGATORS

  known = [
    name
    for name, spec in AGGREGATORS.items()
    if spec.aggregates and name not in peers.NEEDS_A_MODEL
  ]
  unknown = sorted(set(names or ()) - set(known))
  if unknown:
    parser.error(f"--rules: {unknown} not among {', '.join(known)}")
  return names or known


def main() -> None:
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  options = _parse_flags()
  import tensorflow as tf

  tf.get_logger().setLevel("ERROR")  # many graphs are built here on purpose
  tf.config.threading.set_intra_op_parallelism_threads(NUM_THREADS)
  tf.config.threading.set_inter_op_parallelism_threads(NUM_THREADS)
  for part in options.parts:
    MEASURES[part](options)


if __name__ == "__main__":
  main()
