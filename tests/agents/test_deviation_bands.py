"""Bands of deviation follow the errors that labels show."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.agents.deviation_bands import Bands, DeviationSelectionSettings, calibrate, eligible

SETTINGS = DeviationSelectionSettings(target_force_error_ev_ang=0.2, failed_force_error_ev_ang=2.0, batch_size=4)


def test_bounds_are_the_wanted_errors_divided_by_the_calibration() -> None:
    deviations = np.linspace(0.02, 0.2, 9)
    bands = calibrate(SETTINGS, deviations, 5.0 * deviations)
    assert bands.scale == pytest.approx(5.0)
    assert (bands.accurate_below, bands.failed_above) == pytest.approx((0.04, 0.4))


def test_one_wild_error_does_not_move_the_bounds() -> None:
    deviations = np.full(9, 0.1)
    errors = np.full(9, 0.2)
    errors[3] = 300.0
    assert calibrate(SETTINGS, deviations, errors).scale == pytest.approx(2.0)


@pytest.mark.parametrize("n", [0, 4])
def test_few_labels_or_none_leave_the_deviation_as_it_is(n: int) -> None:
    assert calibrate(SETTINGS, np.full(n, 0.1), np.full(n, 1.0)).scale == 1.0


def test_without_calibration_the_bounds_are_of_the_deviation() -> None:
    settings = SETTINGS.model_copy(update={"is_calibrated": False})
    assert calibrate(settings, np.full(9, 0.1), np.full(9, 1.0)) == Bands(0.2, 2.0, 1.0)


def test_candidates_come_first_and_the_mildest_failed_fill_up() -> None:
    bands = Bands(0.1, 1.0, 1.0)
    deviations = np.array([0.05, 5.0, 0.5, 1.5, 0.2, 3.0])
    assert bands.classify(deviations).tolist() == [0, 2, 1, 2, 1, 2]
    assert list(eligible(SETTINGS, bands, deviations, 2)) == [2, 4]
    assert list(eligible(SETTINGS, bands, deviations, 4)) == [2, 4, 3]  # a quarter of four may be failed ones
    generous = SETTINGS.model_copy(update={"max_failed_share": 1.0})
    assert list(eligible(generous, bands, deviations, 4)) == [2, 4, 3, 5]


def test_bounds_that_leave_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates lie between them"):
        DeviationSelectionSettings(target_force_error_ev_ang=0.2, failed_force_error_ev_ang=0.2)
