"""What a search over orderings asks of a surrogate beyond the protocol: speed on lattices, and joint spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from ase import Atoms

from ..structures.base import Phase
from ..structures.lattice import ParentLattice
from .base import Prediction, SurrogateSpec, SurrogateState


@dataclass(frozen=True)
class JointPrediction:
    """Joint normal distribution of one property over several structures.

    Attributes:
        mean: ``[n]``.
        covariance: ``[n, n]`` of the noise-free property.
        noise_variance: ``[n]``, of a measurement of each.
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise_variance: np.ndarray


@runtime_checkable
class LatticeSurrogate(Protocol):
    """A surrogate that can guide a search over the occupations of a lattice."""

    @property
    def spec(self) -> SurrogateSpec: ...

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases it has seen; it predicts no other."""
        ...

    def predict(self, structures: Sequence[Atoms]) -> Prediction: ...

    def predict_occupations(self, lattice: ParentLattice, occupations: np.ndarray) -> Prediction:
        """Predict occupations ``[n, n_sites]``, whose numbers index into the spec's elements."""
        ...

    def predict_features(self, phase: Phase, features: np.ndarray) -> Prediction:
        """Predict from :meth:`features`."""
        ...

    def joint(self, structures: Sequence[Atoms], property_name: str) -> JointPrediction:
        """Joint distribution of a property over ``structures``, for choosing batches."""
        ...

    def features(self, lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
        """All it sees of occupations, ``[n, n_features]``, composition first: equal features, equal predictions."""
        ...

    def state(self) -> SurrogateState: ...
