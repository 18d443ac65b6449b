"""What surrogates see of a structure: its phase, its composition and the order of pairs and chains of atoms.

For each shell and each pair of unlike elements a < b the feature is the *pair excess* ``P_ab − x_a x_b``: the
probability that a site and one of its neighbours in that shell hold a and b, less that of a random solution. (Divided
by ``−x_a x_b`` it would be the Warren-Cowley parameter, which is undefined where an element is absent.) Pairs of like
elements add nothing, since every row of excesses sums to zero. Chains are those of :mod:`.chain_order`.

Features do not depend on the order of sites, on the size of the cell that repeats a structure, or on symmetry
operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import get_args

import numpy as np
import vesin
from ase import Atoms
from ase.data import atomic_numbers
from scipy.sparse import csr_array

from ..structures.base import Phase
from ..structures.lattice import ParentLattice, parent_lattice
from . import chain_order
from .base import SurrogateError

SHELL_SIZES: dict[Phase, tuple[int, ...]] = {"fcc": (12, 6, 24, 12, 24, 8), "bcc": (8, 6, 12, 24, 8, 6)}
"""Neighbours in each shell of the ideal lattices, nearest shell first."""

_DENSE_SITES = 400  # beyond it a sparse product is faster than a dense one
_CHUNK_NUMBERS = 4_000_000  # bounds the memory of a batch to some 20 MB
_MAX_STRAIN = 0.05  # of a cell vector's components, relative to the longest
_MAX_OFFSET = 0.3  # of an atom from its site, in neighbour distances
_SEARCH_MARGIN = 1.12  # of the ideal radius of the outermost shell, so that a relaxed one is found whole


@dataclass(frozen=True)
class FeatureTable:
    """Features of structures.

    Attributes:
        phases: phase of each structure, ``[n]``.
        values: ``[n, n_features]``, composition first, then shell by shell.
    """

    phases: tuple[Phase, ...]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.phases)

    def rows(self, phase: Phase) -> np.ndarray:
        """Indices of the structures of a phase."""
        return np.array([i for i, p in enumerate(self.phases) if p == phase], dtype=int)


@dataclass(frozen=True)
class OrderFeatures:
    """Composition, pair excesses of the first shells, and nearest-neighbour chains.

    Attributes:
        elements: symbols, in the order of the composition features.
        n_shells: neighbour shells, at most six; 0 leaves the composition alone.
        has_chains: whether chains of two nearest-neighbour bonds are told apart by their angle.
        lattices: cells that most structures are expected on; atoms in site order near the sites of one are then read
            as an occupation, which is fast and does not depend on how far they are relaxed.
    """

    elements: tuple[str, ...]
    n_shells: int = 4
    has_chains: bool = True
    lattices: tuple[ParentLattice, ...] = ()

    def __post_init__(self) -> None:
        if not self.elements:
            raise SurrogateError("features need at least one element")
        if not 0 <= self.n_shells <= len(SHELL_SIZES["fcc"]):
            raise SurrogateError(f"n_shells must be 0 to {len(SHELL_SIZES['fcc'])}, got {self.n_shells}")

    @property
    def n_pairs(self) -> int:
        """Pairs of unlike elements."""
        return len(self.elements) * (len(self.elements) - 1) // 2

    @property
    def n_features(self) -> int:
        """Length of a feature vector."""
        return int(sum(self._group_sizes))

    @property
    def _group_sizes(self) -> list[int]:
        sizes = [len(self.elements)]
        if self.n_pairs:
            sizes += [self.n_pairs] * self.n_shells
            if self.has_chains:
                sizes.append(chain_order.MAX_ANGLES * chain_order.n_terms(len(self.elements)))
        return sizes

    @property
    def groups(self) -> np.ndarray:
        """Group of each feature, int ``[n_features]``: 0 for the composition, k for shell k, then the chains."""
        return np.repeat(np.arange(len(self._group_sizes)), self._group_sizes)

    def from_occupations(self, lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
        """Features of occupations of one lattice.

        Args:
            lattice: the sites.
            occupations: int8 ``[n, n_sites]``, indices into :attr:`elements`.

        Returns:
            ``[n, n_features]``.
        """
        occupations = np.atleast_2d(occupations)
        size = max(1, _CHUNK_NUMBERS // (lattice.n_sites * len(self.elements) * (self.n_shells + 1)))
        chunks = [self._chunk(lattice, occupations[i : i + size]) for i in range(0, len(occupations), size)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.n_features))

    def _chunk(self, lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
        n, n_sites, n_elements = len(occupations), lattice.n_sites, len(self.elements)
        layers = (occupations.T[None] == np.arange(n_elements, dtype=np.int8)[:, None, None]).astype(np.float32)
        fractions = layers.sum(axis=1, dtype=np.float64).T / n_sites
        parts = [fractions]
        if self.n_shells and self.n_pairs:
            bonds = _bond_matrix(lattice, self.n_shells)
            neighbours = [(bonds @ layer).reshape(self.n_shells, n_sites, n) for layer in layers[1:]]
            sizes = np.array(SHELL_SIZES[lattice.phase][: self.n_shells], dtype=float)
            excess = np.empty((n, self.n_shells, self.n_pairs))
            for pair, (a, b) in enumerate(combinations(range(n_elements), 2)):
                counts = np.einsum("in,sin->ns", layers[a], neighbours[b - 1])  # whole numbers: exact in float32
                random = (fractions[:, a] * fractions[:, b])[:, None]
                excess[:, :, pair] = counts.astype(np.float64) / (n_sites * sizes) - random
            parts.append(excess.reshape(n, -1))
        if self.has_chains and self.n_pairs:
            parts.append(chain_order.from_layers(lattice, layers.astype(np.float64)).reshape(n, -1))
        return np.concatenate(parts, axis=1)

    def from_atoms(self, structures: Sequence[Atoms]) -> FeatureTable:
        """Features of any FCC- or BCC-like structures, relaxed or not, of any size.

        The phase is ``atoms.info["phase"]``. Off the known lattices, neighbours are put into shells by their rank in
        distance from each atom.

        Raises:
            SurrogateError: an element that is not among :attr:`elements`, or a structure whose phase is not stated.
        """
        values = np.empty((len(structures), self.n_features))
        phases: list[Phase] = []
        on_lattice: dict[ParentLattice, list[tuple[int, np.ndarray]]] = {}
        for i, atoms in enumerate(structures):
            phase = stated_phase(atoms, i)
            phases.append(phase)
            species = self._species(atoms, i)
            lattice = next((x for x in self.lattices if x.phase == phase and _is_on_sites(atoms, x)), None)
            if lattice is None:
                values[i] = self._of_crystal(atoms, species, phase, i)
            else:
                on_lattice.setdefault(lattice, []).append((i, species))
        for lattice, found in on_lattice.items():
            rows = [i for i, _ in found]
            values[rows] = self.from_occupations(lattice, np.array([species for _, species in found]))
        return FeatureTable(tuple(phases), values)

    def _species(self, atoms: Atoms, index: int) -> np.ndarray:
        """Index of each atom's element, int8 ``[n_atoms]``."""
        species = np.full(len(atoms), -1, dtype=np.int8)
        for k, element in enumerate(self.elements):
            species[atoms.numbers == atomic_numbers[element]] = k
        if (species < 0).any():
            others = sorted(set(np.array(atoms.get_chemical_symbols())[species < 0].tolist()))
            raise SurrogateError(
                f"structure {index} ({atoms.get_chemical_formula()}) holds {', '.join(others)}; "
                f"this surrogate knows {', '.join(self.elements)}"
            )
        return species

    def _of_crystal(self, atoms: Atoms, species: np.ndarray, phase: Phase, index: int) -> np.ndarray:
        n_elements = len(self.elements)
        fractions = np.bincount(species, minlength=n_elements) / len(atoms)
        values = [fractions]
        if self.n_pairs and (self.n_shells or self.has_chains):
            sizes = SHELL_SIZES[phase][: max(1, self.n_shells)]
            neighbours, vectors = _neighbours_by_rank(atoms, phase, sizes, index)
            first, second = np.triu_indices(n_elements, 1)
            for shell in np.split(neighbours, np.cumsum(sizes)[:-1], axis=1)[: self.n_shells]:
                pair = species[:, None].astype(int) * n_elements + species[shell]
                joint = np.bincount(pair.ravel(), minlength=n_elements**2).reshape(n_elements, n_elements) / pair.size
                # Ranks need not be mutual in a distorted structure, so both directions are averaged.
                values.append((0.5 * (joint + joint.T) - np.outer(fractions, fractions))[first, second])
            if self.has_chains:
                nearest = slice(0, sizes[0])
                chains = chain_order.from_bonds(
                    phase, species.astype(int), n_elements, neighbours[:, nearest], vectors[:, nearest]
                )
                values.append(chains.ravel())
        return np.concatenate(values)


