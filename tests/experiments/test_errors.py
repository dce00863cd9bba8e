"""Failed writes: one sentence whoever writes; several faults: a line each."""

import pytest

from tff_defenses.experiments.errors import OutputError, fault_list, writing


def test_faults_are_counted_and_have_a_line_each():
  text = "2 fault(s) in the settings:\n  - First.\n  - Second."
  assert fault_list(["First.", "Second."], "in the settings") == text
  assert fault_list(["Only."]) == "1 fault(s):\n  - Only."


def test_full_disk_is_an_output_error_that_names_the_folder():
  with pytest.raises(OutputError, match="some/folder cannot be written.*No space left"):
    with writing("some/folder"):
      raise OSError(28, "No space left on device")


def test_tensorflow_reports_a_full_disk_in_its_own_way():
  import tensorflow as tf

  with pytest.raises(OutputError, match=r"cannot be written.*No space left"):
    with writing("some/folder"):
      raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")


def test_other_errors_pass_through():
  with pytest.raises(KeyError, match="mine"), writing("some/folder"):
    raise KeyError("mine")
