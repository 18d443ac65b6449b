"""Figures of merit on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.metrics import calibration


def test_figures_of_a_hand_made_case():
    figures = calibration(np.array([0.0, 0.0]), np.array([1.0, 2.0]), np.array([0.5, 3.0]))
    assert figures["rmse"] == pytest.approx(np.sqrt((0.25 + 9.0) / 2))
    assert figures["mae"] == pytest.approx(1.75)
    assert figures["coverage_68"] == 0.5
    assert figures["coverage_95"] == 1.0
    assert figures["z_rms"] == pytest.approx(np.sqrt((0.25 + 2.25) / 2))


def test_true_spreads_are_calibrated_and_small_ones_are_not():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2.0, size=20_000)
    target = rng.normal(scale=std)
    honest, bold = (calibration(np.zeros(20_000), s, target) for s in (std, 0.5 * std))
    assert honest["coverage_68"] == pytest.approx(0.683, abs=0.02)
    assert honest["coverage_95"] == pytest.approx(0.95, abs=0.01)
    assert bold["z_rms"] == pytest.approx(2.0, abs=0.05)
    assert bold["nll"] > honest["nll"]


def test_shapes_are_checked():
    with pytest.raises(SurrogateError, match="must be equal"):
        calibration(np.zeros(2), np.ones(3), np.zeros(2))
