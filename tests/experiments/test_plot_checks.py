"""The checks by themselves; `test_plots` has one test per error of the figures."""

import numpy as np
import pandas as pd
import pytest

from tff_defenses.experiments import plot_checks

TABLE = pd.DataFrame({"round": [1, 2], "client_index": [0, 0]})


def test_what_fits_passes():
  plot_checks.check_frame("who", "table", TABLE, ("round",))
  plot_checks.check_once("who", TABLE)
  plot_checks.check_mmd(np.zeros((2, 2)), np.zeros(2))
  plot_checks.check_scatter(np.zeros((2, 3, 4)), np.zeros(3), np.zeros(2))


def test_messages_name_the_caller_the_argument_and_what_is_missing():
  message = "^me: `mine` must have the columns round, a, b and a row .*, got no a, b"
  with pytest.raises(ValueError, match=message):
    plot_checks.check_frame("me", "mine", TABLE, ("round", "a", "b"))
  with pytest.raises(ValueError, match="^me: `mine` .* got no row"):
    plot_checks.check_frame("me", "mine", TABLE[:0], ("round",))


def test_client_twice_in_a_round_raises():
  with pytest.raises(ValueError, match="^me: `clients` .* client 0 twice in round 1"):
    plot_checks.check_once("me", pd.concat([TABLE, TABLE]))


@pytest.mark.parametrize("shape", [(0, 0), (2, 3), (3, 3), (2,)])
def test_mmd_that_is_not_square_over_the_clients_raises(shape):
  with pytest.raises(ValueError, match=r"`mmd` must be \[n, n\]"):
    plot_checks.check_mmd(np.zeros(shape), np.zeros(min(shape) and 2))


@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 4), (2, 3, 0)])
def test_plrs_that_do_not_fit_clients_and_labels_raise(shape):
  with pytest.raises(ValueError, match=r"`plrs` must be \[n, k, o\]"):
    plot_checks.check_scatter(np.zeros(shape), np.zeros(3), np.zeros(2))
