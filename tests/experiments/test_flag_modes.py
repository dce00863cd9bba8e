"""What the flags ask for, and which of them would change nothing."""

import pytest

from tff_defenses.experiments import flag_modes


@pytest.mark.parametrize(
  ("given", "chooses_runs", "mode"),
  [
    ({}, False, flag_modes.QUICK_START),
    ({"dry_run": True, "workers": ["a:1"]}, False, flag_modes.QUICK_START),
    ({"jobs": 2, "resume": False}, True, flag_modes.RUNS),
    ({"list": True}, False, "list"),
    ({"report": "here"}, False, "report"),
    ({"reproduce": "x", "scale": 0.1, "variants": ["a"]}, False, "reproduce"),
  ],
)
def test_mode_is_what_is_asked_for(given, chooses_runs, mode):
  assert flag_modes.mode(given, chooses_runs) == mode


@pytest.mark.parametrize(
  ("given", "sentence"),
  [
    ({"list": True, "report": "x"}, "^--list heeds no other flag, got --report. "),
    ({"check_env": True, "workers": ["a:1"]}, "^--check_env heeds no other flag"),
    ({"report": "x", "jobs": 2, "resume": False}, "got --jobs, --noresume. "),
    ({"round_seconds": 1.0}, "the quick start heeds only --output_dir, .*--preset=toy"),
    ({"from_scratch": True}, "belongs to --reproduce, .*--warmup_rounds=0"),
    ({"variants": ["a"]}, "belongs to --reproduce, .*--defense_settings"),
    ({"scale": 0.1}, "belongs to --reproduce, .*--max_train_images"),
    ({"cache_dir": ""}, "--cache_dir must name a folder, got nothing"),
    ({"workers": []}, "--workers must name a worker, host:port, got nothing"),
  ],
)
def test_what_changes_nothing_is_refused(given, sentence):
  with pytest.raises(ValueError, match=sentence):
    flag_modes.mode(given, False)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_limit_that_no_round_can_keep_is_refused(seconds):
  sentence = f"--round_seconds must be > 0, got {seconds:g}. Leave it out for no limit"
  with pytest.raises(ValueError, match=sentence):
    flag_modes.mode({"round_seconds": seconds}, True)
