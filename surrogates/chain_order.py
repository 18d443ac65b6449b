"""Three-body order: chains of two nearest-neighbour bonds, told apart by the angle between them.

Pairs alone cannot tell all orderings apart that many-body potentials do: what a bond contributes depends on the
element at the other side of the atom. The feature of an angle is the third moment, over all chains a–b–c of that angle,
of the elements' deviations from the mean composition. Elements are written in an orthonormal basis of n_elements − 1
directions, so that no element is special and no number is redundant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from scipy.linalg import helmert
from scipy.sparse import coo_array, csr_array

from ..structures.base import Phase
from ..structures.lattice import ParentLattice, parent_lattice

N_ANGLES: dict[Phase, int] = {"fcc": 4, "bcc": 3}
"""Angles between nearest-neighbour bonds: 60°, 90°, 120°, 180° in FCC; 70.5°, 109.5°, 180° in BCC."""
MAX_ANGLES = max(N_ANGLES.values())

_DENSE_SITES = 200


@dataclass(frozen=True)
class BondAngles:
    """The angles between the bonds of a site.

    Attributes:
        sizes: ordered pairs of bonds of each angle, smallest angle first, ``[n_angles]``.
        modes: orthonormal combinations of the bonds (columns), ``[n_bonds, n_bonds]``.
        strengths: ``[n_angles, n_bonds]``: the sum over pairs of bonds of an angle is the sum over modes of the product
            of their amplitudes times this.
    """

    sizes: np.ndarray
    modes: np.ndarray
    strengths: np.ndarray


@lru_cache(maxsize=4)
def bond_angles(phase: Phase) -> BondAngles:
    """The angles in an ideal lattice, bonds in the order of the columns of its table of neighbours."""
    lattice = parent_lattice(phase, "cubic", (4, 4, 4))
    offset = lattice.scaled_positions[lattice.neighbour_table(1)[0][0]] - lattice.scaled_positions[0]
    bonds = offset - np.rint(offset)
    cosine = np.round(bonds @ bonds.T / (bonds[0] @ bonds[0]), 6)
    classes = np.stack([cosine == c for c in np.unique(cosine)[-2::-1]]).astype(float)
    # Symmetric lattices make these matrices commute, so one generic combination has the modes of all.
    _, modes = np.linalg.eigh(np.tensordot(np.sqrt([2.0, 3.0, 5.0, 7.0])[: len(classes)], classes, axes=1))
    strengths = np.einsum("im,aij,jm->am", modes, classes, modes)
    return BondAngles(classes.sum(axis=(1, 2)), modes, strengths)


def n_terms(n_elements: int) -> int:
    """Numbers that describe the chains of one angle."""
    n = n_elements - 1
    return n * n * (n + 1) // 2


def from_layers(lattice: ParentLattice, layers: np.ndarray) -> np.ndarray:
    """Chain order of occupations.

    Args:
        lattice: the sites.
        layers: 1 where a site holds an element, ``[n_elements, n_sites, n]``.

    Returns:
        ``[n, MAX_ANGLES, n_terms]``; zeros for the angles that the lattice does not have.
    """
    n_elements, n_sites, n = layers.shape
    angles = bond_angles(lattice.phase)
    n_modes = len(angles.modes)
    species = _species(n_elements, layers.reshape(n_elements, -1)).reshape(-1, n_sites, n)
    species = species - species.mean(axis=1, keepdims=True)
    operator = _mode_matrix(lattice)
    amplitudes = [(operator @ s).reshape(n_modes, n_sites * n) for s in species]
    order = np.zeros((n, MAX_ANGLES, n_terms(n_elements)))
    term = 0
    for q, r in combinations_with_replacement(range(n_elements - 1), 2):
        chains = (angles.strengths @ (amplitudes[q] * amplitudes[r])).reshape(-1, n_sites, n)
        weight = 1.0 if q == r else np.sqrt(2.0)
        for end in species:
            moments = np.einsum("asn,sn->na", chains, end)
            order[:, : len(angles.sizes), term] = weight / n_sites * moments / angles.sizes
            term += 1
    return order


def from_bonds(
    phase: Phase, species_index: np.ndarray, n_elements: int, neighbours: np.ndarray, bonds: np.ndarray
) -> np.ndarray:
    """Chain order of a structure that may be distorted: angles are told apart by their rank at each atom.

    Args:
        phase: whose angles to expect.
        species_index: element of each atom, ``[n_atoms]``.
        n_elements: how many there are.
        neighbours: nearest neighbours, ``[n_atoms, n_bonds]``.
        bonds: vectors to them, ``[n_atoms, n_bonds, 3]``.

    Returns:
        ``[MAX_ANGLES, n_terms]``.
    """
    angles = bond_angles(phase)
    n_atoms, n_bonds = neighbours.shape
    species = _species(n_elements, np.eye(n_elements)[:, species_index])
    species = species - species.mean(axis=1, keepdims=True)
    unit = bonds / np.linalg.norm(bonds, axis=2, keepdims=True)
    first, second = np.nonzero(~np.eye(n_bonds, dtype=bool))
    cosine = np.round(np.einsum("iax,ibx->iab", unit, unit)[:, first, second], 6)
    ranked = np.argsort(-cosine, axis=1, kind="stable")
    order = np.zeros((MAX_ANGLES, n_terms(n_elements)))
    around = species[:, neighbours]
    for angle, pairs in enumerate(np.split(ranked, np.cumsum(angles.sizes.astype(int))[:-1], axis=1)):
        rows = np.arange(n_atoms)[:, None]
        one, two = around[:, rows, first[pairs]], around[:, rows, second[pairs]]
        term = 0
        for q, r in combinations_with_replacement(range(n_elements - 1), 2):
            chains = (one[q] * two[r]).sum(axis=1)
            weight = 1.0 if q == r else np.sqrt(2.0)
            for end in species:
                order[angle, term] = weight * (chains * end).sum() / (n_atoms * angles.sizes[angle])
                term += 1
    return order


def _species(n_elements: int, layers: np.ndarray) -> np.ndarray:
    """Elements ``[n_elements, n]`` in an orthonormal basis of their differences, ``[n_elements - 1, n]``."""
    return helmert(n_elements).astype(layers.dtype) @ layers


@lru_cache(maxsize=16)
def _mode_matrix(lattice: ParentLattice) -> np.ndarray | csr_array:
    """Amplitude of each mode at each site as a function of the sites, ``[n_modes * n_sites, n_sites]``."""
    table = lattice.neighbour_table(1)[0]
    modes = bond_angles(lattice.phase).modes
    n_sites, n_bonds = table.shape
    rows = np.repeat(np.arange(n_bonds * n_sites), n_bonds)
    columns = np.tile(table.ravel(), n_bonds)
    values = np.repeat(modes.T, n_sites, axis=0).ravel()
    matrix = coo_array((values, (rows, columns)), shape=(n_bonds * n_sites, n_sites)).tocsr()
    return matrix.toarray() if n_sites <= _DENSE_SITES else matrix
