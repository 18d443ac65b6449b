"""The evaluated structure that a new one is nearest to, to warm-start the oracle with."""

from __future__ import annotations

import numpy as np

from ..structures.lattice import ParentLattice
from .seen import HistoryIndex


class Relatives:
    """Evaluated structures of one lattice, to find the one that shares most sites."""

    def __init__(self, index: HistoryIndex, lattice: ParentLattice) -> None:
        known = [k for k in index.by_id.values() if k.lattice is lattice and k.score is not None and k.is_in_site_order]
        self._ids = [k.request_id for k in known]
        self._occupations = np.array([k.occupation for k in known])

    def nearest(self, occupation: np.ndarray) -> tuple[str, ...]:
        """Request id of the nearest one, the latest of equals; empty without any."""
        if not self._ids:
            return ()
        shared = (self._occupations == occupation).sum(axis=1)
        return (self._ids[len(shared) - 1 - int(shared[::-1].argmax())],)
