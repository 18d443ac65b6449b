"""The BCC or FCC lattice beneath the atoms of a crystal, whatever its cell, orientation and relaxation.

Neighbour vectors of the same lattice direction average to that lattice vector exactly when they are summed over all
atoms of a periodic crystal, because displacements cancel. From there on sites are integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from vesin import NeighborList

from ...errors import StructureError
from ...structures.base import Phase

_REACH = 1.355  # cube roots of the volume per atom: behind the 12 neighbours of FCC and the 14 of BCC
_NEIGHBOURS: dict[int, Phase] = {12: "fcc", 14: "bcc"}
_HALF_STEPS_PER_SITE: dict[Phase, int] = {"fcc": 2, "bcc": 4}
"""Volume of a site where the cubic lattice constant is 2."""


@dataclass(frozen=True, eq=False)
class CrystalLattice:
    """Atoms as sites of a lattice.

    Attributes:
        phase: ``"fcc"`` or ``"bcc"``.
        axes: ``[3, 3]``, rows are the cubic lattice vectors, Å.
        sites: int64 ``[n_atoms, 3]``, site of each atom in halves of the cubic vectors.
        cell: int64 ``[3, 3]``, rows are the cell's vectors in halves of the cubic vectors.
    """

    phase: Phase
    axes: np.ndarray
    sites: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, atoms: Atoms) -> CrystalLattice:
        """The lattice of a crystal without vacant sites.

        Args:
            atoms: periodic; relaxed or not, in any cell and orientation. A vacancy is an atom like others.

        Raises:
            StructureError: the atoms are no FCC or BCC crystal.
        """
        phase, vectors = _neighbour_vectors(atoms)
        axes = _cubic_axes(phase, vectors)
        steps = 2.0 * atoms.cell.array @ np.linalg.inv(axes)
        cell = np.rint(steps).astype(np.int64)
        n_sites = abs(round(np.linalg.det(cell))) / _HALF_STEPS_PER_SITE[phase]
        if np.abs(steps - cell).max() > 0.3 or n_sites != len(atoms):
            raise StructureError(
                f"the cell is not one of {len(atoms)} {phase} sites; give the perfect crystal, or a vacancy's position"
            )
        axes = 2.0 * np.linalg.inv(cell) @ atoms.cell.array
        steps = 2.0 * (atoms.positions - atoms.positions[0]) @ np.linalg.inv(axes)
        for _ in range(3):  # the first atom may be off its site by more than most
            sites = _nearest_sites(phase, steps)
            steps = steps - (steps - sites).mean(axis=0)
        lattice = cls(phase, axes, sites, cell)
        if len(np.unique(lattice._keys(sites))) != len(atoms):
            raise StructureError(f"atoms are too far from the sites of a {phase} lattice: two of them share one")
        return lattice

    def atoms_at(self, sites: np.ndarray) -> np.ndarray:
        """Index of the atom at each of the sites ``[..., 3]``, which may lie outside the cell; int64 ``[...]``."""
        return self.atom_of_key[self._keys(sites)]

    @cached_property
    def atom_of_key(self) -> np.ndarray:
        """Number of the atom at each site of the cell, by the site's number (see :meth:`_keys`); int64."""
        table = np.full(abs(round(np.linalg.det(self.cell))), -1, dtype=np.int64)
        table[self._keys(self.sites)] = np.arange(len(self.sites))
        return table

    @cached_property
    def triangle(self) -> np.ndarray:
        """A basis of the cell's translations that is upper triangular with a positive diagonal, int64 ``[3, 3]``."""
        basis = self.cell.copy()
        for column in range(3):
            for row in range(column + 1, 3):
                while basis[row, column] != 0:  # Euclid's algorithm on two rows
                    quotient = basis[column, column] // basis[row, column]
                    basis[[column, row]] = basis[row], basis[column] - quotient * basis[row]
        return np.asarray(basis * np.where(np.diag(basis) < 0, -1, 1)[:, None])

    def _keys(self, sites: np.ndarray) -> np.ndarray:
        """Number of each site in the cell: equal for sites that a translation of the cell connects."""
        rest = np.array(sites, dtype=np.int64)
        for k, row in enumerate(self.triangle):
            rest -= (rest[..., k] // row[k])[..., None] * row
        _, second, third = np.diag(self.triangle)
        return np.asarray((rest[..., 0] * second + rest[..., 1]) * third + rest[..., 2])


def _neighbour_vectors(atoms: Atoms) -> tuple[Phase, np.ndarray]:
    """The phase, and the mean vectors ``[12 or 14, 3]`` to the neighbours, Å."""
    volume = abs(atoms.cell.volume) / max(1, len(atoms))
    if not (atoms.pbc.all() and volume > 1e-3 and np.isfinite(atoms.positions).all()):
        raise StructureError("the structure is no periodic crystal")
    search = NeighborList(cutoff=_REACH * volume ** (1.0 / 3.0), full_list=True, sorted=True)
    first, vectors = search.compute(points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="iD")
    counts = np.bincount(first, minlength=len(atoms))
    n_neighbours = min(_NEIGHBOURS, key=lambda n: abs(n - counts.mean()))
    has_all = np.flatnonzero(counts == n_neighbours)
    if abs(n_neighbours - counts.mean()) > 0.5 or len(has_all) == 0:
        raise StructureError(f"the atoms have {counts.mean():.1f} neighbours; an FCC crystal has 12, a BCC one 14")
    means = vectors[first == has_all[0]]
    for _ in range(2):
        nearest = _nearest(vectors, means)
        sums = np.stack([np.bincount(nearest, vectors[:, k], minlength=len(means)) for k in range(3)], axis=1)
        means = sums / np.maximum(1, np.bincount(nearest, minlength=len(means)))[:, None]
    return _NEIGHBOURS[n_neighbours], means


def _nearest(vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Index of the nearest mean to each vector, in parts that fit into memory."""
    half_squares = 0.5 * (means**2).sum(axis=1)
    parts = np.array_split(vectors, 1 + len(vectors) // 100_000)
    return np.concatenate([(part @ means.T - half_squares).argmax(axis=1) for part in parts])


def _cubic_axes(phase: Phase, vectors: np.ndarray) -> np.ndarray:
    """The right-handed cubic lattice vectors ``[3, 3]``, Å, from those to the neighbours."""
    if phase == "fcc":  # two neighbour vectors at a right angle add up to a cubic one
        lengths = np.linalg.norm(vectors, axis=1)
        first, second = np.triu_indices(len(vectors), 1)
        cosines = (vectors[first] * vectors[second]).sum(axis=1) / (lengths[first] * lengths[second])
        is_square = np.abs(cosines) < 0.25
        candidates = vectors[first[is_square]] + vectors[second[is_square]]
    else:
        candidates = vectors[np.argsort(np.linalg.norm(vectors, axis=1))[8:]]
    directions = candidates / np.linalg.norm(candidates, axis=1)[:, None]
    order = np.lexsort(np.rint(4.0 * directions).T)[::-1]
    candidates, directions = candidates[order], directions[order]
    axes: list[int] = []
    for k, direction in enumerate(directions):
        if all(abs(direction @ directions[other]) < 0.5 for other in axes):
            axes.append(k)
    if len(axes) != 3:
        raise StructureError(f"the neighbours of the atoms do not form a {phase} lattice")
    found = candidates[axes]
    return found if np.linalg.det(found) > 0.0 else found[[1, 0, 2]]


def _nearest_sites(phase: Phase, steps: np.ndarray) -> np.ndarray:
    """The lattice sites ``[n, 3]`` nearest to positions, both in halves of the cubic vectors.

    BCC sites have three even or three odd numbers; FCC sites an even sum.
    """
    if phase == "bcc":
        even, odd = 2.0 * np.rint(steps / 2.0), 2.0 * np.floor(steps / 2.0) + 1.0
        is_odd = ((steps - odd) ** 2).sum(axis=1) < ((steps - even) ** 2).sum(axis=1)
        return np.where(is_odd[:, None], odd, even).astype(np.int64)
    nearest = np.rint(steps)
    worst = np.abs(steps - nearest).argmax(axis=1)
    rows = np.arange(len(steps))
    other = nearest.copy()
    other[rows, worst] += np.where(steps[rows, worst] >= nearest[rows, worst], 1.0, -1.0)
    is_even = nearest.sum(axis=1) % 2 == 0
    return np.where(is_even[:, None], nearest, other).astype(np.int64)