def stated_phase(atoms: Atoms, index: int = 0) -> Phase:
    """The phase in ``atoms.info``.

    Raises:
        SurrogateError: it is missing or unknown.
    """
    phase = atoms.info.get("phase")
    if phase not in get_args(Phase):
        raise SurrogateError(
            f"structure {index} ({atoms.get_chemical_formula()}) has info['phase'] = {phase!r}; "
            f"state one of {', '.join(get_args(Phase))}"
        )
    return phase


@lru_cache(maxsize=16)
def _bond_matrix(lattice: ParentLattice, n_shells: int) -> np.ndarray | csr_array:
    """Bonds from each site of each shell to each site, float32 ``[n_shells * n_sites, n_sites]``."""
    n = lattice.n_sites
    tables = lattice.neighbour_table(n_shells)
    rows = np.concatenate([np.repeat(k * n + np.arange(n), t.shape[1]) for k, t in enumerate(tables)])
    columns = np.concatenate([t.ravel() for t in tables])
    bonds = csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(n_shells * n, n))
    return bonds.toarray() if n <= _DENSE_SITES else bonds


@lru_cache(maxsize=16)
def _shell_radius(phase: Phase, shell: int) -> float:
    """Radius of an ideal shell in units of the cube root of the volume per atom."""
    return float(parent_lattice(phase).shell_distances(shell)[-1])


