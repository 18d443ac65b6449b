"""Finding the ideal site of each atom of a (relaxed) structure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from ase import Atoms

from ..errors import StructureError
from .lattice import ParentLattice

_AXES = [list(axes) for axes in permutations(range(3))]
_MAX_STRAIN = 0.12  # largest logarithmic strain of the cell shape; FCC and BCC are 0.23 apart along the Bain path
_MAX_DISPLACEMENT = 0.45  # from the site, as a fraction of the nearest-neighbour distance; half is ambiguous


def locate_sites(atoms: Atoms, lattices: Sequence[ParentLattice]) -> tuple[ParentLattice, np.ndarray]:
    """The lattice whose sites ``atoms`` sit near, and the atom on each of its sites.

    Args:
        atoms: periodic structure, strained and relaxed moderately; its origin, its orientation, the order of its
            atoms and of its three cell vectors are free.
        lattices: to try; among several the one with the nearest cell shape is taken.

    Returns:
        The lattice, and indices of atoms int ``[n_sites]`` in the order of its sites: ``0, 1, 2, …`` whenever the
        atoms are in site order already.

    Raises:
        StructureError: no lattice fits.
    """
    sizes = sorted({lattice.n_sites for lattice in lattices})
    if len(atoms) not in sizes:
        raise StructureError(
            f"{len(atoms)} atoms do not fit the lattices, which have {', '.join(map(str, sizes))} sites"
        )
    volume = abs(np.linalg.det(atoms.cell.array))
    if not (np.isfinite(atoms.positions).all() and np.isfinite(volume) and volume > 1e-6):
        raise StructureError("the structure has no volume, or coordinates that are not finite")
    cell = atoms.cell.array * (len(atoms) / volume) ** (1.0 / 3.0)
    scaled = atoms.positions @ np.linalg.inv(atoms.cell.array)

    fits = [(lattice, axes) for axes in _AXES for lattice in lattices if lattice.n_sites == len(atoms)]
    strains = _strains(np.stack([cell[axes] for _, axes in fits]), np.stack([lattice.unit_cell for lattice, _ in fits]))
    for fit in np.argsort(np.round(strains, 6), kind="stable"):  # ties keep the cell's own order of axes
        if strains[fit] > _MAX_STRAIN:
            break
        lattice, axes = fits[fit]
        atom_of_site = _match(scaled[:, axes], lattice)
        if atom_of_site is not None:
            return lattice, atom_of_site
    names = " or ".join(lattice.describe() for lattice in lattices)
    raise StructureError(
        f"the structure is not on the sites of a {names} cell: smallest strain of the cell "
        f"{strains.min():.3f} (allowed {_MAX_STRAIN:g}), atoms may be at most "
        f"{_MAX_DISPLACEMENT:g} neighbour distances off their sites"
    )


def _strains(cells: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Largest logarithmic strain ``[n]`` between cells ``[n, 3, 3]`` of equal volume, whatever their orientation."""
    to_reference = np.linalg.inv(references) @ cells
    stretch = np.linalg.eigvalsh(np.swapaxes(to_reference, 1, 2) @ to_reference)
    return np.abs(0.5 * np.log(stretch)).max(axis=1)


def _match(scaled: np.ndarray, lattice: ParentLattice) -> np.ndarray | None:
    """Atom on each site, or ``None`` if some atom is near no site or two are near the same."""
    limit = _MAX_DISPLACEMENT * lattice.shell_distances(1)[0]
    in_order = _displacements(scaled - lattice.scaled_positions, lattice)
    if np.linalg.norm(in_order, axis=1).max() < limit:
        return np.arange(len(scaled))
    # All sites are translations of each other, so the first atom may be put on the first site.
    shifted = scaled - scaled[0] + lattice.scaled_positions[0]
    for _ in range(2):  # the second time without the first atom's own displacement
        offsets = _wrapped(shifted[:, None] - lattice.scaled_positions[None, :]) @ lattice.unit_cell
        site_of_atom = np.linalg.norm(offsets, axis=2).argmin(axis=1)
        if len(set(site_of_atom.tolist())) < len(scaled):
            return None
        residual = _wrapped(shifted - lattice.scaled_positions[site_of_atom])
        shifted = shifted - residual.mean(axis=0)
    if np.linalg.norm((residual - residual.mean(axis=0)) @ lattice.unit_cell, axis=1).max() >= limit:
        return None
    return np.argsort(site_of_atom)


def _displacements(difference: np.ndarray, lattice: ParentLattice) -> np.ndarray:
    """Displacements ``[n_atoms, 3]`` from the sites, less the drift common to all atoms."""
    wrapped = _wrapped(difference - difference[0])
    return (wrapped - wrapped.mean(axis=0)) @ lattice.unit_cell


def _wrapped(difference: np.ndarray) -> np.ndarray:
    return difference - np.rint(difference)
