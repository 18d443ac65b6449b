"""What a study can fit: potentials and surrogates; which figures their fits give, and which of them while they run."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from ...surrogates.potentials.data_settings import DataSettings, FrameFileSettings
from ...surrogates.potentials.error_table import ErrorRow
from ...surrogates.potentials.md_speed import MD_SPEED_METRICS
from ..fitting import FitConfig
from ..potential_fitting import PotentialFitConfig

_POTENTIAL, _SURROGATE = "the fit of a potential", "the fit of a surrogate"


def _kind(value: Any) -> str:
    is_surrogate = "surrogate" in value if isinstance(value, dict) else isinstance(value, FitConfig)
    return _SURROGATE if is_surrogate else _POTENTIAL


StudiedFit = Annotated[
    Annotated[PotentialFitConfig, Tag(_POTENTIAL)] | Annotated[FitConfig, Tag(_SURROGATE)], Discriminator(_kind)
]
"""The configuration of a fit, told by its key ``potential`` or ``surrogate``."""

_ERRORS = tuple(field.name for field in fields(ErrorRow) if not field.name.startswith("n_"))
_SURROGATE_ERRORS = ("mae", "rmse", "nll")
_COSTS = ("cpu_s", "wall_s", "n_parameters")


def running_metrics(fit: PotentialFitConfig | FitConfig) -> tuple[str, ...]:
    """Figures that a running fit gives at each of its validations."""
    if isinstance(fit, FitConfig):
        return tuple(f"validation_{name}_{error}" for name in fit.properties for error in _SURROGATE_ERRORS)
    return ("score", *(f"validation_{name}" for name in _ERRORS))


def known_metrics(fit: PotentialFitConfig | FitConfig) -> tuple[str, ...]:
    """Figures that a study of ``fit`` may optimize."""
    training = tuple(name.replace("validation_", "training_", 1) for name in running_metrics(fit) if "_" in name)
    if isinstance(fit, FitConfig):
        return (*running_metrics(fit), *training, *_COSTS)
    return (*running_metrics(fit), *training, *_COSTS, "n_steps", *MD_SPEED_METRICS)


def data_problem(fit: PotentialFitConfig | FitConfig, needs_validation: bool) -> tuple[tuple[str, ...], str] | None:
    """What a study lacks of data, and the key that would give it."""
    if isinstance(fit, FitConfig):
        if not fit.files:
            return ("fit", "files"), "is missing; name the labelled structures to learn from, or give --data"
        if fit.validation_folds < 2 and needs_validation:
            message = f"is {fit.validation_folds}, so there are no validation errors; set 5 or so"
            return ("fit", "validation_folds"), message
        return None
    if fit.data is None:
        return ("fit", "data"), "is missing; a study says what is learnt from, and which share is for validation"
    if fit.data.validation_fraction == 0.0 and needs_validation:
        message = "is 0, so there are no validation errors; set a share of the data aside for validation"
        return ("fit", "data", "validation_fraction"), message
    return None


def with_data(fit: PotentialFitConfig | FitConfig, files: tuple[Path, ...]) -> PotentialFitConfig | FitConfig:
    """The same fit of other data; ``fit.data`` of a potential says how it is divided."""
    if isinstance(fit, FitConfig):
        return fit.model_copy(update={"files": tuple(file.resolve() for file in files)})
    named = tuple(FrameFileSettings(path=str(file.resolve())) for file in files)
    data = fit.data.model_copy(update={"files": named}) if fit.data is not None else DataSettings(files=named)
    return fit.model_copy(update={"data": data})
