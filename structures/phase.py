"""The phase of a structure, from the neighbourhood of each of its atoms.

An atom's neighbours are those within 1.25 times the mean distance of its twelve nearest atoms: a cutoff that adapts
to the local density and falls in the middle of the gap behind the twelfth neighbour of close-packed lattices and behind
the fourteenth of BCC. Atoms are then told apart by their neighbour-averaged bond-order parameters of degree 4 and 6
(Steinhardt, Nelson, Ronchetti, Phys. Rev. B 28, 784 (1983); Lechner, Dellago, J. Chem. Phys. 129, 114707 (2008)).
Unlike common-neighbour signatures, these change little when thermal motion or local relaxation makes or breaks a few
bonds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from ase import Atoms
from numpy.polynomial import Legendre, Polynomial
from numpy.polynomial.polynomial import polyval
from scipy.special import gammaln
from vesin import NeighborList

from ..errors import StructureError

AtomicPhase = Literal["fcc", "hcp", "bcc", "other"]
ATOMIC_PHASES: tuple[AtomicPhase, ...] = get_args(AtomicPhase)

_N_NEAREST = 12
_CUTOFF_FACTOR = 1.25
_REACH = 1.9  # cube roots of the volume per atom; holds the first two shells and their strain
# q4 / q6 of the perfect lattices and their numbers of neighbours, in the order of ATOMIC_PHASES. The ratio hardly
# changes with temperature, whereas both parameters shrink.
_RATIO = np.array([0.1909 / 0.5745, 0.0972 / 0.4848, 0.0364 / 0.5107])
_COORDINATION = np.array([12.0, 12.0, 14.0])
_RATIO_SPREAD, _COORDINATION_SPREAD = 0.04, 1.0  # of atoms displaced by 0.2 Å; the weights of a difference
_LEAST_ORDER = 0.25  # q6 of a liquid, a glass or a surface is smaller
_MAX_MISCOUNT = 1.5  # this many neighbours off the lattice's own number: another lattice (diamond has 16)


@dataclass(frozen=True)
class PhaseReport:
    """Which lattice the atoms of a structure are on.

    Attributes:
        fractions: share of atoms in each of ``"fcc"``, ``"hcp"``, ``"bcc"`` and ``"other"``; adds up to 1.
        per_atom: index into ``ATOMIC_PHASES`` of each atom, int8 ``[n_atoms]``.
        coordination: mean number of neighbours: 12 in FCC and HCP, 14 in BCC.
    """

    fractions: Mapping[AtomicPhase, float]
    per_atom: np.ndarray
    coordination: float

    @property
    def majority(self) -> AtomicPhase:
        """The most frequent one; ``"other"`` wins a tie."""
        return max(reversed(ATOMIC_PHASES), key=lambda phase: self.fractions[phase])


def classify_phase(atoms: Atoms) -> PhaseReport:
    """Find the lattice that the atoms of a periodic structure are on.

    Args:
        atoms: at least one atom in a periodic cell of any size; need not be on ideal sites.

    Raises:
        StructureError: no atoms, no periodic cell, or coordinates that are not finite.
    """
    center, neighbour, vectors = _bonds(atoms)
    n_atoms = len(atoms)
    n_bonds = np.bincount(center, minlength=n_atoms)
    q4, q6 = (_averaged_order(degree, center, neighbour, vectors, n_bonds) for degree in (4, 6))
    around = (n_bonds + np.bincount(center, n_bonds[neighbour], minlength=n_atoms)) / (1 + n_bonds)
    ratio = q4 / np.maximum(q6, _LEAST_ORDER)
    miscount = around[:, None] - _COORDINATION
    distance = ((ratio[:, None] - _RATIO) / _RATIO_SPREAD) ** 2 + (miscount / _COORDINATION_SPREAD) ** 2
    per_atom = distance.argmin(axis=1).astype(np.int8)
    is_other = (q6 < _LEAST_ORDER) | (np.abs(miscount).min(axis=1) > _MAX_MISCOUNT)
    per_atom[is_other] = ATOMIC_PHASES.index("other")
    share = np.bincount(per_atom, minlength=len(ATOMIC_PHASES)) / n_atoms
    return PhaseReport(dict(zip(ATOMIC_PHASES, share.tolist(), strict=True)), per_atom, float(n_bonds.mean()))


def _bonds(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonds in both directions, sorted by their first atom: its index, the other's, and unit vectors ``[n, 3]``."""
    n_atoms = len(atoms)
    cell = atoms.cell.array
    volume = abs(np.linalg.det(cell))
    if n_atoms == 0 or not (atoms.pbc.all() and volume > 0.0 and np.isfinite(volume)):
        raise StructureError(f"a phase can be found of atoms in a periodic cell, got {atoms!r}")
    if not np.isfinite(atoms.positions).all():
        raise StructureError("a phase cannot be found: some positions are not finite")
    cutoff = _REACH * (volume / n_atoms) ** (1.0 / 3.0)
    center, neighbour, distance, vector = NeighborList(cutoff=cutoff, full_list=True).compute(
        points=atoms.positions, box=cell, periodic=True, quantities="ijdD"
    )
    order = np.lexsort((distance, center))
    center, neighbour, distance, vector = center[order], neighbour[order], distance[order], vector[order]
    center, neighbour = center.astype(np.intp), neighbour.astype(np.intp)
    first = np.searchsorted(center, np.arange(n_atoms))
    is_near = np.arange(len(center)) - first[center] < _N_NEAREST
    n_near = np.bincount(center[is_near], minlength=n_atoms)
    mean = np.bincount(center[is_near], distance[is_near], minlength=n_atoms) / np.maximum(n_near, 1)
    is_bond = distance < _CUTOFF_FACTOR * mean[center]
    return center[is_bond], neighbour[is_bond], vector[is_bond] / distance[is_bond, None]


def _averaged_order(
    degree: int, center: np.ndarray, neighbour: np.ndarray, vectors: np.ndarray, n_bonds: np.ndarray
) -> np.ndarray:
    """Bond-order parameter ``[n_atoms]`` of a degree, its components averaged over each atom and its neighbours."""
    n_atoms = len(n_bonds)
    total = np.zeros(n_atoms)
    phase = np.ones(len(vectors), dtype=complex)
    for m, coefficients in enumerate(_harmonics(degree)):  # negative m are complex conjugates and add the same
        harmonic = phase * polyval(vectors[:, 2], coefficients)
        phase = phase * (vectors[:, 0] + 1j * vectors[:, 1])
        component = _sum_at(center, harmonic, n_atoms) / np.maximum(n_bonds, 1)
        averaged = (component + _sum_at(center, component[neighbour], n_atoms)) / (1 + n_bonds)
        total += (1.0 if m == 0 else 2.0) * np.abs(averaged) ** 2
    return np.sqrt(total)


@lru_cache(maxsize=8)
def _harmonics(degree: int) -> tuple[np.ndarray, ...]:
    """Polynomials in z that make the spherical harmonics m = 0, 1, … of a unit vector when multiplied by (x + iy)^m.

    They are normed so that their squares add up to 1 over all m from -degree to degree.
    """
    norms = np.exp(0.5 * (gammaln(degree - np.arange(degree + 1) + 1) - gammaln(degree + np.arange(degree + 1) + 1)))
    legendre = Legendre.basis(degree)
    return tuple(norm * legendre.deriv(m).convert(kind=Polynomial).coef for m, norm in enumerate(norms))


def _sum_at(index: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(index, values.real, size) + 1j * np.bincount(index, values.imag, size)
