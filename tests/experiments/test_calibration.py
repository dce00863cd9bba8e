"""Estimates of hours: the arithmetic, and a toy run against the clock."""

import dataclasses
import math
import pathlib
import time
import types

import pandas as pd
import pytest

from tests.experiments import pretended_runs, toy_runs
from tff_defenses.experiments import (
  calibration,
  datasets,
  federation,
  loop,
  warm_start,
  weight_files,
)
from tff_defenses.experiments.errors import DataError

# A round of 4 clients with 32 images each: 8 s of training, 1 s of aggregation, 2 s
# scoring 100 images, 0.5 s of anything else; 10 s before the first round.
COST = calibration._Cost(
  start=10, training=8, aggregation=1, scoring=2, other=0.5, images=128, clients=4,
  tested=100,
)  # fmt: skip


@pytest.fixture
def costs(monkeypatch):
  """The same cost for every kind of run; returns the configs that were calibrated."""
  found = []

  def calibrate(config, runtime, size):
    found.append(config)
    return COST

  monkeypatch.setattr(calibration, "_calibrate", calibrate)
  monkeypatch.setattr(calibration, "_size", lambda *_: (1000, 200))
  return found


def config_of(tmp_path, **changes):
  settings = {"max_train_images": None, "max_test_images": None, "num_clients": 10}
  return toy_runs.toy(tmp_path / "run", tmp_path, **{**settings, **changes})


def test_hours_by_hand(costs, tmp_path):
  config = config_of(tmp_path, rounds=20, local_epochs=5, eval_every=5)
  row = calibration.estimate([config], None).iloc[0]
  # 1000 images * 5 epochs a round; 128 take 8 s, so 312.5 s. Ten clients for four:
  # 2.5 * 0.5 s beside training and 2.5 * 1 s of aggregation. 4 scorings of 200 images.
  seconds = 10 + 20 * (312.5 + 1.25) + 20 * 2.5 + 4 * 2 * 2
  assert row["hours"] == pytest.approx(seconds / 3600)
  assert (row["images"], row["rounds"]) == (100_000, 20)
  # The last round is scored too, wherever it lies.
  longer = calibration.estimate([dataclasses.replace(config, rounds=21)], None).iloc[0]
  seconds += 312.5 + 1.25 + 2.5 + 2 * 2
  assert longer["hours"] == pytest.approx(seconds / 3600)


@pytest.mark.parametrize(
  ("attack", "held"), [("semantic", 27 + 37), ("edge_case", 500)]
)
def test_attackers_with_a_set_of_their_own_train_on_that(costs, tmp_path, attack, held):
  settings = {"attack": attack, "malicious_fraction": 0.6, "model": "cifar_cnn"}
  config = config_of(tmp_path, dataset="cifar10", rounds=2, **settings)
  row = calibration.estimate([config], None).iloc[0]
  # 100 images a client: four benign clients, six with their set.
  assert row["images"] == 2 * (4 * 100 + 6 * held)
  seconds = 10 + 2 * (8 * (400 + 6 * held) / 128 + 1.25 + 2.5) + 2 * 2 * 2
  assert row["hours"] == pytest.approx(seconds / 3600)


def test_malicious_models_are_scored_after_the_last_round_only(costs, tmp_path):
  settings = {"attack": "trigger", "malicious_fraction": 0.6, "rounds": 2}
  one, own = (
    calibration.estimate([config_of(tmp_path, defense=d, **settings)], None)["hours"][0]
    for d in ("fedavg", "fl_plas")
  )
  # A model takes 4 s for 200 images: one a round, or four, and six in the end.
  assert 3600 * (own - one) == pytest.approx(4 * (2 * (4 - 1) + 6))


@pytest.fixture
def short_run(monkeypatch):
  """Pretends the short runs; returns their configs, and the times of their rounds."""
  parts = dict.fromkeys(("training", "aggregation", "scoring"), 1.0)
  rounds = [{f"seconds_{n}": v for n, v in parts.items()} for _ in range(3)]
  for round_, seconds in zip(rounds, (50.0, 7.0, 7.0), strict=True):
    round_["seconds_round"] = seconds
  table = types.SimpleNamespace(read=lambda _: pd.DataFrame(rounds))
  found = types.SimpleNamespace(configs=[], rounds=rounds)

  def run(config, *_, **__):
    found.configs.append(config)
    return types.SimpleNamespace(folder=table)

  monkeypatch.setattr(loop, "run", run)
  return found


@pytest.mark.parametrize(("last", "start"), [(7.0, 79.0), (30.0, 56.0)])
def test_seconds_before_the_first_round_leave_out_the_last_scoring(
  last, start, tmp_path, monkeypatch, short_run
):
  short_run.rounds[-1]["seconds_round"] = last
  clock = iter([0.0, 100.0])
  monkeypatch.setattr(calibration.time, "monotonic", lambda: next(clock))
  found = calibration._measure(config_of(tmp_path), None, (1000, 200), 8)
  assert found.start == start  # 100 s less two rounds of 7 s and the last


