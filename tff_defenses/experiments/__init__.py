"""The harness: data, runs, the papers' tables, reports and figures.

Importing this package is cheap; a name is loaded with its module when it is first used.
Where to look, from the command line down:

  commands  what `run_experiments.py` does; flag_modes, listing, quickstart
  settings  config (config_checks), presets, grid_settings (idle_settings): preset
            and flags -> configs
  papers    papers (paper_checks, paper_numbers/*.json), reproduction (narrowing,
            scaling, plan_file): table -> configs
  data      datasets (dataset_specs, raw_files, tfds_files), held_out, partition, shards
            (shard_reader), federation: the clients of one experiment
  rules     aggregation (rule_chain): the defense; data_attacks, training_attacks
            (aims), update_attacks, threat_model; trial_builds: all before the first run
  one run   loop: trainers (global_trainer, personal_trainers, extractor_swap), starts
            (warm_start, weight_files), scoring, metrics, detection, probe
  its files records (owners, round_tables, run_record, machine, whole_files),
            checkpoint, plr_files, file_digest, locks
  many runs grid (grid_state), jobs, claims, progress, shared_runs, calibration
  reports   run_values, run_faults, start_scores, scorecard, verdicts, comparisons,
            statistics, grid_scores, report (report_*, scorecard_document);
            readme_tables, results_section, publish, reproducing_page
  figures   figures, paper_figures (paper_series), plots, curve_plots, plr_plots,
            plr_projection, plot_style, plot_checks
"""

import importlib
import importlib.util

_WHERE = {
  "ConfigError": "config",
  "DataError": "errors",
  "ExperimentConfig": "config",
  "OutputError": "errors",
  "expand": "grid_settings",
  "plan": "reproduction",
}

__all__ = list(_WHERE)


def __getattr__(name: str):
  if name in _WHERE:
    module = importlib.import_module(f"tff_defenses.experiments.{_WHERE[name]}")
    return getattr(module, name)
  path = f"tff_defenses.experiments.{name}"
  if name.startswith("_") or importlib.util.find_spec(path) is None:
    raise AttributeError(f"module 'tff_defenses.experiments' has no {name!r}")
  return importlib.import_module(path)
