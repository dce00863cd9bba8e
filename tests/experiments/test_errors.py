"""Failed writes: one sentence whoever writes."""

import pytest

from tff_defenses.experiments.errors import OutputError, writing


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
