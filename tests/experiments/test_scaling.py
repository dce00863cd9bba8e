"""The rule by which a paper's setting is shrunk."""

import pytest

from tff_defenses.experiments import scaling, warm_start
from tff_defenses.experiments.config import ExperimentConfig
from tff_defenses.experiments.presets import PRESETS


def preset(name, **settings):
  return ExperimentConfig(**{**PRESETS[name], **settings})


def test_scale_shares_the_work_between_epochs_rounds_and_images():
  # s = 0.1: E' = round(5 * 0.464) = 2; r = 0.1 * 5 / 2 = 0.25; T' = 20 * 0.5 = 10;
  # N' = 0.1 * 5 * 20 * 60,000 / (2 * 10) = 30,000; tests: 10,000 * 0.316 = 3,162.
  small = scaling.scaled(preset("flare_fashion_mnist"), 0.1)
  found = small.local_epochs, small.rounds, small.max_train_images
  assert found == (2, 10, 30_000) and small.max_test_images == 3_162
  assert small.is_reduced and small.eval_every == 1


def test_scale_of_one_epoch_goes_to_rounds_and_images():
  # s = 0.04: E' = 1; r = 0.04; T' = 200 * 0.2 = 40;
  # N' = 0.04 * 200 * 60,000 / 40 = 12,000. A scoring every 10 rounds would leave 4.
  small = scaling.scaled(preset("fl_plas_mnist"), 0.04)
  assert (small.local_epochs, small.rounds) == (1, 40)
  assert (small.max_train_images, small.max_test_images) == (12_000, 2_000)
  assert small.eval_every == 8


@pytest.mark.parametrize("scale", [0.9, 0.5, 0.2, 0.1, 0.05])
def test_scaled_work_is_about_the_share_asked_for(scale):
  full = preset("flare_cifar10")
  small = scaling.scaled(full, scale)
  done = small.local_epochs * small.rounds * small.max_train_images
  assert done / (5 * 20 * 50_000) == pytest.approx(scale, rel=0.01)
  assert small.rounds <= full.rounds and small.local_epochs <= full.local_epochs


def test_scale_one_changes_nothing():
  config = preset("fl_plas_cifar10")
  assert scaling.scaled(config, 1.0) is config


def test_tiny_scale_leaves_a_run_that_can_be_made():
  # 3 rounds and 20 images a client at least.
  flare = scaling.scaled(preset("flare_fashion_mnist"), 1e-6)
  assert (flare.rounds, flare.local_epochs, flare.max_train_images) == (3, 1, 200)
  assert flare.max_test_images == 500
  plas = scaling.scaled(preset("fl_plas_mnist"), 1e-6)
  assert plas.max_train_images == 2_000
  assert plas.eval_every == 1


def test_scale_takes_more_images_where_rounds_cannot_fall_below_three():
  # T = 3 stays, so all of s falls on the images: 0.1 * 3 * 4,000 / 3 = 400.
  config = ExperimentConfig(rounds=3, local_epochs=1, num_clients=10)
  assert scaling.scaled(config, 0.1).max_train_images == 400


def test_scale_respects_images_left_out_already():
  config = ExperimentConfig(max_train_images=1_000, max_test_images=300)
  small = scaling.scaled(config, 0.5)
  assert small.max_train_images <= 1_000 and small.max_test_images == 300


def test_the_warm_start_is_the_same_at_every_scale():
  full = preset("fl_plas_mnist")
  clean = warm_start.clean_config(full)
  assert clean.rounds == full.warmup_rounds == 20
  assert warm_start.clean_config(scaling.scaled(full, 0.05)) == clean
  assert not scaling.scaled(preset("flare_cifar10"), 0.5).warmup_on_all
