"""Learning rates and moving averages against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from alloysmith.surrogates.potentials.ema import MovingAverage
from alloysmith.surrogates.potentials.schedules import (
    ConstantScheduleSettings,
    CosineScheduleSettings,
    ExponentialScheduleSettings,
    Plateau,
    PlateauScheduleSettings,
)


def test_exponential_is_deepmds() -> None:
    """lr(t) = lr(0) r^floor(t / s) with r = (stop / start)^(s / n)."""
    schedule = ExponentialScheduleSettings(final_factor=1e-4, every_steps=50)
    rate = 1e-4 ** (50 / 1000)
    assert [schedule.factor(t, 1000) for t in (0, 49, 50, 99, 1000)] == pytest.approx([1.0, 1.0, rate, rate, 1e-4])


def test_cosine() -> None:
    schedule = CosineScheduleSettings(final_factor=0.1)
    assert [schedule.factor(t, 100) for t in (0, 50, 100)] == pytest.approx([1.0, 0.55, 0.1])
    assert schedule.factor(25, 100) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))


@pytest.mark.parametrize("kind", [ConstantScheduleSettings, CosineScheduleSettings, ExponentialScheduleSettings])
def test_warmup_comes_before_the_decay(kind: type[ConstantScheduleSettings]) -> None:
    plain, warm = kind(), kind(warmup_steps=4)
    assert [warm.factor(t, 104) for t in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [warm.factor(t + 4, 104) for t in (0, 30, 100)] == pytest.approx(
        [plain.factor(t, 100) for t in (0, 30, 100)]
    )


def test_plateau_reduces_after_its_patience() -> None:
    settings = PlateauScheduleSettings(patience=2, reduction=0.1, final_factor=0.02)
    memory = Plateau()
    factors = []
    for score in (5.0, 4.0, 4.0, 4.5, 3.9, 4.0, 4.0, 4.0, 4.0):
        memory = memory.after(score, settings)
        factors.append(memory.factor)
    assert factors == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.02, 0.02, 0.02])


def test_moving_average_forgets_the_start() -> None:
    average = MovingAverage(torch.tensor([10.0]), 0.9)
    by_hand = 10.0
    for k in range(200):
        average = average.after(torch.tensor([1.0 if k < 100 else 2.0]))
        decay = min(0.9, (2 + k) / (11 + k))
        by_hand = decay * by_hand + (1 - decay) * (1.0 if k < 100 else 2.0)
    assert average.n_steps == 200
    assert float(average.weights) == pytest.approx(by_hand, rel=1e-5) == pytest.approx(2.0, abs=1e-3)
