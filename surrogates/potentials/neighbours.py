"""Neighbours of one set of atoms that moves: searched anew only when atoms may have come into range.

Pairs are found within the cutoff and a skin. As long as no pair that was not found can have come within the cutoff,
new positions need new vectors only. The bound holds for a cell that strains as well: a vector r of the reference
becomes r A, A the map from the old cell to the new one, whose length is at least the smallest singular value of A
times that of r; the atoms' displacements beyond that map shorten it by at most twice the largest of them.
"""

from __future__ import annotations

import numpy as np
from vesin import NeighborList

from .graph import Graph


class NeighbourCache:
    """Graphs of atoms of fixed species, periodic in all directions.

    Args:
        types: int64 ``[n_atoms]``.
        cutoff_ang: range of the pairs, Å.
        skin_ang: how much further pairs are searched for, Å; 0 searches anew each time.

    Attributes:
        n_searches: searches so far.
    """

    def __init__(self, types: np.ndarray, cutoff_ang: float, skin_ang: float) -> None:
        self.n_searches = 0
        self._types = types
        self._cutoff = cutoff_ang
        self._reach = cutoff_ang + skin_ang
        self._search = NeighborList(cutoff=self._reach, full_list=False, sorted=False)
        self._scaled = np.zeros((0, 3))
        self._cell = np.zeros((3, 3))
        self._first = self._second = np.zeros(0, dtype=np.int32)
        self._shifts = self._offsets = np.zeros((0, 3))
        self._offsets_cell = np.zeros((3, 3))  # for which the shifts were multiplied

    def graph(self, positions: np.ndarray, cell: np.ndarray) -> Graph:
        """The graph at positions ``[n_atoms, 3]`` in a cell ``[3, 3]``, Å, both finite; the cell has a volume.

        Positions may jump by whole cells from call to call, as they do where a program wraps them.
        """
        scaled = positions @ np.linalg.inv(cell)
        if not self._is_valid(scaled, cell):
            return self._searched(positions, scaled, cell)
        continuous = positions - np.rint(scaled - self._scaled) @ cell
        if not np.array_equal(cell, self._offsets_cell):
            self._offsets, self._offsets_cell = self._shifts @ cell, cell.copy()
        vectors = continuous.take(self._second, axis=0)
        vectors -= continuous.take(self._first, axis=0)
        vectors += self._offsets
        return self._within_cutoff(vectors, cell)

    def _is_valid(self, scaled: np.ndarray, cell: np.ndarray) -> bool:
        if len(self._scaled) == 0 or self._reach == self._cutoff:
            return False
        moves = scaled - self._scaled
        moves = (moves - np.rint(moves)) @ cell
        largest = float(np.sqrt(np.einsum("ij,ij->i", moves, moves).max()))
        shrinkage = float(np.linalg.svd(np.linalg.inv(self._cell) @ cell, compute_uv=False)[-1])
        return shrinkage * self._reach - 2.0 * largest >= self._cutoff

    def _searched(self, positions: np.ndarray, scaled: np.ndarray, cell: np.ndarray) -> Graph:
        first, second, shifts, vectors = self._search.compute(
            points=positions, box=cell, periodic=True, quantities="ijSD"
        )
        self.n_searches += 1
        self._first, self._second = first.astype(np.int32), second.astype(np.int32)
        self._shifts, self._offsets_cell = shifts.astype(float), np.zeros((3, 3))
        self._scaled, self._cell = scaled, cell.copy()
        return self._within_cutoff(vectors, cell)

    def _within_cutoff(self, vectors: np.ndarray, cell: np.ndarray) -> Graph:
        x, y, z = vectors.T
        near = np.flatnonzero(x * x + y * y + z * z < self._cutoff**2)
        return Graph(
            self._types,
            self._first.take(near),
            self._second.take(near),
            vectors.take(near, axis=0),
            float(abs(np.linalg.det(cell))),
        )
