"""Short-range order: which elements are neighbours, shell by shell.

Pairs of elements are unordered and come as (0, 0), (0, 1), …, (0, m-1), (1, 1), …, as :func:`pairs` lists them.
The Warren-Cowley parameter of a pair is ``α_ab = 1 - p_ab / (c_a c_b)``, ``p_ab`` being the share of bonds that lead
from an a to a b: 0 for a random alloy, negative for neighbours that attract (J. M. Cowley, Phys. Rev. 77, 669 (1950)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from ase import Atoms
from vesin import NeighborList

from ..errors import StructureError
from .base import Phase
from .lattice import ParentLattice, parent_lattice

_BATCH_BONDS = 4_000_000  # bounds the memory of a batch to some 100 MB


def pairs(n_elements: int) -> list[tuple[int, int]]:
    """The unordered pairs of element indices, in the order of all arrays of this module."""
    return [(a, b) for a in range(n_elements) for b in range(a, n_elements)]


def pair_probabilities(lattice: ParentLattice, occupations: np.ndarray, n_elements: int, n_shells: int) -> np.ndarray:
    """Share of the bonds of each shell that join each pair of elements.

    Args:
        occupations: int8 ``[n_structures, n_sites]``.

    Returns:
        ``[n_structures, n_shells, n_pairs]``; adds up to 1 over the pairs.
    """
    occupations = np.atleast_2d(np.asarray(occupations))
    shells = np.empty((len(occupations), n_shells, n_elements * (n_elements + 1) // 2))
    for k, table in enumerate(lattice.neighbour_table(n_shells)):
        # A shell's vectors come as v and -v in mirrored columns: the first half has each bond once.
        bonds = table[:, : table.shape[1] // 2]
        batch = max(1, _BATCH_BONDS // bonds.size)
        for start in range(0, len(occupations), batch):
            rows = occupations[start : start + batch].astype(np.intp)
            codes = n_elements * rows[:, :, None] + rows[:, bonds]
            shells[start : start + batch, k] = _shares(codes.reshape(len(rows), -1), n_elements)
    return shells


def warren_cowley(lattice: ParentLattice, occupations: np.ndarray, n_elements: int, n_shells: int) -> np.ndarray:
    """Warren-Cowley parameters of lattice occupations.

    Args:
        occupations: int8 ``[n_structures, n_sites]``.

    Returns:
        ``[n_structures, n_shells, n_pairs]``; 0 for a pair with an element that is absent.
    """
    occupations = np.atleast_2d(np.asarray(occupations))
    probabilities = pair_probabilities(lattice, occupations, n_elements, n_shells)
    fractions = np.stack([(occupations == k).mean(axis=1) for k in range(n_elements)], axis=1)
    return _parameters(probabilities, fractions)


def warren_cowley_of_atoms(
    atoms: Atoms,
    phase: Phase,
    n_shells: int,
    elements: Sequence[str] | None = None,
    shells: Literal["rank", "distance"] = "rank",
) -> np.ndarray:
    """Warren-Cowley parameters of any FCC- or BCC-like structure: relaxed, strained, in a cell of any size.

    Args:
        atoms: periodic structure.
        phase: whose shells to count.
        elements: symbols that define the pairs; by default those present, in alphabetical order.
        shells: ``"rank"`` gives each atom's 12 nearest atoms (of FCC) to the first shell, the next 6 to the second, …,
            however the cell is strained; ``"distance"`` divides half way between the ideal radii at the mean
            density, and leaves out what lies behind the last shell.

    Returns:
        ``[n_shells, n_pairs]``; 0 for a pair with an element that is absent.

    Raises:
        StructureError: no periodic cell, an element outside ``elements``, or a shell without any bond.
    """
    symbols = np.array(atoms.get_chemical_symbols())
    names = sorted(set(symbols.tolist())) if elements is None else list(elements)
    missing = sorted(set(symbols.tolist()) - set(names))
    volume = abs(np.linalg.det(atoms.cell.array))
    if missing:
        raise StructureError(f"the structure holds {', '.join(missing)}, the elements are {', '.join(names)}")
    if len(atoms) == 0 or not (atoms.pbc.all() and volume > 0.0):
        raise StructureError(f"short-range order needs atoms in a periodic cell, got {atoms!r}")
    occupation = np.array([names.index(s) for s in symbols.tolist()])
    radii = parent_lattice(phase).shell_distances(n_shells + 1) * (volume / len(atoms)) ** (1.0 / 3.0)
    edges = 0.5 * (radii[:-1] + radii[1:])
    cutoff = float(edges[-1]) if shells == "distance" else 1.25 * float(radii[-1])
    i, j, distance = NeighborList(cutoff=cutoff, full_list=True).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijd"
    )
    if shells == "distance":
        shell = np.searchsorted(edges, distance)
    else:
        order = np.lexsort((distance, i))
        i, j = i[order], j[order]
        rank = np.arange(len(i)) - np.searchsorted(i, i)
        sizes = [table.shape[1] for table in parent_lattice(phase).neighbour_table(n_shells)]
        shell = np.searchsorted(np.cumsum(sizes), rank, side="right")
    codes = len(names) * occupation[i.astype(np.intp)] + occupation[j.astype(np.intp)]
    probabilities = np.empty((1, n_shells, len(pairs(len(names)))))
    for k in range(n_shells):
        if not (shell == k).any():
            raise StructureError(f"shell {k + 1} of {phase} holds no bond in this structure; ask for fewer shells")
        probabilities[0, k] = _shares(codes[None, shell == k], len(names))[0]
    fractions = np.bincount(occupation, minlength=len(names)) / len(atoms)
    return _parameters(probabilities, fractions[None])[0]


def _shares(codes: np.ndarray, n_elements: int) -> np.ndarray:
    """Share of each unordered pair, ``[n, n_pairs]``, among bonds ``[n, n_bonds]`` coded ``a * n_elements + b``."""
    n, n_bonds = codes.shape
    offsets = n_elements**2 * np.arange(n)[:, None]
    ordered = np.bincount((codes + offsets).ravel(), minlength=n * n_elements**2).reshape(n, n_elements, n_elements)
    both = ordered + ordered.transpose(0, 2, 1)
    a, b = np.triu_indices(n_elements)
    return both[:, a, b] / np.where(a == b, 2.0, 1.0) / n_bonds


def _parameters(probabilities: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Warren-Cowley parameters from pair probabilities ``[n, n_shells, n_pairs]`` and fractions ``[n, n_elements]``."""
    a, b = np.triu_indices(fractions.shape[1])
    random = np.where(a == b, 1.0, 2.0) * fractions[:, a] * fractions[:, b]
    expected = np.broadcast_to(random[:, None, :], probabilities.shape)
    is_present = expected > 0.0
    return np.where(is_present, 1.0 - probabilities / np.where(is_present, expected, 1.0), 0.0)
