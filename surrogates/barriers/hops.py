"""Hops of atoms into vacancies, and the species on the sites about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ...structures.base import Phase
from ..base import SurrogateError
from .crystal_lattice import CrystalLattice
from .hop_lattice import HopLattice

VACANT = 0
"""Atomic number of a site whose atom is not known, because it had been removed in the file."""


@dataclass(frozen=True, eq=False)
class Hops:
    """Hops with their barriers.

    Attributes:
        crystals: perfect crystals, the atoms of the vacant sites in place.
        crystal: int64 ``[n_hops]``, the crystal of each hop.
        vacancy: int64 ``[n_hops]``, the atom that is removed.
        neighbour: int64 ``[n_hops]``, its nearest neighbour, which moves into the vacancy.
        barriers_ev: ``[n_hops]``, eV; NaN where unknown.
        groups: ``[n_hops]``, names of the alloys, for a split by composition.
        rows: int64 ``[n_hops]``, row of each hop in its file, from 1, without the header.
        is_return: bool ``[n_hops]``, whether the hop goes the other way: the neighbour has hopped into the vacancy, and
            returns to its own site. None does where it is left out.
        return_barriers_ev: ``[n_hops]``, barriers of the same hops the other way, eV; NaN where unknown, as all are
            where it is left out.
    """

    crystals: tuple[Atoms, ...]
    crystal: np.ndarray
    vacancy: np.ndarray
    neighbour: np.ndarray
    barriers_ev: np.ndarray
    groups: np.ndarray
    rows: np.ndarray
    lattices: dict[int, CrystalLattice] = field(default_factory=dict, repr=False)
    """What :meth:`lattice` found so far; parts of the hops share it."""
    is_return: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    return_barriers_ev: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if len(self.is_return) == 0:
            object.__setattr__(self, "is_return", np.zeros(len(self.crystal), dtype=bool))
        if len(self.return_barriers_ev) == 0:
            object.__setattr__(self, "return_barriers_ev", np.full(len(self.crystal), np.nan))

    def __len__(self) -> int:
        return len(self.crystal)

    def lattice(self, crystal: int) -> CrystalLattice:
        """The lattice of a crystal.

        Raises:
            StructureError: it is neither FCC nor BCC.
        """
        if crystal not in self.lattices:
            self.lattices[crystal] = CrystalLattice.of(self.crystals[crystal])
        return self.lattices[crystal]

    def take(self, index: np.ndarray) -> Hops:
        """The hops of ``index``, numbers or a mask."""
        return replace(self, **{name: getattr(self, name)[index] for name in ("crystal", *PER_HOP)})

    def returning(self) -> Hops:
        """The same hops the other way, with their barriers where these are known."""
        return replace(
            self, is_return=~self.is_return, barriers_ev=self.return_barriers_ev, return_barriers_ev=self.barriers_ev
        )

    def digest(self) -> str:
        """Hash of the hops and of the crystals that they are in; barriers are not part of it."""
        found = blake2b(digest_size=16)
        for column in (self.crystal, self.vacancy, self.neighbour):
            found.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
        if self.is_return.any():
            found.update(self.is_return.tobytes())
        for k in np.unique(self.crystal).tolist():
            atoms = self.crystals[k]
            for array in (atoms.numbers, atoms.positions, atoms.cell.array):
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in the crystals of the hops, alphabetically."""
        used = [self.crystals[k] for k in np.unique(self.crystal)]
        return tuple(sorted({s for atoms in used for s in atoms.symbols.species()} - {"X"}))

    @cached_property
    def moving_numbers(self) -> np.ndarray:
        """int64 ``[n_hops]``: atomic number of the atom that moves."""
        numbers = np.zeros(len(self), dtype=np.int64)
        for k, members in self.by_crystal():
            numbers[members] = self.crystals[k].numbers[self.neighbour[members]]
        return numbers

    def ends(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sites of the vacancy and of the atom that moves before each of some hops, int64 ``[n_members]`` each."""
        vacancy, neighbour, is_return = (a[members] for a in (self.vacancy, self.neighbour, self.is_return))
        return np.where(is_return, neighbour, vacancy), np.where(is_return, vacancy, neighbour)

    def by_crystal(self) -> list[tuple[int, np.ndarray]]:
        """Each crystal that has hops, and the numbers of these."""
        order = np.argsort(self.crystal, kind="stable")
        firsts = np.flatnonzero(np.diff(self.crystal[order], prepend=-1))
        return [(int(self.crystal[part[0]]), part) for part in np.split(order, firsts[1:]) if len(part)]


PER_HOP = ("vacancy", "neighbour", "barriers_ev", "groups", "rows", "is_return", "return_barriers_ev")
"""Columns of :class:`Hops` with a value for each hop, besides the number of its crystal."""


@dataclass(frozen=True)
class Occupations:
    """Species on the sites about each hop, as numbers in a list of elements.

    Attributes:
        sites: int8 ``[n_hops, n_sites]``, in the order of :attr:`HopLattice.sites`; -1 for a vacant site.
        moving: int8 ``[n_hops]``.
        composition: float32 ``[n_hops, n_elements]``, atomic fractions in the crystal with the vacancy.
    """

    sites: np.ndarray
    moving: np.ndarray
    composition: np.ndarray

    def take(self, index: np.ndarray) -> Occupations:
        """Those of some hops."""
        return Occupations(self.sites[index], self.moving[index], self.composition[index])


def all_hops(crystals: Sequence[Atoms]) -> Hops:
    """Every hop of every nearest neighbour into each site of perfect crystals.

    Raises:
        StructureError: a structure is no FCC or BCC crystal.
    """
    parts = [site_hops(atoms, CrystalLattice.of(atoms)) for atoms in crystals]
    n_hops = [len(part) for part in parts]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("vacancy", "neighbour", "barriers_ev", "groups")
    }
    return Hops(
        tuple(crystals),
        np.repeat(np.arange(len(parts)), n_hops),
        **columns,
        rows=np.arange(1, sum(n_hops) + 1),
        lattices={k: part.lattice(0) for k, part in enumerate(parts)},
    )


def site_hops(atoms: Atoms, lattice: CrystalLattice, sites: np.ndarray | None = None) -> Hops:
    """Every hop into some sites of one crystal, all of them by default, a site after the other.

    Args:
        lattice: the crystal's.
        sites: int64 ``[n_sites]``, numbers of atoms.
    """
    chosen = np.arange(len(atoms)) if sites is None else np.asarray(sites)
    steps = HopLattice(lattice.phase, 1).directions
    neighbours = lattice.atoms_at(lattice.sites[chosen][:, None] + steps)
    n_hops = neighbours.size
    return Hops(
        (atoms,),
        np.zeros(n_hops, dtype=np.int64),
        np.repeat(chosen, len(steps)),
        neighbours.ravel(),
        np.full(n_hops, np.nan),
        np.full(n_hops, atoms.get_chemical_formula()),
        np.arange(1, n_hops + 1),
        {0: lattice},
    )


def phase_of(hops: Hops) -> Phase:
    """The phase that all crystals of the hops have.

    Raises:
        StructureError: a crystal is neither FCC nor BCC.
        SurrogateError: there are hops of both.
    """
    phases = {hops.lattice(k).phase for k in np.unique(hops.crystal).tolist()}
    if len(phases) != 1:
        raise SurrogateError(f"the hops are of {' and '.join(sorted(phases))} crystals; fit one model for each phase")
    return phases.pop()


def occupations(hops: Hops, lattice: HopLattice, elements: Sequence[str]) -> Occupations:
    """The species about each hop.

    Raises:
        StructureError: a crystal is neither FCC nor BCC.
        SurrogateError: a crystal has another phase than ``lattice``, an element that is not in ``elements``, or a hop
            is not between nearest neighbours.
    """
    from .site_kernels import species_about

    index_of = np.full(120, -2, dtype=np.int8)
    index_of[VACANT] = -1
    index_of[[atomic_numbers[element] for element in elements]] = np.arange(len(elements))
    sites = np.empty((len(hops), len(lattice.sites)), dtype=np.int8)
    moving = np.empty(len(hops), dtype=np.int8)
    composition = np.empty((len(hops), len(elements)), dtype=np.float32)
    for k, members in hops.by_crystal():
        atoms = hops.crystals[k]
        crystal = hops.lattice(k)
        if crystal.phase != lattice.phase:
            raise SurrogateError(
                f"row {hops.rows[members[0]]}: a {crystal.phase} crystal; the model is {lattice.phase}"
            )
        species = index_of[atoms.numbers]
        if (species == -2).any():
            others = sorted(set(atoms.symbols.species()) - set(elements) - {"X"})
            raise SurrogateError(
                f"row {hops.rows[members[0]]}: the crystal holds {', '.join(others)}; the model knows "
                f"{', '.join(elements)}"
            )
        vacant, origin = hops.ends(members)
        direction = hop_directions(crystal, lattice, vacant, origin)
        if (direction < 0).any():
            raise SurrogateError(f"row {hops.rows[members[direction < 0][0]]}: not a hop of a nearest neighbour")
        species = np.where(atoms.numbers == VACANT, np.int8(-1), species)
        moves = species[hops.neighbour[members]]
        found = np.empty((len(members), len(lattice.sites)), dtype=np.int8)
        starts = crystal.sites[vacant]
        table = crystal.triangle, crystal.atom_of_key
        # in small cells the vacancy and the atom that moves meet their own images
        species_about(starts, direction, lattice.images, *table, species, vacant, origin, moves, found)
        sites[members], moving[members] = found, moves
        is_element = species[:, None] == np.arange(len(elements))
        counts = is_element.sum(axis=0) - is_element[hops.vacancy[members]]
        composition[members] = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return Occupations(sites, moving, composition)


def hop_directions(
    crystal: CrystalLattice, lattice: HopLattice, vacancy: np.ndarray, neighbour: np.ndarray
) -> np.ndarray:
    """Number of the direction from each vacancy to its neighbour, int64 ``[n]``; -1 where it is no nearest one."""
    reached = crystal.atoms_at(crystal.sites[vacancy][:, None] + lattice.directions)
    is_it = reached == neighbour[:, None]
    return np.where(is_it.any(axis=1), is_it.argmax(axis=1), -1)
