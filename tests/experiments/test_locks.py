"""The lock under which others wait."""

import threading

import pytest

from tff_defenses.experiments import locks


def test_who_comes_second_waits_for_the_first(tmp_path, caplog):
  file, order = tmp_path / "new" / "x.lock", []

  def second():
    with locks.alone(file, "makes x"):
      order.append("second")

  with locks.alone(file, "makes x"):
    thread = threading.Thread(target=second)
    thread.start()
    thread.join(timeout=0.3)
    order.append("first")
  thread.join()
  assert order == ["first", "second"]
  assert "Another process makes x; waiting." in caplog.text


def test_lock_is_dropped_when_the_work_fails(tmp_path, caplog):
  with pytest.raises(ValueError, match="broken"), locks.alone(tmp_path / "x", "works"):
    raise ValueError("broken")
  with locks.alone(tmp_path / "x", "works"):
    assert not caplog.records


def test_file_that_cannot_be_made_raises(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError), locks.alone(tmp_path / "file" / "x", "works"):
    pytest.fail("held")