def test_short_runs_lie_where_workers_elsewhere_see_them(tmp_path, short_run):
  config = dataclasses.replace(config_of(tmp_path), cache_dir=str(tmp_path / "seen"))
  calibration._measure(config, None, (1000, 200), 8)
  (short,) = short_run.configs
  for folder in (short.cache_dir, short.output_dir):
    assert pathlib.Path(folder).parent.parent == tmp_path / "seen"
  assert list((tmp_path / "seen").iterdir()) == []  # taken away again


def test_rounds_before_the_first_are_trained_too(costs, tmp_path):
  plain, warm = (
    calibration.estimate([config_of(tmp_path, rounds=3, warmup_rounds=w)], None)
    for w in (0, 2)
  )
  # 1000 images take 62.5 s, and 1.25 s beside.
  assert 3600 * (warm["hours"] - plain["hours"])[0] == pytest.approx(2 * 63.75)


def test_warm_start_on_all_images_is_charged_for_them(costs, tmp_path):
  few, all_of_them = (
    calibration.estimate(
      [config_of(tmp_path, warmup_rounds=2, max_train_images=200, **more)], None
    )["hours"][0]
    for more in ({}, {"warmup_on_all": True})
  )
  # 800 images more a round, of 62.5 ms each.
  assert 3600 * (all_of_them - few) == pytest.approx(2 * 50)


def test_warm_start_is_charged_once_to_the_first_run_that_needs_it(costs, tmp_path):
  first = config_of(tmp_path, warmup_rounds=2, pretrain_on_aux=False)
  changes = [
    {"warmup_rounds": 0},
    {},
    {"defense": "krum"},
    {"seed": 1},
    {"attack": "trigger"},
    {"cache_dir": str(tmp_path / "other")},
  ]
  configs = [
    dataclasses.replace(first, output_dir=str(tmp_path / str(k)), **change)
    for k, change in enumerate(changes)
  ]
  hours = calibration.estimate(configs, None)["hours"]
  warm = 2 * 63.75 / 3600
  expected = [0, warm, 0, warm, 0, warm]  # another seed or cache: another start
  assert (hours - hours[0]).tolist() == pytest.approx(expected)


def test_warm_start_that_is_kept_is_not_charged(costs, tmp_path):
  config = config_of(tmp_path, warmup_rounds=2, pretrain_on_aux=False)
  file = warm_start.file_of(config, federation.build(config).held_out)
  file.parent.mkdir()
  file.with_name(f"{file.stem}.partial.npz").touch()  # broken off: still to be made
  charged = calibration.estimate([config], None)["hours"][0]
  file.touch()
  kept = calibration.estimate([config], None)["hours"][0]
  assert 3600 * (charged - kept) == pytest.approx(2 * 63.75)


def test_warm_start_is_where_the_estimate_looks_for_it(tmp_path, monkeypatch):
  config = config_of(tmp_path, warmup_rounds=2, max_train_images=40)
  monkeypatch.setattr(warm_start, "_train", lambda *_: "weights")

  def save(path, *_, **__):
    path.touch()

  monkeypatch.setattr(weight_files, "save", save)
  assert not calibration._is_start_kept(config)
  warm_start.weights(config, federation.build(config), None)
  assert calibration._is_start_kept(config)


def test_swapped_extractors_are_a_kind_of_their_own(costs, tmp_path):
  plain = config_of(tmp_path, attack="trigger", malicious_fraction=0.2)
  swap = dataclasses.replace(plain, measure="extractor_swap")
  calibration.estimate([plain, swap], None)
  assert [config.measure for config in costs] == ["extractor_swap", None]


@pytest.mark.parametrize(("measure", "models"), [(None, 1), ("extractor_swap", 2)])
def test_both_models_of_a_swap_are_measured(measure, models, tmp_path, monkeypatch):
  short = []
  round_ = {
    **{"seconds_training": 2.0, "seconds_aggregation": 0.5, "seconds_scoring": 1.0},
    "seconds_round": 7.0,
  }

  def run(config, runtime, **_):
    short.append(config)
    table = types.SimpleNamespace(read=lambda _: pd.DataFrame([round_] * 3))
    return types.SimpleNamespace(folder=table)

  monkeypatch.setattr(loop, "run", run)
  config = config_of(tmp_path, attack="trigger", measure=measure)
  cost = calibration._measure(config, None, (1000, 200), 8)
  assert [config.measure for config in short] == [measure]
  assert (cost.training, cost.aggregation) == (2 * models, 0.5 * models)
  assert cost.scoring == 1  # all four mixes are in it
  assert cost.other == 7 - 2.5 * models - 1


def test_warm_start_of_a_swap_trains_one_model(costs, tmp_path):
  plain, warm = (
    calibration.estimate(
      [config_of(tmp_path, attack="trigger", measure="extractor_swap", **change)], None
    )["hours"][0]
    for change in ({}, {"warmup_rounds": 2})
  )
  # 1000 images take two models 62.5 s, and a round 1.25 s beside.
  assert 3600 * (warm - plain) == pytest.approx(2 * (62.5 / 2 + 1.25))


