"""What a worker does with a trial: one fit, and its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...surrogates.base import Metrics
from ..execution.base import Runner, Tell
from ..potential_fitting import PotentialFit, PotentialFitConfig, fit_potential


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial.

    Attributes:
        figures: name -> value, finite ones alone.
        was_stopped: whether it was ended early, by the answer to its progress.
    """

    figures: Mapping[str, float]
    was_stopped: bool


class FitRunner(Runner):
    """Fits a potential, telling the metrics of each validation."""

    def run(self, request: PotentialFitConfig, tell: Tell) -> TrialResult:
        """Fit with the settings of ``request``.

        Raises:
            FrameError, SurrogateError, ConfigError: as the fit does.
        """
        n_told = 0
        was_stopped = False

        def report(step: int, metrics: Metrics) -> bool:
            nonlocal n_told, was_stopped
            n_told += 1
            if not was_stopped:
                was_stopped = not tell(n_told, metrics)
            return not was_stopped

        fit = fit_potential(request, report=report)
        return TrialResult(figures_of(fit), was_stopped)


def figures_of(fit: PotentialFit) -> dict[str, float]:
    """The figures of a fit: errors of training, validation and test, score, cost, size."""
    found: dict[str, float] = {"score": fit.training.best_metrics["score"]}
    for part, table in fit.errors.items():
        found |= table.overall.metrics(f"{part}_")
    found |= {"cpu_s": fit.training.cpu_s, "wall_s": fit.training.wall_s, "n_steps": float(fit.training.n_steps)}
    weights = fit.potential.model.parameters()
    found["n_parameters"] = float(sum(weight.numel() for weight in weights if weight.requires_grad))
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}
