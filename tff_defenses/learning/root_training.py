"""FLTrust's root training: the update the server makes on its own clean images.

Reference: Cao et al., NDSS 2021, Algorithm 2, line 8.
"""

import collections
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import checks, stacking
from tff_defenses.learning import client_work


class RootUpdateFn:
  """The server's own update as a function of the global weights.

  It builds its model where it is called: eagerly, or in a TFF computation outside of
  loops and conditions; not in a `tf.function`, which allows no variable of the second
  call. Made by `build_root_update_fn`.
  """

  def __init__(
    self,
    model_fn: Callable,
    data,
    work: client_work.ClientWork,
    batch_size: int,
    drop_remainder: bool,
  ):
    self._model_fn = model_fn
    self._data = data
    self._work = work
    self._batch_size = batch_size
    self._drop_remainder = drop_remainder

  def __repr__(self):
    return (
      f"RootUpdateFn(images={list(self._data['x'].shape)}, "
      f"epochs={self._work.local_epochs}, batch_size={self._batch_size})"
    )

  def __call__(self, weights):
    """The update of round 1; see `in_round`."""
    return self.in_round(weights, tf.constant(1))

  def in_round(self, weights, round_number):
    """Trainable variables in model order, in any structure -> initial minus trained.

    `round_number` [] int32, from 1, sets the learning rate if that decays.
    """
    model = self._model_fn()
    own = tff.learning.models.ModelWeights.from_model(model)
    trainable = self._like(own.trainable, weights)
    statistics = [variable.read_value() for variable in own.non_trainable]
    start = tff.learning.models.ModelWeights(trainable, statistics)
    train = client_work.build_train_fn(model, self._work)
    update, _, _ = train(start, self._dataset(model.input_spec), round_number)
    return stacking.pack(weights, update)

  def _dataset(self, specs):
    """Batches of the dtypes that the model reads."""
    data = tf.data.Dataset.from_tensor_slices(self._data)
    data = data.batch(self._batch_size, drop_remainder=self._drop_remainder)

    # Cast here: images are a constant of the graph, and bytes are a quarter of floats.
    def cast(batch):
      return tf.nest.map_structure(lambda x, s: tf.cast(x, s.dtype), batch, specs)

    return data.map(cast)

  def _like(self, variables, weights):
    """`weights` as a list of tensors that fit the model's variables."""
    tensors = [tf.convert_to_tensor(x) for x in stacking.leaves(weights)]
    found = [tuple(x.shape) for x in tensors]
    wanted = [tuple(x.shape) for x in variables]
    if found != wanted:
      raise ValueError(
        "RootUpdateFn: `weights` (theta) must be the model's trainable variables, of "
        f"shapes {wanted}, got {found}. Give them in model order."
      )
    return tensors


def build_root_update_fn(
  model_fn: Callable,
  images: np.ndarray,
  labels: np.ndarray,
  optimizer: tff.learning.optimizers.Optimizer,
  *,
  epochs: int,
  batch_size: int | None = None,
  rate_decay: float = 1.0,
  drop_remainder: bool = False,
) -> RootUpdateFn:
  """Makes the `root_update_fn` of `FLTrustFactory` from root images.

  Every round trains from the global weights on the images in their given order, with a
  new optimizer state. Non-trainable variables (BatchNorm statistics) start from the
  model's initial ones, and what becomes of them is discarded.

  Args:
    model_fn: Makes a `tff.learning.models.VariableModel` for {x, y} batches.
    images: Root data, [m, H, W, C], pixels in 0..255.
    labels: [m].
    optimizer: The clients'. The direction of the result and, by its norm, the speed of
      the round depend on it.
    epochs: Passes over the root data.
    batch_size: Images a step; None: all at once.
    rate_decay: Round t (from 1) trains with learning rate * rate_decay**(t - 1), as the
      clients do; see `ClientWork`.
    drop_remainder: Leave out an incomplete last batch, unless it is the only one.

  Returns:
    weights -> update (initial minus trained), of the weights' structure.

  Raises:
    ValueError: `epochs` or `batch_size` is no whole number >= 1, `rate_decay` is not in
      (0, 1], there is no image, or another number of labels.
      TypeError: no TFF optimizer.

  Deviations: sources differ in the settings. FLARE's code takes one step an epoch, on
    all images (`batch_size=None`), and as many epochs as a client; FL-PLAS has batches
    and one epoch in the text, two in its code.
  """
  who = "build_root_update_fn"
  checks.check_at_least(who, "epochs", "passes over the root data", epochs, 1)
  images, labels = np.asarray(images), np.asarray(labels)
  if len(images) < 1 or len(images) != len(labels):
    raise ValueError(
      f"{who}: `images` (root data) must be one image at least and one per label, got "
      f"{len(images)} images and {len(labels)} labels. Pass both from one data set."
    )
  batch_size = len(images) if batch_size is None else batch_size
  checks.check_at_least(who, "batch_size", "B", batch_size, 1)
  data = collections.OrderedDict(x=images, y=labels)
  work = client_work.ClientWork(optimizer, epochs, rate_decay)
  drops = drop_remainder and len(images) >= batch_size
  return RootUpdateFn(model_fn, data, work, batch_size, drops)
