"""What a surrogate is: an immutable, fitted model of an oracle's properties, with a calibrated spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ase import Atoms

from ..errors import AlloysmithError

Metrics = Mapping[str, float]
"""Named figures of a fit: ``rmse``, ``n_train``, ``wall_s``, …"""

Report = Callable[[int, Metrics], bool]
"""Progress of a fit, called with (step, metrics). Returning ``False`` asks the trainer to stop early."""


class SurrogateError(AlloysmithError):
    """A surrogate cannot be fitted or used: no data, an unknown element, a corrupt model file."""


@dataclass(frozen=True)
class Prediction:
    """Predicted properties, column order as in :attr:`SurrogateSpec.properties`.

    Attributes:
        mean: ``[n_structures, n_properties]``.
        std: ``[n_structures, n_properties]``, one standard deviation of the noise-free property.
    """

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class SurrogateSpec:
    """What a surrogate declares about itself.

    Attributes:
        kind: the ``kind:`` of its settings in a configuration file.
        properties: property name -> unit, in the order of the prediction's columns.
        elements: symbols it was fitted on.
        n_train: number of structures it was fitted on.
    """

    kind: str
    properties: Mapping[str, str]
    elements: tuple[str, ...]
    n_train: int


@dataclass(frozen=True)
class TrainingSet:
    """Labelled structures.

    Attributes:
        structures: as the oracle returned or was given them.
        targets: ``[n_structures, n_properties]``, finite.
        properties: property name -> unit, one per column.
    """

    structures: Sequence[Atoms]
    targets: np.ndarray
    properties: Mapping[str, str]

    def __post_init__(self) -> None:
        expected = (len(self.structures), len(self.properties))
        if self.targets.shape != expected:
            raise SurrogateError(f"targets have shape {self.targets.shape}, expected {expected}")
        if not np.isfinite(self.targets).all():
            bad = sorted(set(np.argwhere(~np.isfinite(self.targets))[:, 0].tolist()))[:5]
            raise SurrogateError(f"targets are not finite in rows {bad} (first five); drop or relabel them")


@dataclass(frozen=True)
class SurrogateState:
    """A fitted surrogate as plain data: what a model file holds.

    Attributes:
        kind: selects the class that reads it.
        settings: JSON-able settings.
        arrays: named float or integer arrays.
    """

    kind: str
    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=lambda: MappingProxyType({}))


@runtime_checkable
class Surrogate(Protocol):
    """A fitted model; never changes."""

    @property
    def spec(self) -> SurrogateSpec: ...

    def predict(self, structures: Sequence[Atoms]) -> Prediction:
        """Predict the properties of ``structures``.

        Raises:
            SurrogateError: a structure has an element or a phase the surrogate does not know.
        """
        ...

    def state(self) -> SurrogateState:
        """The surrogate as plain data; reading it back gives identical predictions."""
        ...


@runtime_checkable
class SurrogateTrainer(Protocol):
    """Fits surrogates. Holds settings only."""

    def fit(
        self, data: TrainingSet, *, seed: int, warm_start: Surrogate | None = None, report: Report | None = None
    ) -> Surrogate:
        """Fit to ``data``; deterministic in (data, seed, warm_start).

        Raises:
            SurrogateError: too little or unusable data.
        """
        ...
