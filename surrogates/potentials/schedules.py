"""How the learning rate goes with the steps.

A schedule is a factor of the optimizer's learning rate. All but one are functions of the step; ``plateau`` has a
memory, which the trainer keeps and stores in its checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ...structures.settings import Settings


class _ScheduleSettings(Settings):
    warmup_steps: int = Field(default=0, ge=0)
    """Number of steps over which the learning rate rises linearly to its full value."""

    def factor(self, step: int, n_steps: int) -> float:
        """Factor of the learning rate at ``step`` (from 0) of a training of ``n_steps``."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self._decay(step - self.warmup_steps, max(n_steps - self.warmup_steps, 1))

    def _decay(self, step: int, n_steps: int) -> float:
        return 1.0


class ConstantScheduleSettings(_ScheduleSettings):
    """A learning rate that stays as it is after the warm-up."""

    kind: Literal["constant"] = "constant"


class ExponentialScheduleSettings(_ScheduleSettings):
    """Decay by a constant factor every so many steps, as in DeePMD-kit: ``r^floor(t / s)``, ``r = final^(s / n)``."""

    kind: Literal["exponential"] = "exponential"
    final_factor: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Factor of the learning rate at the last step."""
    every_steps: int = Field(default=1, ge=1)
    """Number of steps between two reductions; 1 is a smooth decay."""

    def _decay(self, step: int, n_steps: int) -> float:
        return float(self.final_factor ** ((step // self.every_steps) * self.every_steps / n_steps))


class CosineScheduleSettings(_ScheduleSettings):
    """Half a period of a cosine, from 1 to the final factor (Loshchilov and Hutter, 2017)."""

    kind: Literal["cosine"] = "cosine"
    final_factor: float = Field(default=0.01, ge=0.0, le=1.0)
    """Factor of the learning rate at the last step."""

    def _decay(self, step: int, n_steps: int) -> float:
        phase = min(step / n_steps, 1.0)
        return self.final_factor + (1.0 - self.final_factor) * 0.5 * (1.0 + math.cos(math.pi * phase))


class PlateauScheduleSettings(_ScheduleSettings):
    """Reduce the learning rate when the validation has not improved for some time."""

    kind: Literal["plateau"] = "plateau"
    reduction: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Factor of each reduction."""
    patience: int = Field(default=5, ge=1)
    """Number of validations without a better score before a reduction."""
    final_factor: float = Field(default=1e-3, gt=0.0, le=1.0)
    """The factor does not go below this."""


ScheduleSettings = Annotated[
    ConstantScheduleSettings | ExponentialScheduleSettings | CosineScheduleSettings | PlateauScheduleSettings,
    Field(discriminator="kind"),
]
"""How the learning rate goes with the steps, by ``kind``."""


@dataclass(frozen=True)
class Plateau:
    """Memory of a ``plateau`` schedule.

    Attributes:
        factor: present factor of the learning rate.
        best: best score so far.
        n_waiting: number of validations since then, or since the last reduction.
    """

    factor: float = 1.0
    best: float = math.inf
    n_waiting: int = 0

    def after(self, score: float, settings: PlateauScheduleSettings) -> Plateau:
        """The memory after one more validation."""
        if score < self.best:
            return Plateau(self.factor, score, 0)
        if self.n_waiting + 1 < settings.patience:
            return Plateau(self.factor, self.best, self.n_waiting + 1)
        return Plateau(max(self.factor * settings.reduction, settings.final_factor), self.best, 0)
