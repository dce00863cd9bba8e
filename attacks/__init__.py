"""Attacks of FLARE and FL-PLAS: the list of what exists.

References: Wang et al. (FLARE, ASIA CCS 2022), Sec. 7.1; FL-PLAS, Sec. 6.1.

Reading `ATTACKS` imports no TensorFlow: `spec.build` imports its attack when called.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from attacks.spec import KINDS, NEEDS, SIGHTS, AttackSpec
from attacks.training import forms

__all__ = ["ATTACKS", "KINDS", "NEEDS", "SIGHTS", "AttackSpec"]


@dataclasses.dataclass(frozen=True)
class _Builder:
  """Imports an attack when it is called."""

  module: str
  name: str

  @property
  def source(self) -> Callable[..., Any]:
    """The class or function that makes the attack; its `help` lists the settings."""
    return getattr(importlib.import_module(f"attacks.{self.module}"), self.name)

  def __call__(self, **settings):
    return self.source(**settings)


def chosen_data_attack(settings: Mapping[str, Any]) -> tuple[str, dict]:
  """What the settings `data_attack` and `data_settings` name; a trigger by default.

  Raises:
    ValueError: `data_settings` are not settings.
  """
  given = settings.get("data_settings", {})
  if not isinstance(given, Mapping):
    raise ValueError(
      f"`data_settings` must be the data attack's settings by name, got {given!r}. For "
      'example {"fraction": 0.5}.'
    )
  return settings.get("data_attack", "trigger"), dict(given)


def _trigger_on_tests_alone(settings: Mapping[str, Any]) -> tuple[str, dict]:
  """The attack's own trigger, which its clients' data do not carry."""
  own = ("pattern", "target_label", "value")
  return "trigger", {"fraction": 0.0, **{n: settings[n] for n in own if n in settings}}


def _seen_in_form(forms_of_attack, default: str) -> Callable:
  return functools.partial(forms.seen_with, forms=forms_of_attack, default=default)


def _seen_by_plr_matching(settings: Mapping[str, Any]) -> frozenset[str]:
  return forms.seen_with(settings, forms=None, default="") | {"aggregator"}


def _seen_by_knowledge(*others: str) -> Callable:
  """What update attacks are shown: with partial knowledge only their own training."""

  def seen_with(settings: Mapping[str, Any]) -> frozenset[str]:
    is_partial = settings.get("knowledge") == "partial"
    return frozenset({"own_training" if is_partial else "benign_updates", *others})

  return seen_with


_TARGETS = frozenset({"images", "labels", "benign_epochs"})

ATTACKS: dict[str, AttackSpec] = {
  "trigger": AttackSpec(
    name="trigger",
    kind="data",
    build=_Builder("data.trigger", "TriggerAttack"),
    sees=frozenset({"own_data"}),
    paper="FL-PLAS",
    anchor="FL-PLAS Sec. 6.1, Tables 4(a), 5(a)",
    summary="a fixed pattern on part of the images, relabelled as the target",
    suited=_Builder("data.trigger", "suited_settings"),
  ),
  "semantic": AttackSpec(
    name="semantic",
    kind="data",
    build=_Builder("data.semantic", "SemanticAttack"),
    sees=frozenset({"own_data"}),
    paper="FL-PLAS",
    anchor="FL-PLAS Sec. 6.1, Tables 4(b), 5(b)",
    summary="CIFAR-10's green cars called birds, no pixel changed",
    datasets=("cifar10",),
  ),
  "edge_case": AttackSpec(
    name="edge_case",
    kind="data",
    build=_Builder("data.edge_case", "EdgeCaseAttack"),
    sees=frozenset({"own_data"}),
    paper="FL-PLAS",
    anchor="FL-PLAS Sec. 6.1, Tables 4(b), 5(b)",
    summary="Southwest's aeroplanes called trucks; needs the images in --data_dir",
    datasets=("cifar10",),
  ),
  "label_flip": AttackSpec(
    name="label_flip",
    kind="data",
    build=_Builder("data.label_flip", "LabelFlipAttack"),
    sees=frozenset({"own_data"}),
    paper="Tolpegin et al. 2020",
    anchor="label flipping",
    summary="one class called another, or y called c - 1 - y",
    suited=_Builder("data.label_flip", "suited_settings"),
  ),
  "distributed_trigger": AttackSpec(
    name="distributed_trigger",
    kind="data",
    build=_Builder("data.distributed_trigger", "DistributedTriggerAttack"),
    sees=frozenset({"own_data"}),
    paper="Xie et al. 2020",
    anchor="DBA",
    summary="a trigger in four parts, each malicious client paints one",
    suited=_Builder("data.distributed_trigger", "suited_settings"),
  ),
  "krum_backdoor": AttackSpec(
    name="krum_backdoor",
    kind="training",
    build=_Builder("training.alternating", "krum_backdoor"),
    sees=frozenset({"own_data", "own_training", "benign_updates"}),
    paper="FLARE",
    anchor="FLARE Eq. (7), Table 3",
    summary="trains a backdoor while staying near the benign mean, to be Krum's choice",
    needs=_TARGETS,
    sees_with=_seen_in_form(forms.KRUM, "white_box"),
  ),
  "coomed_backdoor": AttackSpec(
    name="coomed_backdoor",
    kind="training",
    build=_Builder("training.alternating", "coomed_backdoor"),
    # The default form trains on the targeted inputs alone, from the global weights.
    sees=frozenset({"own_data", "own_training"}),
    paper="FLARE",
    anchor="FLARE Sec. 7.1; Table 3 in form `paper`, Eq. (7)",
    summary="trains on the targeted inputs alone, against the coordinate median",
    needs=_TARGETS,
    sees_with=_seen_in_form(forms.COOMED, "converge"),
  ),
  "plr_matching": AttackSpec(
    name="plr_matching",
    kind="training",
    build=_Builder("training.plr_matching", "PlrMatchingAttack"),
    sees=frozenset({"own_data", "own_training", "benign_updates", "aggregator"}),
    paper="FLARE",
    anchor="FLARE Eq. (9)-(10), Sec. 7.4, Fig. 12",
    summary="krum_backdoor that also keeps its representations near the benign mean's",
    needs=_TARGETS | {"model_fn"},
    sees_with=_seen_by_plr_matching,
  ),
  "scaling": AttackSpec(
    name="scaling",
    kind="training",
    build=_Builder("training.scaling", "ScalingAttack"),
    sees=frozenset({"own_data", "own_training"}),
    paper="Bagdasaryan et al. 2020",
    anchor="Eq. (3)-(4)",
    summary="poisoned training, scaled up until it replaces the model",
    needs=frozenset({"num_clients", "num_malicious"}),
    data_attack=chosen_data_attack,
    works_on_shared_layers=True,
  ),
  "projected": AttackSpec(
    name="projected",
    kind="training",
    build=_Builder("training.projected", "ProjectedAttack"),
    sees=frozenset({"own_data", "own_training"}),
    paper="Wang et al. 2020",
    anchor="PGD attack",
    summary="poisoned training that stays within a ball around the global model",
    data_attack=chosen_data_attack,
    works_on_shared_layers=True,
  ),
  "feature_backdoor": AttackSpec(
    name="feature_backdoor",
    kind="training",
    build=_Builder("training.feature_backdoor", "FeatureBackdoorAttack"),
    sees=frozenset({"own_data", "own_training"}),
    paper="ours",
    anchor="against FL-PLAS Sec. 5",
    summary="makes the shared features of triggered images those of the target class",
    suited=_Builder("data.trigger", "suited_settings"),
    needs=frozenset({"model_fn"}),
    data_attack=_trigger_on_tests_alone,
    works_on_shared_layers=True,
  ),
  "fang_krum": AttackSpec(
    name="fang_krum",
    kind="update",
    build=_Builder("updates.fang_krum", "FangKrumAttack"),
    sees=frozenset({"benign_updates", "aggregator"}),
    paper="FLARE",
    anchor="FLARE Eq. (8), Sec. 7.2, Table 4",
    summary="the longest step backwards that Krum still picks",
    needs=frozenset({"rule", "shapes"}),
    sees_with=_seen_by_knowledge("aggregator"),
  ),
  "fang_trimmed_mean": AttackSpec(
    name="fang_trimmed_mean",
    kind="update",
    build=_Builder("updates.fang_trimmed_mean", "FangTrimmedMeanAttack"),
    sees=frozenset({"benign_updates"}),
    paper="FLARE",
    anchor="FLARE Sec. 7.2, Table 4",
    summary="weights just beyond the benign ones, on the wrong side",
    sees_with=_seen_by_knowledge(),
  ),
  "little_is_enough": AttackSpec(
    name="little_is_enough",
    kind="update",
    build=_Builder("updates.little_is_enough", "LittleIsEnoughAttack"),
    sees=frozenset({"benign_updates"}),
    paper="Baruch et al. 2019",
    anchor="a little is enough",
    summary="the benign mean, shifted within the benign spread",
    sees_with=_seen_by_knowledge(),
  ),
  "inner_product": AttackSpec(
    name="inner_product",
    kind="update",
    build=_Builder("updates.inner_product", "InnerProductAttack"),
    sees=frozenset({"benign_updates"}),
    paper="Xie et al. 2019",
    anchor="inner-product manipulation",
    summary="the benign mean, reversed",
    sees_with=_seen_by_knowledge(),
  ),
  "min_max": AttackSpec(
    name="min_max",
    kind="update",
    build=_Builder("updates.min_max", "MinMaxAttack"),
    sees=frozenset({"benign_updates"}),
    paper="Shejwalkar and Houmansadr 2021",
    anchor="Eq. (8)",
    summary="no farther from any benign update than the two farthest are apart",
    sees_with=_seen_by_knowledge(),
  ),
  "min_sum": AttackSpec(
    name="min_sum",
    kind="update",
    build=_Builder("updates.min_max", "MinSumAttack"),
    sees=frozenset({"benign_updates"}),
    paper="Shejwalkar and Houmansadr 2021",
    anchor="Eq. (9)",
    summary="min_max with sums of squared distances",
    sees_with=_seen_by_knowledge(),
  ),
  "sign_flip": AttackSpec(
    name="sign_flip",
    kind="update",
    build=_Builder("updates.sign_flip", "SignFlipAttack"),
    sees=frozenset({"own_training"}),
    paper="Li et al. 2019",
    anchor="sign-flipping attack",
    summary="the opposite of the client's own honest update",
  ),
  "gaussian": AttackSpec(
    name="gaussian",
    kind="update",
    build=_Builder("updates.gaussian", "GaussianAttack"),
    sees=frozenset({"own_training"}),
    paper="Blanchard et al. 2017",
    anchor="Gaussian attack",
    summary="noise instead of the update, or on top of it",
  ),
}