def _is_on_sites(atoms: Atoms, lattice: ParentLattice) -> bool:
    """Whether the atoms are in site order and each is near its site in the structure's own (strained) cell."""
    if len(atoms) != lattice.n_sites or not atoms.pbc.all():
        return False
    cell = atoms.cell.array
    volume = abs(np.linalg.det(cell)) / len(atoms)
    if not (volume > 1e-6 and np.isfinite(atoms.positions).all()):
        return False
    scale = volume ** (1.0 / 3.0)
    if np.abs(cell / scale - lattice.unit_cell).max() > _MAX_STRAIN * np.abs(lattice.unit_cell).max():
        return False
    offset = atoms.positions @ np.linalg.inv(cell) - lattice.scaled_positions
    offset = (offset - np.rint(offset)) @ lattice.unit_cell
    return bool((offset**2).sum(axis=1).max() < (_MAX_OFFSET * _shell_radius(lattice.phase, 1)) ** 2)


def _neighbours_by_rank(atoms: Atoms, phase: Phase, sizes: Sequence[int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours ``[n_atoms, sum(sizes)]``, nearest first, and the vectors to them ``[n_atoms, sum(sizes), 3]``."""
    n, needed = len(atoms), sum(sizes)
    volume = abs(atoms.cell.volume) / n
    if not (np.isfinite(volume) and volume > 1e-6 and np.isfinite(atoms.positions).all() and atoms.pbc.all()):
        raise SurrogateError(
            f"structure {index} ({atoms.get_chemical_formula()}) is not a periodic crystal: "
            f"volume {volume:g} Å^3 per atom, pbc {atoms.pbc.tolist()}"
        )
    cutoff = _SEARCH_MARGIN * _shell_radius(phase, len(sizes)) * volume ** (1.0 / 3.0)
    for _ in range(4):  # a strongly distorted structure needs a wider search
        search = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=False)
        i, j, distance, vectors = search.compute(atoms.positions, atoms.cell.array, True, "ijdD")
        counts = np.bincount(i, minlength=n)
        if counts.min() >= needed:
            order = np.lexsort((j, np.round(distance, 6), i))
            starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
            ranked = order[starts[:, None] + np.arange(needed)]
            return j[ranked].astype(int), vectors[ranked]
        cutoff *= 1.3
    raise SurrogateError(
        f"structure {index} ({atoms.get_chemical_formula()}) has atoms with fewer than {needed} neighbours within "
        f"{cutoff / 1.3:.1f} Å; it is no {phase} crystal"
    )
