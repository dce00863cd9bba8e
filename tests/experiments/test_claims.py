"""Claims end with their process; marks of failure are whole and readable."""

import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest

from tff_defenses.experiments import claims
from tff_defenses.experiments.errors import OutputError

HOLD = (
  "import sys, time\n"
  "from tff_defenses.experiments import claims\n"
  "with claims.claim(sys.argv[1]):\n"
  "  print('held', flush=True)\n"
  "  time.sleep(60)\n"
)


def test_claim_is_exclusive_and_ends_with_the_body(tmp_path):
  folder = tmp_path / "a" / "run"
  assert not claims.is_held(folder)
  with claims.claim(folder):
    assert claims.is_held(folder)
    with pytest.raises(claims.ClaimedError, match="filled by another process"):
      with claims.claim(folder):
        pass
  assert not claims.is_held(folder)
  with claims.claim(folder):
    pass
  assert (folder / ".claim").read_bytes() == b""


def test_claim_ends_with_an_error(tmp_path):
  with pytest.raises(KeyError), claims.claim(tmp_path):
    raise KeyError
  assert not claims.is_held(tmp_path)


def test_killed_process_holds_nothing(tmp_path):
  holder = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
  )
  assert holder.stdout.readline() == "held\n"
  assert claims.is_held(tmp_path)
  with pytest.raises(claims.ClaimedError), claims.claim(tmp_path):
    pass
  holder.send_signal(signal.SIGKILL)
  holder.communicate()
  assert not claims.is_held(tmp_path)
  with claims.claim(tmp_path):
    pass


def test_who_looks_holds_nothing_and_is_waited_for(tmp_path, monkeypatch):
  with claims.claim(tmp_path):
    pass
  looking = os.open(tmp_path / ".claim", os.O_RDONLY)
  fcntl.flock(looking, fcntl.LOCK_SH)
  assert not claims.is_held(tmp_path)

  def stop_looking(seconds):
    fcntl.flock(looking, fcntl.LOCK_UN)

  monkeypatch.setattr(claims.time, "sleep", stop_looking)
  with claims.claim(tmp_path):
    pass
  os.close(looking)


def test_folder_that_cannot_be_made_raises(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OutputError, match="file/run cannot be written"):
    with claims.claim(tmp_path / "file" / "run"):
      pass


def test_failure_is_a_sentence_a_type_and_a_traceback(tmp_path):
  assert claims.failure(tmp_path) is None
  try:
    raise ValueError("2 faults:\n  - one\n  - two")
  except ValueError as error:
    claims.mark_failed(tmp_path, error)
  found = json.loads((tmp_path / "failed.json").read_text())
  assert found == {"error": "2 faults: - one - two", "type": "ValueError"}
  assert "test_claims.py" in (tmp_path / "failed.log").read_text()
  assert claims.failure(tmp_path) == "ValueError: 2 faults: - one - two"
  claims.forget_failure(tmp_path)
  assert claims.failure(tmp_path) is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "[]", '{"error": 1}'])
def test_damaged_mark_is_still_a_failure(tmp_path, content):
  (tmp_path / "failed.json").write_text(content)
  assert claims.failure(tmp_path) == "failed.json cannot be read"


def test_nothing_has_failed_where_the_folder_is_a_file(tmp_path):
  (tmp_path / "file").touch()
  assert claims.failure(tmp_path / "file") is None
  assert claims.failure(tmp_path / "file" / "run") is None


def test_long_and_empty_messages_become_a_line():
  assert claims.sentence(ZeroDivisionError()) == "ZeroDivisionError"
  assert len(claims.sentence(ValueError("x " * 10_000))) == 600
