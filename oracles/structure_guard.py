"""Refuses structures on which LAMMPS would hang, return NaN, or exhaust the memory."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from vesin import NeighborList

from .base import FailureKind, OracleError

MIN_VOLUME_PER_ATOM_ANG3 = 2.5
"""Half of diamond's: below it a cell is broken, and LAMMPS may build neighbour lists for ever."""
MAX_VOLUME_PER_ATOM_ANG3 = 1.0e5
MIN_DISTANCE_ANG = 0.7
"""Shorter than any bond; coincident atoms give NaN energies without an error."""
_SEARCH_ANG = 2.0
"""Neighbours are looked for this far: six times faster than with cells of the smallest distance."""
MIN_CELL_HEIGHT_ANG = 1.0


def check_structure(atoms: Atoms) -> None:
    """Check that a structure is one LAMMPS can safely be given.

    Raises:
        OracleError: ``bad_structure``: no atoms, not periodic, not finite, an impossible cell or density, or atoms
            on top of each other.
    """
    if len(atoms) == 0:
        raise OracleError(FailureKind.BAD_STRUCTURE, "the structure has no atoms")
    if not atoms.pbc.all():
        raise OracleError(
            FailureKind.BAD_STRUCTURE,
            f"the structure is periodic along {atoms.pbc.tolist()}; all three are needed (add vacuum to a slab)",
        )
    check_geometry(atoms.positions, atoms.cell.array)
    check_distances(atoms.positions, atoms.cell.array)


def check_geometry(positions: np.ndarray, cell: np.ndarray) -> None:
    """Check finiteness, density and cell heights; cheap enough for every force call.

    Args:
        positions: ``[n_atoms, 3]``, Å.
        cell: rows are vectors, ``[3, 3]``, Å.

    Raises:
        OracleError: ``bad_structure``.
    """
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise OracleError(FailureKind.BAD_STRUCTURE, "the structure has coordinates that are NaN or infinite")
    per_atom = abs(float(np.linalg.det(cell))) / len(positions)
    if not MIN_VOLUME_PER_ATOM_ANG3 <= per_atom <= MAX_VOLUME_PER_ATOM_ANG3:
        raise OracleError(
            FailureKind.BAD_STRUCTURE,
            f"the cell has {per_atom:.4g} Å^3 per atom; {MIN_VOLUME_PER_ATOM_ANG3} to {MAX_VOLUME_PER_ATOM_ANG3:g} "
            "are allowed",
            {"volume_ang3_per_atom": per_atom},
        )
    reciprocal = np.linalg.inv(cell)
    height = float(1.0 / np.sqrt((reciprocal**2).sum(axis=0).max()))
    if height < MIN_CELL_HEIGHT_ANG:
        raise OracleError(
            FailureKind.BAD_STRUCTURE,
            f"the cell is flat: its smallest height is {height:.4g} Å, at least {MIN_CELL_HEIGHT_ANG} is needed",
            {"cell_height_ang": height},
        )


def check_distances(positions: np.ndarray, cell: np.ndarray) -> None:
    """Check that no two atoms, nor an atom and its image, are closer than :data:`MIN_DISTANCE_ANG`.

    Raises:
        OracleError: ``bad_structure``, with the closest pair.
    """
    neighbours = NeighborList(cutoff=_SEARCH_ANG, full_list=False)
    i, j, distances = neighbours.compute(points=positions, box=cell, periodic=True, quantities="ijd")
    k = int(np.argmin(distances)) if len(distances) > 0 else -1
    if k >= 0 and distances[k] < MIN_DISTANCE_ANG:
        raise OracleError(
            FailureKind.BAD_STRUCTURE,
            f"atoms {int(i[k])} and {int(j[k])} are {distances[k]:.3g} Å apart; at least {MIN_DISTANCE_ANG} is needed",
            {"atoms": [int(i[k]), int(j[k])], "distance_ang": float(distances[k])},
        )
