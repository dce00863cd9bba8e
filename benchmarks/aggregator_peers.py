"""What `aggregators.py` measures: server steps of rules, their peers, rounds in TFF.

A step is the graph that the worker runs between stacking and the result, measurements
and the removal of non-finite updates included. Of `fedavg` it is the mean alone: TFF
adds up on the way, and no such graph exists.
"""

import collections
import importlib.metadata
import time
from collections.abc import Callable

import numpy as np

NEEDS_A_MODEL = ("flare", "fltrust", "fl_plas")
ADDING_UP = ("fedavg", "norm_clipping", "lfighter")  # compare few columns or none


def specs_of(num_columns: int) -> list:
  """Some first layer and a classifier, for the rules that look at the latter."""
  import tensorflow as tf

  shapes = [num_columns - 850], [84, 10], [10]
  return [tf.TensorSpec(shape) for shape in shapes]


def build_factory(name: str, num_clients: int):
  """The registry's factory; a tenth of the clients is expected to be malicious."""
  import tff_defenses as td

  spec = td.AGGREGATORS[name]
  given = {"num_byzantine": num_clients // 10, "num_clients": num_clients}
  return spec.build(given if "num_byzantine" in spec.needs else {})


def server_step(factory, num_columns: int, specs=None) -> Callable:
  """[n, d] -> (result, measurements), n known only in the graph, as inside TFF."""
  import tensorflow as tf

  from tff_defenses.aggregators import base, mean, rows

  specs = specs_of(num_columns) if specs is None else specs
  weights = tf.random.stateless_normal([num_columns], [0, 1], stddev=0.05)

  def step(updates):
    if isinstance(factory, mean.FiniteMeanFactory):
      return mean.aggregate(updates)
    state = factory._initial_state(specs)
    if isinstance(factory, base.ModelAwareFactory):
      return factory._step(state, weights, updates, specs)[1:]
    index = tf.range(tf.shape(updates)[0])

    def rule(kept, kept_index):
      return factory._step(state, kept, kept_index, specs)[1:]

    return rows.on_kept_rows(rows.finite_rows(updates), rule, updates, index)

  signature = [tf.TensorSpec([None, num_columns])]
  return tf.function(step, input_signature=signature, autograph=False)


def peers_of(name: str, updates, num_dropped: int) -> dict[str, Callable]:
  """What a rule is compared with, label -> function without arguments."""
  import tensorflow as tf

  matrix = updates.numpy()

  def gram(rows=updates):
    return tf.matmul(rows, rows, transpose_b=True).numpy()

  def middle_of_sorted():
    low, high = (len(matrix) - 1) // 2, len(matrix) // 2
    ordered = np.sort(matrix, axis=0)
    return 0.5 * ordered[low] + 0.5 * ordered[high]

  def trimmed():
    ordered = np.sort(matrix, axis=0)
    return ordered[num_dropped : len(matrix) - num_dropped].mean(axis=0)

  def bulyan():
    return gram(), middle_of_sorted()

  def towards_centre(steps):  # distances to a point, then a weighted mean
    centre = matrix.mean(axis=0)
    for _ in range(steps):
      weights = 1 / np.linalg.norm(matrix - centre, axis=1)
      centre = weights @ matrix / weights.sum()
    return centre

  median = {"np.median": lambda: np.median(matrix, axis=0), "np.sort": middle_of_sorted}
  signs = {"np.sign, mean": lambda: np.sign(matrix).mean(axis=0)}
  special = {
    "median": median,
    "trimmed_mean": {"np.sort, mean": trimmed},
    "bulyan": {"Gram + np.sort": bulyan},
    "rsa": signs,
    # Krum on the means of two rows each.
    "bucketing": {"Gram of n/2 rows": lambda: gram(updates[::2])},
    "centered_clipping": {"one such step in NumPy": lambda: towards_centre(1)},
    "geometric_median": {"four such steps in NumPy": lambda: towards_centre(4)},
    "foolsgold": {"Gram of the last kernel": lambda: gram(updates[:, -850:-10])},
  }
  if name in special:
    return special[name]
  if name in ADDING_UP:
    return {"np.mean": lambda: matrix.mean(axis=0)}
  return {"Gram": gram}


def byzfl_of(
  name: str, updates, num_byzantine: int, num_threads: int
) -> dict[str, Callable]:
  """ByzFL's rule on PyTorch, if it is installed and has the rule.

  Its Multi-Krum averages n - f rows, ours n - f - 2.
  """
  try:
    import byzfl
    import torch
  except ImportError:
    return {}
  rules = {
    "fedavg": ("Average",),
    "median": ("Median",),
    "trimmed_mean": ("TrMean", num_byzantine),
    "krum": ("Krum", num_byzantine),
    "multi_krum": ("MultiKrum", num_byzantine),
    "geometric_median": ("GeometricMedian",),
  }
  if name not in rules:
    return {}
  rule = getattr(byzfl, rules[name][0])(*rules[name][1:])
  torch.set_num_threads(num_threads)
  matrix = torch.from_numpy(updates.numpy())
  version = importlib.metadata.version("byzfl")
  return {f"byzfl {version} {rules[name][0]}": lambda: rule(matrix)}


def flare_step(num_clients: int, num_images: int = 10) -> Callable:
  """FLARE's step on the paper's CIFAR-10 model, a function without arguments."""
  import tensorflow as tf

  import tff_defenses as td
  from models import MODELS, split

  spec = MODELS["cifar_cnn"]
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (num_images, *spec.image_shape)).astype(np.float32)
  model_fn = split.make_model_fn(spec.build)
  factory = td.FlareFactory(split.plr_fn(model_fn, images))
  variables = spec.build().trainable_variables
  specs = [tf.TensorSpec(variable.shape) for variable in variables]
  num_columns = sum(s.shape.num_elements() for s in specs)
  updates = tf.constant(
    0.01 * rng.standard_normal((num_clients, num_columns), np.float32)
  )
  step = server_step(factory, num_columns, specs)
  return lambda: step(updates)