def test_runs_that_train_alike_are_calibrated_once(costs, tmp_path):
  base = config_of(tmp_path, attack="trigger", malicious_fraction=0.2)
  changes = [{"defense": "krum"}, {"seed": 3}, {"rounds": 9}, {"defense": "fl_plas"}]
  others = [dataclasses.replace(base, **change) for change in changes]
  frame = calibration.estimate([base, *others], None)
  assert [config.defense for config in costs] == ["fl_plas", "fedavg"]
  assert list(frame.columns) == list(calibration.COLUMNS) and len(frame) == 5


def test_finished_runs_take_no_time(costs, tmp_path):
  done, left = pretended_runs.configs(tmp_path, 2)
  pretended_runs.finish(done)
  frame = calibration.estimate([done, left], None)
  assert frame["hours"][0] == 0 and frame["hours"][1] > 0
  calibration.estimate([done], None)
  assert costs == [left]


def test_without_resuming_nothing_counts_as_done(costs, tmp_path, monkeypatch):
  done, untouched = pretended_runs.configs(tmp_path, 2)
  pretended_runs.finish(done)
  hours = calibration.estimate([done, untouched], None, resume=False)["hours"]
  assert hours[0] == hours[1] > 0
  monkeypatch.setattr(
    calibration.progress, "rounds_done", lambda _: untouched.rounds - 1
  )
  going_on = calibration.estimate([untouched], None)["hours"][0]
  anew = calibration.estimate([untouched], None, resume=False)["hours"][0]
  assert going_on < anew == hours[1]


def test_runs_that_neighbours_have_finished_take_no_time(costs, tmp_path):
  theirs = config_of(tmp_path / "table4")
  pretended_runs.finish(theirs)
  mine = dataclasses.replace(theirs, output_dir=str(tmp_path / "table5" / "run"))
  assert calibration.estimate([mine], None)["hours"][0] == 0 and not costs
  assert calibration.estimate([mine], None, adopts=False)["hours"][0] > 0


def test_missing_data_are_told_and_not_estimated(tmp_path, monkeypatch, caplog):
  def load(*_):
    raise DataError(f"load: no such files{700 * '.'} Fetch them.")

  monkeypatch.setattr(datasets, "load", load)
  frame = calibration.estimate([config_of(tmp_path)], None)
  assert frame["hours"].isna().all()
  assert "no such files" in caplog.text and "Fetch them." in caplog.text
  assert calibration.text(frame).splitlines()[-1] == (
    "1 run: 0.00 hours; 1 not estimated"
  )


def test_too_few_images_for_an_attack_of_its_own_are_followed_by_more(
  tmp_path, monkeypatch
):
  """Edge-case attackers mix in 400 clean images."""
  tried = []

  def measure(config, runtime, size, each):
    tried.append(each)
    if each * config.num_clients < 400:
      raise DataError("too few to mix in")
    return COST

  monkeypatch.setattr(calibration, "_measure", measure)
  config = config_of(tmp_path, batch_size=8)
  assert calibration._calibrate(config, None, (2000, 100)) is COST
  assert tried[0] == 8 and len(tried) > 1
  assert calibration._calibrate(config, None, (300, 100)) is None  # all are too few


def test_run_that_fails_is_told_and_not_estimated(tmp_path, monkeypatch, caplog):
  def run(*_, **__):
    raise ValueError("too few images")

  monkeypatch.setattr(loop, "run", run)
  frame = calibration.estimate([config_of(tmp_path)], None)
  assert frame["hours"].isna().all() and "too few images" in caplog.text


def test_table_ends_with_the_total():
  lines = calibration.text(table(0.75, 0.75), jobs=3).splitlines()
  assert lines[0].split() == list(calibration.COLUMNS)
  assert lines[-1] == "2 runs: 1.50 hours, at least 0.75 in 3 processes (`--jobs=3`)"


@pytest.mark.parametrize(
  ("hours", "jobs", "least"),
  [
    ((1, 1, 1, 1), 2, 2),  # divided among the processes
    ((3, 1, 1, 1), 3, 3),  # the longest run, not 6 / 3
    ((1, 1, 0, 0), 4, 1),  # two are left
    ((0, 0), 2, 0),
    ((2, 2, math.nan), 3, 2),  # one takes unknown hours
    ((math.nan,), 3, 0),
  ],
)
def test_processes_share_whole_runs(hours, jobs, least):
  total = calibration.text(table(*hours), jobs).splitlines()[-1]
  assert f"at least {least:.2f} in {jobs} processes" in total


def table(*hours):
  row = dict.fromkeys(calibration.COLUMNS, 1)
  return pd.DataFrame([row | {"hours": value} for value in hours])


@pytest.mark.slow
def test_estimate_is_within_a_factor_of_three(tmp_path, runtime):
  config = toy_runs.toy(
    tmp_path / "run", tmp_path, rounds=6, max_train_images=900, local_epochs=4
  )
  hours = calibration.estimate([config], runtime)["hours"][0]
  begun = time.monotonic()
  loop.run(config, runtime, progress=False)
  taken = (time.monotonic() - begun) / 3600
  print("estimated, taken:", 3600 * hours, 3600 * taken)
  assert taken / 3 < hours < 3 * taken
