"""What surrogates have in common that see structures as rows of order features only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ..structures.base import Phase
from ..structures.lattice import ParentLattice
from .base import Prediction
from .features import FeatureTable, OrderFeatures


class FeatureSurrogate(ABC):
    """Predicts from features, whichever way these come about."""

    @abstractmethod
    def _order_features(self) -> OrderFeatures:
        """How structures become features."""

    @abstractmethod
    def _predict(self, table: FeatureTable) -> Prediction:
        """Predict the rows of a table."""

    def predict(self, structures: Sequence[Atoms]) -> Prediction:
        """Predict structures of any size; see :class:`~alloysmith.surrogates.base.Surrogate`."""
        return self._predict(self._order_features().from_atoms(structures))

    def predict_occupations(self, lattice: ParentLattice, occupations: np.ndarray) -> Prediction:
        """Predict occupations ``[n, n_sites]`` of a lattice, whose numbers index into the spec's elements."""
        return self.predict_features(lattice.phase, self.features(lattice, occupations))

    def predict_features(self, phase: Phase, features: np.ndarray) -> Prediction:
        """Predict from :meth:`features` ``[n, n_features]``."""
        return self._predict(FeatureTable((phase,) * len(features), features))

    def features(self, lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
        """All it sees of occupations, ``[n, n_features]``."""
        return self._order_features().from_occupations(lattice, occupations)
