"""A spring model of a structure, whose inverse tells a minimiser which way the atoms will go.

Neighbours are joined by springs that are stiff along the bond and soft across it. The model needs no
potential; it only has to be close enough to the true Hessian for quasi-Newton steps to converge in few force
calls (the idea of Packwood et al., J. Chem. Phys. 144, 164109 (2016), with directed springs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from ase import Atoms
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu
from vesin import NeighborList

_REACH = 1.6
"""Springs reach this many nearest-neighbour distances: two shells of a metal."""
_DECAY = 4.0
"""A spring longer by a factor ``s`` than the shortest has the stiffness exp(-decay (s - 1))."""
_TRANSVERSE = 0.08
"""Stiffness across a bond over that along it."""
_GROUND = 0.02
"""Spring of each atom to its site, over its total stiffness; makes the matrix definite under translation."""
_DENSE_LIMIT = 600


class LinearSolver(Protocol):
    """Displacements under forces."""

    def solve(self, forces: np.ndarray) -> np.ndarray:
        """Displacements ``[n_atoms, 3]`` under ``forces`` ``[n_atoms, 3]``, for a bulk modulus of one."""
        ...


class SpringModel:
    """Inverse Hessian of a spring model, for displacements ``[n_atoms, 3]``.

    Its stiffness is in units of the bulk modulus times length: multiply by a bulk modulus in eV/Å^3 for eV/Å^2.

    Args:
        scaled_positions: ``[n_atoms, 3]``, fractions of the cell.
        cell: rows are vectors, ``[3, 3]``, Å.
        tether: stiffness of a further spring of each atom to its site.
    """

    def __init__(self, scaled_positions: np.ndarray, cell: np.ndarray, *, tether: float = 0.0) -> None:
        n_atoms = len(scaled_positions)
        volume = abs(float(np.linalg.det(cell)))
        spacing = (np.sqrt(2.0) * volume / n_atoms) ** (1.0 / 3.0)
        i, j, vectors, lengths = NeighborList(cutoff=_REACH * spacing, full_list=True).compute(
            points=scaled_positions @ cell, box=cell, periodic=True, quantities="ijDd"
        )
        is_bond = lengths > 1e-6 * spacing
        i, j, vectors, lengths = i[is_bond].astype(int), j[is_bond].astype(int), vectors[is_bond], lengths[is_bond]
        along = np.exp(-_DECAY * (lengths / spacing - 1.0))
        # a spring network has 9 B V = sum over bonds of k r^2; choose k so that B is one
        along *= 9.0 * volume / max(0.5 * float(along @ lengths**2), 1e-12)
        unit = vectors / lengths[:, None]
        outer = unit[:, :, None] * unit[:, None, :]
        blocks = along[:, None, None] * (_TRANSVERSE * np.eye(3) + (1.0 - _TRANSVERSE) * outer)
        diagonal = np.zeros((n_atoms, 3, 3))
        np.add.at(diagonal, i, blocks)
        ground = _GROUND * float(np.trace(diagonal.mean(axis=0))) / 3.0 + tether
        diagonal += ground * np.eye(3)
        rows = np.concatenate([i, np.arange(n_atoms)])
        columns = np.concatenate([j, np.arange(n_atoms)])
        values = np.concatenate([-blocks, diagonal])
        axis = np.arange(3)
        shape = (len(rows), 3, 3)
        matrix = coo_matrix(
            (
                values.ravel(),
                (
                    np.broadcast_to(3 * rows[:, None, None] + axis[:, None], shape).ravel(),
                    np.broadcast_to(3 * columns[:, None, None] + axis, shape).ravel(),
                ),
            ),
            shape=(3 * n_atoms, 3 * n_atoms),
        )
        self._inverse: np.ndarray | None = None
        if n_atoms <= _DENSE_LIMIT:
            inverse = np.linalg.inv(matrix.toarray())
            self._inverse = 0.5 * (inverse + inverse.T)
        else:
            self._factors = splu(matrix.tocsc())

    def solve(self, forces: np.ndarray) -> np.ndarray:
        """Displacements ``[n_atoms, 3]`` under ``forces`` ``[n_atoms, 3]``, for a bulk modulus of one."""
        flat = forces.ravel()
        moved = self._inverse @ flat if self._inverse is not None else self._factors.solve(flat)
        return moved.reshape(forces.shape)


@dataclass(frozen=True)
class WithoutSites:
    """A spring model of a crystal with vacancies: the model of the perfect crystal, whose missing atoms feel no force.

    The perfect crystal's model is the same whichever site is empty, so that it is built once.

    Attributes:
        perfect: model of all sites.
        is_present: ``[n_sites]``, whether there is an atom.
    """

    perfect: LinearSolver
    is_present: np.ndarray

    def solve(self, forces: np.ndarray) -> np.ndarray:
        """Displacements ``[n_atoms, 3]`` under ``forces`` ``[n_atoms, 3]``, for a bulk modulus of one."""
        padded = np.zeros((len(self.is_present), 3))
        padded[self.is_present] = forces
        return self.perfect.solve(padded)[self.is_present]


def spring_model(atoms: Atoms, *, tether: float = 0.0) -> SpringModel:
    """The spring model of a structure's shape; that of an ideal lattice is built once, whatever its volume.

    Args:
        tether: stiffness of a further spring of each atom to its site, in bulk moduli times lengths.
    """
    volume_root = abs(np.linalg.det(atoms.cell.array)) ** (1.0 / 3.0)
    shape = np.round(atoms.cell.array / volume_root, 7)
    scaled = np.round(atoms.cell.scaled_positions(atoms.positions), 7)
    return _cached(scaled.tobytes(), (shape * len(atoms) ** (1.0 / 3.0)).tobytes(), tether)


@lru_cache(maxsize=16)
def _cached(scaled_bytes: bytes, cell_bytes: bytes, tether: float) -> SpringModel:
    scaled = np.frombuffer(scaled_bytes).reshape(-1, 3)
    return SpringModel(scaled, np.frombuffer(cell_bytes).reshape(3, 3), tether=tether)
