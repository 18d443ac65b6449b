"""Where a relaxation begins: at the relaxed structure of a neighbour when there is one that fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Request
from .lammps_oracle import GPA_PER_EV_ANG3

DEFAULT_BULK_MODULUS_EV_ANG3 = 1.1
"""176 GPa, a transition metal's; only the first step depends on it."""
_MAX_SITE_SHIFT = 0.35
"""In cube roots of the volume per atom: sites that are further apart are not the same site."""
_MAX_SHAPE_DIFFERENCE = 0.02


@dataclass(frozen=True)
class FirstGuess:
    """A structure near the relaxed one, and its stiffness.

    Attributes:
        positions: ``[n_atoms, 3]``, Å.
        cell: ``[3, 3]``, Å.
        bulk_modulus_ev_ang3: estimate, eV/Å^3.
        is_warm: whether a neighbour was used.
    """

    positions: np.ndarray
    cell: np.ndarray
    bulk_modulus_ev_ang3: float
    is_warm: bool


def first_guess(request: Request, *, is_volume_kept: bool = False) -> FirstGuess:
    """The neighbour's relaxed sites in the request's cell shape, at the neighbour's volume.

    A neighbour with another number of atoms, cell shape or order of sites is left aside: the request's own structure
    is then the guess.

    Args:
        request: the structure and perhaps its neighbour.
        is_volume_kept: keep the request's own cell, for a relaxation in a fixed cell.
    """
    atoms = request.atoms
    cold = FirstGuess(atoms.positions.copy(), atoms.cell.array.copy(), DEFAULT_BULK_MODULUS_EV_ANG3, is_warm=False)
    warm = request.warm_start
    if warm is None or len(warm.atoms) != len(atoms) or len(atoms) == 0:
        return cold
    cell, other = atoms.cell.array, warm.atoms.cell.array
    volume, other_volume = abs(np.linalg.det(cell)), abs(np.linalg.det(other))
    if not (volume > 0.0 and other_volume > 0.0 and np.isfinite(volume * other_volume)):
        return cold
    scale = (other_volume / volume) ** (1.0 / 3.0)
    length = volume ** (1.0 / 3.0)
    if np.abs(other / scale - cell).max() > _MAX_SHAPE_DIFFERENCE * length:
        return cold
    ideal = atoms.positions @ np.linalg.inv(cell)
    shift = warm.atoms.positions @ np.linalg.inv(other) - ideal
    shift -= np.round(shift)
    shift -= shift.mean(axis=0)
    spacing = (volume / len(atoms)) ** (1.0 / 3.0)
    if not np.linalg.norm(shift @ cell, axis=1).max() < _MAX_SITE_SHIFT * spacing:
        return cold
    bulk_modulus = warm.values.get("bulk_modulus_gpa", 0.0) / GPA_PER_EV_ANG3
    if not 0.005 < bulk_modulus < 10.0:
        bulk_modulus = DEFAULT_BULK_MODULUS_EV_ANG3
    if is_volume_kept:
        scale = 1.0
    return FirstGuess((ideal + shift) @ (scale * cell), scale * cell, float(bulk_modulus), is_warm=True)
