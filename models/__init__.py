"""Keras models of FLARE and FL-PLAS: the list of what exists.

References: Wang et al. (FLARE, ASIA CCS 2022), Tables 6-8; FL-PLAS, Sec. 5.1, 6.1, 7.1.

Reading `MODELS` imports no TensorFlow: `spec.build` imports its builder when called.
Last hidden layer of every model: `penultimate`; output layer (logits): `classifier`.
"""

import dataclasses
import functools
import importlib
import types
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["ALL_SHARED", "MODELS", "ModelSpec"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
  """What is known of a model without building it.

  Attributes:
    name: key in `MODELS`.
    build: `build(*, image_shape=None, num_classes=None, seed=0, normalisation=None)`
      -> `tf.keras.Model`; None means the default of this entry. Some builders have
      further options, described in their module.
    image_shape: default (height, width, channels); pixels are float32 in 0..255.
    num_classes: default number of logits.
    num_parameters: trainable parameters at the defaults.
    paper: "FLARE" or "FL-PLAS".
    anchor: place in the paper.
    datasets: data sets whose images have the default shape; the paper's own first.
    shared_layers: layer-name patterns of FL-PLAS's default cut (`models.split`).
    cuts: other cuts worth naming, name -> patterns.
    normalisation: name in `models.inputs.NORMALISATIONS`.
    has_moving_statistics: whether it holds BatchNorm's, which are not trained.
  """

  name: str
  build: Callable[..., Any]
  image_shape: tuple[int, int, int]
  num_classes: int
  num_parameters: int
  paper: str
  anchor: str
  datasets: tuple[str, ...]
  shared_layers: tuple[str, ...]
  cuts: Mapping[str, tuple[str, ...]]
  normalisation: str
  has_moving_statistics: bool = False

  def __post_init__(self):
    object.__setattr__(self, "cuts", types.MappingProxyType(dict(self.cuts)))


def _build(module: str, **options):
  return importlib.import_module(f"models.{module}").build(**options)


def _builder(module: str, **fixed) -> Callable[..., Any]:
  return functools.partial(_build, module, **fixed)


def _mobilenet_through(last_block: int) -> tuple[str, ...]:
  return ("stem*", *(f"block{b}_*" for b in range(last_block + 1)))


ALL_SHARED = ("*",)  # nothing private: FL-PLAS becomes FedAvg
_FLARE_CUTS = {"feature_layers": ("conv*",), "all": ALL_SHARED}
_MNIST_LIKE = ("mnist", "mnist5k", "fashion_mnist")
_RESNET_LAYERS = ("stem*", "stage*")

# FL-PLAS Table 7, rows 10 to 13. Reading A: row r shares through block r (authors'
# `cut` 68, 74, 80) and row 13 shares all. Reading B (Algorithm 1, `p < l`): one block
# fewer each (62, 68, 74, 80), so that row 13 is the default cut.
_TABLE_7 = {
  **{f"table7_a_{row}": _mobilenet_through(row) for row in (10, 11, 12)},
  "table7_a_13": ALL_SHARED,
  **{f"table7_b_{row}": _mobilenet_through(row - 1) for row in (10, 11, 12, 13)},
}


def _resnet(name, anchor, num_parameters, cuts, **fixed) -> ModelSpec:
  return ModelSpec(
    name=name,
    build=_builder("resnet", **fixed),
    image_shape=(32, 32, 3),
    num_classes=100,
    num_parameters=num_parameters,
    paper="FL-PLAS",
    anchor=anchor,
    datasets=("cifar100", "cifar10"),
    shared_layers=_RESNET_LAYERS,
    cuts=cuts,
    normalisation="cifar",
    has_moving_statistics=True,
  )


MODELS: dict[str, ModelSpec] = {
  "fmnist_cnn": ModelSpec(
    name="fmnist_cnn",
    build=_builder("fmnist_cnn"),
    image_shape=(28, 28, 1),
    num_classes=10,
    num_parameters=3_382_346,
    paper="FLARE",
    anchor="FLARE Table 6",
    datasets=("fashion_mnist", "mnist", "mnist5k"),
    shared_layers=("conv*", "penultimate"),
    cuts=_FLARE_CUTS,
    normalisation="unit",
  ),
  "cifar_cnn": ModelSpec(
    name="cifar_cnn",
    build=_builder("cifar_cnn"),
    image_shape=(32, 32, 3),
    num_classes=10,
    num_parameters=109_834,
    paper="FLARE",
    anchor="FLARE Table 7",
    datasets=("cifar10", "cifar100"),
    shared_layers=("conv*", "penultimate"),
    cuts=_FLARE_CUTS,
    normalisation="cifar_mean",
  ),
  "kather_cnn": ModelSpec(
    name="kather_cnn",
    build=_builder("kather_cnn"),
    image_shape=(128, 128, 3),
    num_classes=8,
    num_parameters=449_736,
    paper="FLARE",
    anchor="FLARE Table 8",
    datasets=("kather",),
    shared_layers=("conv*", "penultimate"),
    cuts=_FLARE_CUTS,
    normalisation="unit",
  ),
  "lenet": ModelSpec(
    name="lenet",
    build=_builder("lenet"),
    image_shape=(28, 28, 1),
    num_classes=10,
    num_parameters=1_199_882,
    paper="FL-PLAS",
    anchor="FL-PLAS Sec. 6.1 (MNIST), Table 2",
    datasets=_MNIST_LIKE,
    shared_layers=("conv1", "conv2"),
    cuts={"last_layer": ("conv*", "penultimate"), "all": ALL_SHARED},
    normalisation="mnist",
  ),
  "mobilenet": ModelSpec(
    name="mobilenet",
    build=_builder("mobilenet"),
    image_shape=(32, 32, 3),
    num_classes=10,
    num_parameters=3_217_226,
    paper="FL-PLAS",
    anchor="FL-PLAS Sec. 6.1 (CIFAR-10), Table 7",
    datasets=("cifar10", "cifar100"),
    shared_layers=_mobilenet_through(12),
    cuts={**_TABLE_7, "all": ALL_SHARED},
    normalisation="cifar",
    has_moving_statistics=True,
  ),
  "resnet18": _resnet(
    "resnet18",
    "FL-PLAS Sec. 6.1 (CIFAR-100), Table 2",
    11_227_812,
    # run.py of the authors says tensor 59; their README says 69, which shares all.
    {"authors_59": _RESNET_LAYERS, "authors_readme_69": ALL_SHARED, "all": ALL_SHARED},
    depth=18,
  ),
  "resnet50": _resnet(
    "resnet50", "FL-PLAS Sec. 6.2.4", 23_712_932, {"all": ALL_SHARED}, depth=50
  ),
  "resnet101": _resnet(
    "resnet101", "FL-PLAS Sec. 6.2.4", 42_705_060, {"all": ALL_SHARED}, depth=101
  ),
}
