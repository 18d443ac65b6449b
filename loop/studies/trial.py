"""What a worker does with a trial: one fit, and its figures."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ...structures.files import read_structures
from ...surrogates.base import Metrics, Report
from ...surrogates.potentials.md_speed import MdSpeedSettings, md_speed
from ..execution.base import Runner, Tell
from ..fitting import FitConfig, fit_surrogate, validation_metrics
from ..potential_fitting import PotentialFit, PotentialFitConfig, fit_potential


@dataclass(frozen=True)
class TrialRequest:
    """A trial to be done.

    Attributes:
        md_speed: how the speed of molecular dynamics is measured; ``None``: not at all.
    """

    fit: PotentialFitConfig | FitConfig
    md_speed: MdSpeedSettings | None = None


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial.

    Attributes:
        figures: name -> value, finite ones alone.
        was_stopped: whether the answer to its progress ended it early; one that comes with the last of it does not.
    """

    figures: Mapping[str, float]
    was_stopped: bool


class FitRunner(Runner):
    """Fits a potential or a surrogate, telling the metrics of each validation."""

    def run(self, request: TrialRequest, tell: Tell) -> TrialResult:
        """Fit with the settings of ``request``.

        Raises:
            FrameError, SurrogateError, ConfigError, StructureError: as the fit does.
            OracleError: the speed cannot be measured.
        """
        n_told = 0
        goes_on = True

        def report(step: int, metrics: Metrics) -> bool:
            nonlocal n_told, goes_on
            n_told += 1
            goes_on = goes_on and tell(n_told, metrics)
            return goes_on

        if isinstance(request.fit, FitConfig):
            figures = _surrogate_figures(request.fit, report)
            was_stopped = not goes_on and n_told < request.fit.validation_folds
        else:
            fit = fit_potential(request.fit, report=report)
            figures = potential_figures(fit)
            was_stopped = fit.training.stop_reason == "stopped"
            if request.md_speed is not None and not was_stopped:
                figures |= md_speed(fit.potential, request.md_speed)
        return TrialResult({name: value for name, value in figures.items() if math.isfinite(value)}, was_stopped)


def potential_figures(fit: PotentialFit) -> dict[str, float]:
    """The figures of a potential's fit: errors of training, validation and test, score, cost, size."""
    found: dict[str, float] = {"score": fit.training.best_metrics["score"]}
    for part, table in fit.errors.items():
        found |= table.overall.metrics(f"{part}_")
    found |= {"cpu_s": fit.training.cpu_s, "wall_s": fit.training.wall_s, "n_steps": float(fit.training.n_steps)}
    weights = fit.potential.model.parameters()
    found["n_parameters"] = float(sum(weight.numel() for weight in weights if weight.requires_grad))
    return {name: float(value) for name, value in found.items()}


def _surrogate_figures(config: FitConfig, report: Report) -> dict[str, float]:
    """The figures of a surrogate's fit: errors, cost with all validation folds, numbers in its model file."""
    rows = [atoms for file in config.files for atoms in read_structures(file)]
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    fit = fit_surrogate(config, rows, report)
    found = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s}
    for part, errors in fit.errors.items():
        found |= validation_metrics(errors, {"held out": "test"}.get(part, part))
    found["n_parameters"] = float(sum(array.size for array in fit.surrogate.state().arrays.values()))
    return found
