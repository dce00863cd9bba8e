"""Digests of files: right, read once, and read again after a change."""

import hashlib
import os

import pytest

from tff_defenses.experiments import file_digest


def test_it_is_that_of_the_content(tmp_path):
  file = tmp_path / "file"
  file.write_bytes(b"content")
  assert file_digest.sha256(file) == hashlib.sha256(b"content").hexdigest()
  assert file_digest.sha256(str(file)) == file_digest.sha256(file)


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
  file, read, digest = tmp_path / "file", [], hashlib.file_digest
  file.write_bytes(b"content")
  monkeypatch.setattr(
    hashlib, "file_digest", lambda *a: (read.append(a), digest(*a))[1]
  )
  assert file_digest.sha256(file) == file_digest.sha256(file)
  assert len(read) == 1


@pytest.mark.parametrize("content", [b"changed", b"longer content"])
def test_a_change_is_seen_by_time_or_size(content, tmp_path):
  file = tmp_path / "file"
  file.write_bytes(b"content")
  file_digest.sha256(file)
  before = os.stat(file).st_mtime_ns
  file.write_bytes(content)
  same_time = len(content) != len(b"content")
  os.utime(file, ns=(before, before if same_time else before + 1))
  assert file_digest.sha256(file) == hashlib.sha256(content).hexdigest()


def test_another_file_of_this_name_time_and_size_is_read(tmp_path):
  file, other = tmp_path / "file", tmp_path / "other"
  file.write_bytes(b"content")
  file_digest.sha256(file)
  other.write_bytes(b"changed")
  times = os.stat(file).st_atime_ns, os.stat(file).st_mtime_ns
  os.utime(other, ns=times)
  other.replace(file)
  assert file_digest.sha256(file) == hashlib.sha256(b"changed").hexdigest()


def test_a_file_that_is_not_there_raises(tmp_path):
  with pytest.raises(FileNotFoundError):
    file_digest.sha256(tmp_path / "none")
