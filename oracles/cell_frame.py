"""The rotated, reduced cell in which LAMMPS holds a structure.

LAMMPS wants a lower-triangular cell with a positive diagonal and small tilts. Any cell (left-handed too)
can be written as ``cell = lower @ rotation`` with an orthogonal ``rotation``; subtracting whole lattice vectors
then makes the tilts small without changing the crystal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CellFrame:
    """Map between a structure's own axes and those of LAMMPS.

    Attributes:
        box: lower-triangular cell of LAMMPS, rows are vectors, ``[3, 3]``, Å.
        rotation: orthogonal ``[3, 3]``; a row vector ``v`` of LAMMPS is ``v @ rotation`` in the structure's axes.
            Its determinant is -1 for left-handed cells, which no energy notices.
    """

    box: np.ndarray
    rotation: np.ndarray

    @classmethod
    def of_cell(cls, cell: np.ndarray) -> CellFrame:
        """Frame of a cell with rows as vectors, ``[3, 3]``, Å; its volume must not be zero."""
        is_triangular = cell[0, 1] == 0.0 and cell[0, 2] == 0.0 and cell[1, 2] == 0.0
        if is_triangular and cell[0, 0] > 0.0 and cell[1, 1] > 0.0 and cell[2, 2] > 0.0:
            return cls(box=_reduced(cell), rotation=np.eye(3))
        q, r = np.linalg.qr(cell.T)  # cell = r.T @ q.T
        signs = np.where(np.diag(r) < 0.0, -1.0, 1.0)
        return cls(box=_reduced(np.tril(r.T * signs)), rotation=(q * signs).T)

    def wrapped(self, positions: np.ndarray) -> np.ndarray:
        """Positions ``[n, 3]`` in LAMMPS' axes, inside its box."""
        inside = positions @ self.rotation.T
        scaled = inside @ np.linalg.inv(self.box)
        return np.ascontiguousarray(inside - np.floor(scaled) @ self.box)

    def vectors_out(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors ``[n, 3]`` of LAMMPS (forces) in the structure's axes."""
        return vectors @ self.rotation

    def tensor_out(self, tensor: np.ndarray) -> np.ndarray:
        """A second-rank tensor ``[3, 3]`` of LAMMPS (stress) in the structure's axes."""
        return self.rotation.T @ tensor @ self.rotation


def _reduced(lower: np.ndarray) -> np.ndarray:
    """Equivalent lower-triangular cell whose tilts are at most half (a hair more) of the lattice vector above."""
    box = lower.copy()
    for row, column in ((1, 0), (2, 1), (2, 0)):
        ratio = box[row, column] / box[column, column]
        # the hair keeps tilts of exactly one half, as in primitive fcc cells, from flipping by rounding
        n_shifts = np.sign(ratio) * np.floor(abs(ratio) + 0.5 - 1e-6)
        box[row] -= n_shifts * box[column]
    return box
