"""One layer's output as a pure function of the images and the model's variables.

Keras models own their variables. A server that compares n clients' models needs the
forward pass as a function of the weights instead: eagerly, in a `tf.function`, in a
TFF computation, in a loop over clients. So the model is traced once; then every read
of a variable becomes an input of the graph, and what is left has no state.
"""

import concurrent.futures
import dataclasses
import difflib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

_IMAGES = "images"  # TensorFlow keeps argument names as placeholder names


@dataclasses.dataclass(frozen=True, eq=False)
class PureForward:
  """A traced model without its variables.

  Attributes:
    graph_def: stateless nodes that lead to the output.
    inputs: placeholder name -> index of the variable it stands for, trainable
      variables first, non-trainable after them.
    constants: placeholder name -> value, for tensors the model's layers hold.
    output: tensor name of the layer's output, [m, o].
    width: o.
    num_classes: logits of the whole model.
    names, shapes: of the trainable variables.
    moving_statistics: initial values of the non-trainable variables: BatchNorm's
      moving statistics and the weights of frozen layers.
    fixed_names: place in `moving_statistics` -> name, of those that the output
      depends on.
    image_shape: (height, width, channels).
  """

  graph_def: tf.compat.v1.GraphDef
  inputs: dict[str, int]
  constants: dict[str, np.ndarray]
  output: str
  width: int
  num_classes: int
  names: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  moving_statistics: tuple[np.ndarray, ...]
  fixed_names: dict[int, str]
  image_shape: tuple[int, ...]

  def __call__(self, images, weights: Sequence, moving_statistics: Sequence):
    """[m, H, W, C] float32 and variables -> [m, o]; only inside a graph."""
    # The identity brings values of an outer graph into a loop's body.
    values = [tf.identity(value) for value in (*weights, *moving_statistics)]
    feeds = {f"{name}:0": values[i] for name, i in self.inputs.items()}
    feeds |= {f"{k}:0": tf.constant(v) for k, v in self.constants.items()}
    feeds[f"{_IMAGES}:0"] = tf.identity(images)
    (output,) = tf.graph_util.import_graph_def(
      self.graph_def, input_map=feeds, return_elements=[self.output], name="plr"
    )
    return output


def trace(keras_fn: Callable[[], tf.keras.Model], layer: str) -> PureForward:
  """Builds the model and makes its output at `layer`, in inference mode, pure.

  Works whatever the caller is tracing: a new thread starts out eager, while
  `tf.init_scope` would stop at the graph of a TFF computation.

  Raises:
    TypeError: `keras_fn` returns no Keras model.
    ValueError: the model has no such layer, or reads a variable in a way that cannot
      be replaced (an embedding's gather, a function within the graph).
  """
  with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
    return pool.submit(_trace_eagerly, keras_fn, layer).result()


def _trace_eagerly(keras_fn, layer) -> PureForward:
  model = keras_fn()
  _check_model(model, layer)
  tap = tf.keras.Model(model.inputs, model.get_layer(layer).get_output_at(0))

  def forward(images):
    output = tap(images, training=False)
    return tf.reshape(output, [tf.shape(output)[0], -1])

  shape = model.input_shape[1:]
  spec = tf.TensorSpec([None, *shape], tf.float32, name=_IMAGES)
  graph = tf.function(forward).get_concrete_function(spec).graph
  variables = [*model.trainable_variables, *model.non_trainable_variables]
  handles, constants = _split_captures(graph, variables)
  output = graph.outputs[0]
  graph_def, inputs = _without_variables(graph.as_graph_def(), output.op.name, handles)
  return PureForward(
    graph_def=graph_def,
    inputs=inputs,
    constants=constants,
    output=output.name,
    width=int(np.prod(tap.output_shape[1:])),
    num_classes=model.output_shape[-1],
    names=tuple(v.name for v in model.trainable_variables),
    shapes=tuple(tuple(v.shape.as_list()) for v in model.trainable_variables),
    moving_statistics=tuple(v.numpy() for v in model.non_trainable_variables),
    fixed_names=_fixed_names(model, inputs),
    image_shape=tuple(shape),
  )


def _fixed_names(model, inputs):
  first = len(model.trainable_variables)
  read = sorted({index - first for index in inputs.values() if index >= first})
  return {i: model.non_trainable_variables[i].name for i in read}


def _split_captures(graph, variables):
  """Names of captured placeholders: of variables (-> index), of plain tensors."""
  index = {id(v.handle): i for i, v in enumerate(variables)}
  handles, constants = {}, {}
  for outside, inside in graph.captures:
    if id(outside) in index:
      handles[inside.op.name] = index[id(outside)]
    elif outside.dtype != tf.resource:
      constants[inside.op.name] = outside.numpy()
  return handles, constants


def _without_variables(graph_def, output: str, handles: dict[str, int]):
  """Keeps what `output` needs; turns each read of a variable into a placeholder."""
  nodes = {node.name: node for node in graph_def.node}
  pure = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
  inputs, waiting, seen = {}, [output], {output}
  while waiting:
    node = nodes[waiting.pop()]
    sources = [_node_name(name) for name in node.input if not name.startswith("^")]
    read = [name for name in sources if name in handles]
    if not read:
      kept = pure.node.add()
      kept.CopyFrom(node)
      # Control inputs only order reads and writes of state; there is none left.
      kept.ClearField("input")
      kept.input.extend(name for name in node.input if not name.startswith("^"))
      # An operation may take one tensor twice.
      fresh = [name for name in dict.fromkeys(sources) if name not in seen]
      waiting += fresh
      seen.update(fresh)
    else:
      inputs[node.name] = handles[read[0]]
      pure.node.append(_placeholder(node))
  return pure, inputs


def _placeholder(node):
  if node.op != "ReadVariableOp":
    raise ValueError(
      f"plr_fn: every variable below the layer must be read as a whole, got "
      f"{node.op!r} ({node.name}). Use a model of dense, convolution and "
      "normalisation layers."
    )
  placeholder = tf.compat.v1.NodeDef(name=node.name, op="Placeholder")
  placeholder.attr["dtype"].CopyFrom(node.attr["dtype"])
  return placeholder


def _node_name(tensor_name: str) -> str:
  return tensor_name.split(":")[0]


def _check_model(model, layer) -> None:
  if not isinstance(model, tf.keras.Model):
    raise TypeError(
      "plr_fn: `model_fn` must return a tf.keras.Model, or be made by "
      f"models.split.make_model_fn, got a function returning {type(model).__name__}. "
      "Write `make_model_fn(keras_fn)` instead of calling from_keras_model yourself, "
      "or pass `keras_fn` itself."
    )
  names = [existing.name for existing in model.layers]
  if layer not in names:
    raise ValueError(
      f"plr_fn: `layer` must name a layer of model {model.name!r}, got {layer!r}. "
      f"{nearest(layer, names)}"
    )


def nearest(name: str, names: Sequence[str]) -> str:
  """A sentence or two that help whoever mistyped `name`."""
  close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
  guess = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
  return f"{guess}Layers: {', '.join(names)}."
