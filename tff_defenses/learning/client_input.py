"""What a client receives at the start of a round, besides the model."""

import collections
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_defenses.aggregators import stacking
from tff_defenses.learning import client_work

# The flag and the index travel beside the data, never inside an update: no rule can
# see who is malicious.
CLIENT_INPUT_TYPE = tff.to_type(
  collections.OrderedDict(
    shard=np.str_,  # file of the client's images, read where the client runs
    client_index=np.int32,
    is_malicious=np.bool_,
    seed=np.int64,  # a new one each round
  )
)


class ClientInputs:
  """The type of the clients' inputs, and how a dataset is made of one.

  Args:
    model_fn: Tells the type of a batch.
    dataset_computation: Input -> dataset of batches; None: inputs are datasets.

  Raises:
    TypeError: the computation does not return the model's batches.
  """

  def __init__(self, model_fn: Callable, dataset_computation: tff.Computation | None):
    self._dataset_computation = dataset_computation
    self.type = client_work.dataset_type(model_fn)
    if dataset_computation is not None:
      found = dataset_computation.type_signature.result
      if not self.type.is_assignable_from(found):
        raise TypeError(
          "dataset_computation: must return the model's batches, "
          f"{self.type.compact_representation()}, got {found.compact_representation()}."
        )
      self.type = dataset_computation.type_signature.parameter

  @classmethod
  def of_attack(cls, model_fn: Callable, attack, own, clients) -> "ClientInputs":
    """What malicious clients train on: `own` dataset computation, or the clients'.

    Raises:
      ValueError: the attack makes several passes over what it is given, and nothing
        tells that the clients' dataset holds them. TypeError: as the class.
    """
    passes = getattr(attack, "num_passes", 0)
    if own is None and passes > 1:
      raise ValueError(
        "training_attack: `attack_dataset_computation` must be given with "
        f"`mal_epochs` above 1, got None and {passes}: the attack goes once over the "
        f"dataset that it is given. Let it return {passes} passes over a client's data."
      )
    return cls(model_fn, clients if own is None else own)

  def dataset(self, client) -> tf.data.Dataset:
    """The client's dataset; call it inside the client's computation."""
    if self._dataset_computation is None:
      return client
    return self._dataset_computation(client)

  def has(self, field: str) -> bool:
    """Whether inputs carry a field."""
    return isinstance(self.type, tff.StructType) and tff.structure.has_field(
      self.type, field
    )

  def require_flag(self, who: str) -> None:
    """Raises TypeError unless inputs tell which client is malicious."""
    if not self.has("is_malicious"):
      raise TypeError(
        f"{who}: the argument of `dataset_computation` must have a field "
        f"`is_malicious`, got {self.type.compact_representation()}. "
        "CLIENT_INPUT_TYPE has one."
      )

  def info(self, clients, reports):
    """{INFO_TYPE}@CLIENTS for the aggregator; inside a federated computation.

    Inputs without a `client_index` have `NO_INDEX`.
    """
    knows_index = self.has("client_index")
    index_type = self.type if knows_index else tff.TensorType(np.int32)

    @tff.tensorflow.computation(index_type, reports.type_signature.member)
    def to_info(client, report):
      index = client["client_index"] if knows_index else client
      return collections.OrderedDict(
        client_index=tf.cast(index, tf.int32), num_examples=report["num_examples"]
      )

    if not knows_index:
      clients = tff.federated_value(np.int32(stacking.NO_INDEX), tff.CLIENTS)
    return tff.federated_map(to_info, (clients, reports))