def collect_in_tff(num_columns: int) -> Callable:
  """Seeds of n clients -> a number, through the stack of their updates."""
  import tensorflow as tf
  import tensorflow_federated as tff

  from tff_defenses.aggregators import base, stacking

  update_type = tff.to_type((np.float32, [num_columns]))

  @tff.tensorflow.computation(np.int32)
  def make(seed):
    return tf.fill([num_columns], tf.cast(seed, tf.float32))  # costs next to nothing

  @tff.tensorflow.computation(stacking.stack_type(update_type))
  def corner(stack):
    return stack["updates"][-1, -1]

  @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
  def collect(seeds):
    updates = tff.federated_map(make, seeds)
    stack = stacking.federated_stack(updates, base.no_info(), update_type)
    return tff.federated_map(corner, stack)

  return collect


def round_in_tff(factory, num_columns: int) -> Callable:
  """Seeds of n clients -> a number, through the whole aggregation process."""
  import tensorflow as tf
  import tensorflow_federated as tff

  from tff_defenses.aggregators import base, stacking

  shapes = [spec.shape.as_list() for spec in specs_of(num_columns)]
  value_type = tff.to_type([(np.float32, shape) for shape in shapes])
  process = base.unify(factory, value_type)
  specs = stacking.tensor_specs(value_type)

  @tff.tensorflow.computation(np.int32)
  def make(seed):  # in the worker, so that nothing is sent
    row = tf.random.stateless_normal([num_columns], tf.stack([seed, 0]))
    return stacking.unflatten(row, specs)

  @tff.tensorflow.computation
  def weights():
    return stacking.unflatten(tf.zeros([num_columns]), specs)

  @tff.tensorflow.computation(value_type)
  def corner(result):
    return tf.nest.flatten(result)[-1][0]

  @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
  def run_round(seeds):
    updates = tff.federated_map(make, seeds)
    theta = tff.federated_eval(weights, tff.SERVER)
    output = process.next(process.initialize(), theta, updates, base.no_info())
    return tff.federated_map(corner, output.result)

  return run_round


def peak_copies(name: str, num_clients: int, num_columns: int) -> float:
  """Memory of the worker in one round, in copies of all updates.

  The largest resident size, less that of the same worker after a round of few numbers.
  """
  from tff_defenses import runtime

  factory = build_factory(name, num_clients)
  seeds = list(range(num_clients))
  peaks = []
  for columns in (1000, num_columns):
    run_round = round_in_tff(factory, columns)
    with runtime.use_local_worker() as running:
      running.call(run_round, seeds)
      peaks.append(running.worker.peak_bytes)
  return (peaks[1] - peaks[0]) / (4 * num_clients * num_columns)


def timed(functions: dict[str, Callable], num_rounds: int) -> dict[str, list[float]]:
  """Seconds of each function, in turns, after one warm-up call of each."""
  seconds = collections.defaultdict(list)
  for round_number in range(num_rounds + 1):
    for name, function in functions.items():
      started = time.perf_counter()
      function()
      if round_number:
        seconds[name].append(time.perf_counter() - started)
  return dict(seconds)
