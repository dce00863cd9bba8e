"""The command line: quick answers without TensorFlow, faults in one message, a run."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from tests.runtime.process_probe import is_running

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "run_experiments.py"
QUICK_SECONDS = 4  # half a second here; a busy machine took 1.7, importing TFF 12
HEAVY = ("tensorflow", "tensorflow_federated", "jax", "grpc")


def run(*arguments, cwd, timeout=60):
  """Output, errors and exit status of `run_experiments.py`, run somewhere else."""
  return subprocess.run(
    [sys.executable, str(SCRIPT), *arguments],
    capture_output=True,
    text=True,
    cwd=cwd,
    check=False,
    timeout=timeout,
  )


def error_of(done):
  """The message of a run that must fail with one, and with nothing else."""
  assert done.returncode == 1 and done.stdout == ""
  assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
  return done.stderr


def processes_with(name, value):
  """Commands of the running processes whose environment holds a variable."""
  found = []
  for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      environment = (folder / "environ").read_bytes().split(b"\0")
      command = (folder / "cmdline").read_text()
    except OSError:
      continue  # it has ended, or is another user's
    if f"{name}={value}".encode() in environment and is_running(folder.name):
      found.append(command)
  return found


@pytest.mark.parametrize("flag", ["--help", "--list"])
def test_answer_comes_at_once(flag, tmp_path):
  seconds = []
  for _ in range(3):
    begun = time.monotonic()
    done = run(flag, cwd=tmp_path)
    seconds.append(time.monotonic() - begun)
  assert min(seconds) < QUICK_SECONDS
  assert "Traceback" not in done.stderr and len(done.stdout.splitlines()) > 20


@pytest.mark.parametrize(
  "arguments",
  [
    ["--list"],
    ["--help"],
    ["--report=."],
    ["--reproduce=flare:table9"],
  ],
)
def test_tensorflow_is_not_imported(arguments, tmp_path):
  script = (
    "import sys\n"
    f"sys.path.insert(0, {str(ROOT)!r})\n"
    f"sys.argv = ['run_experiments.py', *{arguments!r}]\n"
    "import run_experiments\n"
    "try:\n"
    "  run_experiments.run()\n"
    "finally:\n"
    f"  print('heavy:', *[h for h in {HEAVY!r} if h in sys.modules])\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", script],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    check=False,
  )
  assert "Traceback" not in done.stderr, done.stderr
  assert done.stdout.splitlines()[-1].split() == ["heavy:"]


def test_help_names_flags_and_examples(tmp_path):
  text = run("--help", cwd=tmp_path).stdout
  for words in (
    "--preset",
    "--malicious_fraction",
    "dry_run",
    "--list",
    "--reproduce",
    "--jobs",
  ):
    assert words in text


def test_list_names_a_defense_an_attack_and_a_preset(tmp_path):
  text = run("--list", cwd=tmp_path).stdout
  for name in (
    *("flare", "krum_backdoor", "lenet", "fl_plas_mnist", "dirichlet"),
    "fl_plas:table4",
  ):
    assert name in text


def test_unknown_defense_is_answered_with_the_nearest_name(tmp_path):
  error = error_of(run("--defense=flair", cwd=tmp_path))
  assert "1 fault(s)" in error and "Did you mean `flare`?" in error
  assert list(tmp_path.iterdir()) == []


def test_all_faults_are_told_at_once(tmp_path):
  flags = ("--defense=flair,krumm", "--malicious_fraction=80", "--attack=trigger")
  error = error_of(run(*flags, cwd=tmp_path))
  assert "3 fault(s)" in error
  for words in ("`flare`", "`krum`", "0.8 means 80 %"):
    assert error.count(words) == 1


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (["--defense_settings={bad"], "--defense_settings takes JSON"),
    (["--attack_settings=[1]"], "--attack_settings takes a JSON object"),
    (["--seed=one"], "--seed takes whole numbers, got one"),
    (["--malicious_fraction=0.1,x"], "--malicious_fraction takes numbers, got 0.1,x"),
    (["--preset=tooy"], "Did you mean `toy`?"),
    (["--defense="], "`defense` must hold a value"),
    (["--aux_size=1", "--dry_run"], "`aux_size` must be a whole number >= 2"),
    (["--reproduce=flare:tabel3"], "Did you mean `flare:table3`?"),
    (["--reproduce=flare:table3", "--dataset=mnist"], "`dataset` must be one of"),
    (["--reproduce=flare:table3", "--defense=flame"], "`defense` must be one of"),
    (["--reproduce=flare:table3", "--scale=2"], "`scale` must be in (0, 1]"),
    (
      ["--reproduce=flare:table3", "--rounds=3", "--model=lenet"],
      "got --model, --rounds as well",
    ),
    (["--reproduce=flare:table3", "--preset=toy"], "got --preset as well"),
    (
      ["--scale=0.1"],
      "Presets are shrunk by --max_train_images",
    ),
    (["--rows=a", "--preset=toy"], "Runs are chosen by --dataset"),
    (["--reproduce=flare:fig11a", "--rows=n = 11"], "`rows` must each be a name"),
    (["--variants=a", "--preset=toy"], "Another reading of a rule"),
    (["--from_scratch"], "random weights with --warmup_rounds=0"),
    (["--report=."], "without any"),
    (["--report="], "--report must name an output folder, got nothing"),
    (["--workers=", "--preset=toy"], "--workers must name a worker, host:port"),
    (
      [
        *("--workers=a:1,b:2", "--preset=toy", "--attack=min_max"),
        "--malicious_fraction=0.25",
      ],
      "--workers must name a single worker for attacks that gather",
    ),
    (["--report=.", "--jobs=2", "--reproduce=flare:table3"], "--reproduce, --jobs."),
    (["--report=nowhere"], "nowhere, which does not exist"),
    (["flare"], "unknown argument 'flare'"),
  ],
)
def test_wrong_flag_is_one_message(flags, words, tmp_path):
  assert words in error_of(run(*flags, cwd=tmp_path))


@pytest.mark.parametrize(
  "flag",
  ["--jobs=4", "--tensorboard", "--noresume", "--data_dir=x", "--round_seconds=9"],
)
def test_the_quick_start_refuses_what_it_does_not_heed(flag, tmp_path):
  error = error_of(run(flag, "--dry_run", cwd=tmp_path))
  assert f"got {flag.split('=')[0]}." in error and error.count("\n") == 1
  assert list(tmp_path.iterdir()) == []


def test_unknown_flag_fails_without_a_traceback(tmp_path):
  done = run("--defence=flare", cwd=tmp_path)
  assert done.returncode == 1
  assert "defence" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_dry_run_lists_the_runs_and_their_hours_and_makes_nothing(tmp_path):
  flags = ("--preset=toy", "--defense=fedavg,flare", "--seeds=1,2", "--dry_run")
  done = run(*flags, cwd=tmp_path)
  folders, table = done.stdout.split("\n\n")
  parts = [pathlib.Path(line).name.split("-")[:3] for line in folders.splitlines()]
  assert (
    parts == [["mnist5k", "fedavg", "none"]] * 2 + [["mnist5k", "flare", "none"]] * 2
  )
  assert "4 runs" in table and "hours" in table
  assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_dry_run_of_the_quick_start_lists_its_runs(tmp_path):
  done = run("--dry_run", cwd=tmp_path, timeout=300)  # four kinds are calibrated
  folders, table = done.stdout.split("\n\n")
  parts = ["part1_fedavg", "part1_krum", "part1_flare", "part2_fedavg", "part2_fl_plas"]
  assert folders.splitlines() == [f"results/quickstart/{part}" for part in parts]
  assert "5 runs" in table and "not estimated" not in table
  assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_toy_comparison_through_a_pipe_ends_and_leaves_no_worker(tmp_path):
  command = (
    '"$0" "$1" --preset=toy --defense=fedavg,flare '
    '--output_dir="$2" --cache_dir="$2/shards" 2>"$2.log" | cat >"$2.table"'
  )
  folder = tmp_path / "toy"
  subprocess.run(
    ["bash", "-o", "pipefail", "-c", command, sys.executable, SCRIPT, folder],
    cwd=tmp_path,
    env={**os.environ, "TOY_COMPARISON": str(tmp_path)},  # workers inherit it
    check=True,
    timeout=300,
  )
  assert processes_with("TOY_COMPARISON", tmp_path) == []
  table = [line.split() for line in (tmp_path / "toy.table").read_text().splitlines()]
  assert [row[:2] for row in table] == [
    ["dataset", "defense"],
    ["mnist5k", "fedavg"],
    ["mnist5k", "flare"],
  ]
  figures = {path.name for path in folder.rglob("*.png")}
  assert figures == {"success.png", "trust.png", "mmd.png", "plr.png"}
