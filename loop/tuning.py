"""A small study of the surrogate's settings as a stage of a campaign.

Each search has a folder of its own, with a journal as a study's. A search that was cut off goes on from there: what it
tries is decided by its seed and place, and how good that is by the labels alone, so it ends as one that was not.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..agents.optuna_study import OptunaStudy
from ..agents.study_settings import NoPrunerSettings, RetuningSettings, StudyObjective
from ..errors import ConfigError
from ..structures.space import DesignSpace
from ..surrogates.base import Metrics, SurrogateError, SurrogateTrainer, TrainingSet
from ..surrogates.settings import SurrogateSettings
from .errors import RunDirectoryError
from .fit_changes import fit_config
from .fitting import FitConfig, cross_validated

JOURNAL_NAME = "journal.log"


@dataclass(frozen=True)
class Tuning:
    """Settings of the surrogate that a search has found, or kept.

    Attributes:
        n_labels: that it was searched on.
        settings: of the surrogate, as plain data.
        error: of these settings, as :class:`RetuningSettings` judges; ``None`` where it is not finite.
        error_before: of those that were in use before, likewise.
        n_trials: settings that were tried.
    """

    n_labels: int
    settings: Mapping[str, Any]
    error: float | None
    error_before: float | None
    n_trials: int
    wall_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Tuner:
    """Searches the settings of a campaign's surrogate.

    Attributes:
        surrogate: the settings that the campaign began with.
        folder: where the searches leave their journals.
        hurry: when set, a search ends early, without a result.
    """

    surrogate: SurrogateSettings
    space: DesignSpace
    settings: RetuningSettings
    folder: Path
    hurry: threading.Event

    def trainer(self, tuning: Tuning | None) -> SurrogateTrainer:
        """What fits the surrogate with the settings of a search; with the first ones before any."""
        return self._fit(tuning).surrogate.build(self.space)

    def search(self, data: TrainingSet, previous: Tuning | None, reason: str, seed: int) -> Tuning | None:
        """Try settings on labels, and keep the best ones: those in use unless others are better.

        Returns:
            ``None`` if it was told to hurry.

        Raises:
            SurrogateError: the settings in use cannot be fitted.
            StudyError: the journal of the search is damaged.
            RunDirectoryError: its folder cannot be made.
        """
        started = time.monotonic()
        n_labels = len(data.structures)
        folder = self.folder / f"{n_labels:06d}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"{folder} cannot be made: {error.strerror}; make room, then resume") from error
        fit = self._fit(previous)
        before = self._error(fit, data, seed)
        if self.hurry.is_set():
            return None
        best = fit
        least = math.inf if before is None else before
        objective = StudyObjective(metric=f"validation_{next(iter(data.properties))}_{self.settings.error}")
        study = OptunaStudy(
            folder / JOURNAL_NAME,
            self.settings.space,
            (objective,),
            self.settings.sampler,
            NoPrunerSettings(),
            seed=seed,
        )
        study.requeue_running()
        while study.n_waiting() > 0 or study.n_asked() < self.settings.n_trials:
            asked = study.ask()
            try:
                tried = self._tried(fit, asked.parameters)
                found = self._error(tried, data, seed)
            except (ConfigError, SurrogateError) as problem:
                study.fail(asked.number, str(problem))
                continue
            if self.hurry.is_set():
                return None
            if found is not None:
                study.finish(asked.number, [found], {objective.metric: found})
            else:
                study.fail(asked.number, "its error is not finite")
        for trial in sorted(study.trials(), key=lambda trial: trial.index):  # also those of an earlier session
            if trial.condition == "finished" and trial.values[0] < least:
                best, least = self._tried(fit, trial.parameters), trial.values[0]
        settings = best.surrogate.model_dump(mode="json")
        wall_s = time.monotonic() - started
        error_now = least if math.isfinite(least) else None
        return Tuning(n_labels, settings, error_now, before, self.settings.n_trials, wall_s, reason)

    def _fit(self, tuning: Tuning | None) -> FitConfig:
        surrogate = self.surrogate
        if tuning is not None:
            surrogate = TypeAdapter(SurrogateSettings).validate_python(dict(tuning.settings))
        return FitConfig(surrogate=surrogate)

    def _tried(self, fit: FitConfig, parameters: Mapping[str, Any]) -> FitConfig:
        tried = fit_config(fit, parameters)
        assert isinstance(tried, FitConfig)
        return tried

    def _error(self, fit: FitConfig, data: TrainingSet, seed: int) -> float | None:
        def goes_on(fold: int, metrics: Metrics) -> bool:
            return not self.hurry.is_set()

        trainer = fit.surrogate.build(self.space)
        figures = cross_validated(trainer, data, self.settings.validation_folds, seed=seed, report=goes_on)
        error = float(getattr(next(iter(figures.values())), self.settings.error))
        return error if math.isfinite(error) else None
