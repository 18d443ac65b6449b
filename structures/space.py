"""The design space: which elements, which lattices and which compositions a campaign may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, reference_states

from ..errors import StructureError
from .base import Phase
from .lattice import ParentLattice
from .locate import locate_sites

_ATOMS_PER_REFERENCE_CELL = {"fcc": 4, "bcc": 2, "diamond": 8, "sc": 1, "cubic": 58}  # "cubic" is α-Mn
_ROUNDING = 1e-9  # of a fraction times a number of sites


def elemental_volume(element: str) -> float:
    """Volume per atom in Å^3 of an element in its reference state (lattice constants of :mod:`ase.data`).

    Raises:
        StructureError: the element is unknown, or its reference state is not a simple crystal.
    """
    if element not in atomic_numbers or element == "X":
        raise StructureError(f"unknown element {element!r}; use a chemical symbol such as 'Ni'")
    state = reference_states[atomic_numbers[element]] or {}
    symmetry = state.get("symmetry")
    if symmetry in _ATOMS_PER_REFERENCE_CELL:
        return float(state["a"]) ** 3 / _ATOMS_PER_REFERENCE_CELL[symmetry]
    if symmetry == "hcp":
        return float(np.sqrt(3.0) / 4.0 * state["a"] ** 3 * state["c/a"])
    raise StructureError(f"no reference volume is known for {element}; give one (Å^3 per atom) under 'volumes'")


@dataclass(frozen=True)
class DesignSpace:
    """Elements on parent lattices within bounds of composition.

    Attributes:
        elements: chemical symbols; occupations index into them.
        lattices: one per phase.
        min_fraction, max_fraction: bounds of each element's atomic fraction, in the order of ``elements``;
            empty means 0 and 1.
        volumes: volume per atom in Å^3 of each element, for Vegard's law; empty means the reference states of ASE.

    Raises:
        StructureError: elements repeat, bounds cannot be met, or two lattices have the same phase.
    """

    elements: tuple[str, ...]
    lattices: tuple[ParentLattice, ...]
    min_fraction: tuple[float, ...] = ()
    max_fraction: tuple[float, ...] = ()
    volumes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.elements)
        defaults = {
            "min_fraction": (0.0,) * n,
            "max_fraction": (1.0,) * n,
            "volumes": () if self.volumes else tuple(elemental_volume(e) for e in self.elements),
        }
        for name, default in defaults.items():
            value = tuple(float(v) for v in getattr(self, name)) or default
            object.__setattr__(self, name, value)
            if len(value) != n:
                raise StructureError(f"{name} has {len(value)} values for {n} elements; give one for each")
        self._check()

    def _check(self) -> None:
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise StructureError(
                f"elements must be distinct and at least one, got {', '.join(self.elements) or 'none'}"
            )
        unknown = [e for e in self.elements if e not in atomic_numbers or e == "X"]
        if unknown:
            raise StructureError(f"unknown elements: {', '.join(unknown)}; use chemical symbols such as 'Ni'")
        if not self.lattices or len(set(self.phases)) != len(self.lattices):
            raise StructureError(f"one lattice for each phase is needed, got phases {', '.join(self.phases) or 'none'}")
        if not all(np.isfinite(v) and v > 0.0 for v in self.volumes):
            raise StructureError(f"volumes per atom must be positive, got {self.volumes} Å^3")
        for element, low, high in zip(self.elements, self.min_fraction, self.max_fraction, strict=True):
            if not 0.0 <= low <= high <= 1.0:
                raise StructureError(
                    f"the fraction of {element} is bounded by {low:g} and {high:g}; "
                    "0 ≤ min_fraction ≤ max_fraction ≤ 1 is needed"
                )
        for lattice in self.lattices:
            least, most = self.count_bounds(lattice.n_sites)
            if (least > most).any() or not least.sum() <= lattice.n_sites <= most.sum():
                raise StructureError(
                    f"no composition of {lattice.n_sites} sites ({lattice.describe()}) meets the bounds "
                    f"{self._describe_bounds()}; widen min_fraction / max_fraction or use a larger cell"
                )

    def _describe_bounds(self) -> str:
        bounds = zip(self.elements, self.min_fraction, self.max_fraction, strict=True)
        return ", ".join(f"{low:g} ≤ {element} ≤ {high:g}" for element, low, high in bounds)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases of the lattices, in their order."""
        return tuple(lattice.phase for lattice in self.lattices)

    def lattice(self, phase: Phase) -> ParentLattice:
        """The lattice of a phase.

        Raises:
            StructureError: the space has no such phase.
        """
        for lattice in self.lattices:
            if lattice.phase == phase:
                return lattice
        raise StructureError(f"phase {phase!r} is not in the design space; it has {', '.join(self.phases)}")

    def counts(self, occupation: np.ndarray) -> np.ndarray:
        """Atoms of each element, int ``[..., n_elements]``, of occupations ``[..., n_sites]``."""
        occupation = np.asarray(occupation)
        return np.stack([(occupation == k).sum(axis=-1) for k in range(len(self.elements))], axis=-1)

    def count_bounds(self, n_sites: int) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest number of atoms of each element, int ``[n_elements]`` each."""
        return _count_bounds(self.min_fraction, self.max_fraction, n_sites)

    def is_allowed(self, counts: np.ndarray) -> bool:
        """Whether ``counts`` ``[n_elements]`` keep to the bounds of every element."""
        counts = np.asarray(counts)
        low, high = self.count_bounds(int(counts.sum()))
        return bool((counts >= low).all() and (counts <= high).all())

    def random_counts(self, rng: np.random.Generator, lattice: ParentLattice) -> np.ndarray:
        """Counts ``[n_elements]`` drawn uniformly from all allowed compositions of ``lattice``."""
        return self.counts_at(rng.random(len(self.elements)), lattice)

    def counts_at(self, quantiles: np.ndarray, lattice: ParentLattice) -> np.ndarray:
        """The allowed composition of ``lattice`` at a place of the unit cube; evenly spread places give compositions
        that are spread evenly over what is allowed.

        Args:
            quantiles: ``[n_elements]``, in [0, 1): of each element's count, given those of the elements before it.
        """
        low, high = self.count_bounds(lattice.n_sites)
        ways = _completions(tuple(low.tolist()), tuple(high.tolist()), lattice.n_sites)
        counts = np.zeros(len(low), dtype=int)
        left = lattice.n_sites
        for k in range(len(low)):
            options = np.arange(low[k], min(high[k], left) + 1)
            weights = ways[k + 1][left - options]
            below = np.cumsum(weights)
            counts[k] = options[np.searchsorted(below, quantiles[k] * below[-1], side="right")]
            left -= counts[k]
        return counts

    def random_occupation(
        self, rng: np.random.Generator, lattice: ParentLattice, counts: np.ndarray | None = None
    ) -> np.ndarray:
        """A random solid solution, int8 ``[n_sites]``; ``counts`` are drawn by :meth:`random_counts` if not given.

        Raises:
            StructureError: ``counts`` do not add up to the number of sites.
        """
        counts = self.random_counts(rng, lattice) if counts is None else np.asarray(counts)
        if counts.shape != (len(self.elements),) or (counts < 0).any() or counts.sum() != lattice.n_sites:
            raise StructureError(
                f"counts {counts.tolist()} of {', '.join(self.elements)} do not fill {lattice.n_sites} sites"
            )
        return rng.permutation(np.repeat(np.arange(len(counts), dtype=np.int8), counts))

    def volume(self, counts: np.ndarray) -> float:
        """Vegard volume per atom in Å^3.

        Args:
            counts: atoms of each element, ``[n_elements]``; an array of any other length is taken as an occupation.
        """
        counts = np.asarray(counts)
        if len(counts) != len(self.elements):
            counts = self.counts(counts)
        return float(counts @ np.array(self.volumes) / counts.sum())

    @cached_property
    def _numbers(self) -> np.ndarray:
        return np.array([atomic_numbers[e] for e in self.elements])

    def atoms(self, lattice: ParentLattice, occupation: np.ndarray) -> Atoms:
        """The occupation on ideal sites at its Vegard volume."""
        return lattice.decorate(self._numbers[occupation], self.volume(self.counts(occupation)))

    def occupation_of_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """Element indices, int8 ``[n]``, of atomic numbers ``[n]``.

        Raises:
            StructureError: an element that is not in the space.
        """
        occupation = np.full(len(numbers), -1, dtype=np.int8)
        for k, number in enumerate(self._numbers.tolist()):
            occupation[numbers == number] = k
        if occupation.min(initial=0) < 0:
            others = sorted({chemical_symbols[z] for z in numbers[occupation < 0].tolist()})
            raise StructureError(
                f"{', '.join(others)} not in the design space, whose elements are {', '.join(self.elements)}"
            )
        return occupation

    def locate(self, atoms: Atoms, phase: Phase | None = None) -> tuple[ParentLattice, np.ndarray]:
        """The lattice and the occupation of a structure: the inverse of :meth:`atoms`.

        Relaxed structures are recognized, and those with another order of sites, origin or naming of the cell's
        axes; these give an equivalent occupation. Atoms already in site order keep their order.

        Args:
            atoms: a structure of the size of one of the lattices.
            phase: the phase to look for; by default what ``atoms.info["phase"]`` says, else the nearest cell shape.

        Raises:
            StructureError: another element, or no lattice of this space fits.
        """
        occupation = self.occupation_of_numbers(atoms.numbers)
        hint = phase if phase is not None else atoms.info.get("phase")
        lattices = (self.lattice(hint),) if hint in self.phases or phase is not None else self.lattices
        lattice, atom_of_site = locate_sites(atoms, lattices)
        return lattice, occupation[atom_of_site]


@lru_cache(maxsize=256)
def _count_bounds(
    min_fraction: tuple[float, ...], max_fraction: tuple[float, ...], n_sites: int
) -> tuple[np.ndarray, np.ndarray]:
    low = np.ceil(np.array(min_fraction) * n_sites - _ROUNDING).astype(int)
    high = np.floor(np.array(max_fraction) * n_sites + _ROUNDING).astype(int)
    for bounds in (low, high):
        bounds.setflags(write=False)
    return low, high


@lru_cache(maxsize=256)
def _completions(low: tuple[int, ...], high: tuple[int, ...], n_sites: int) -> Sequence[np.ndarray]:
    """In how many ways the elements from k on can take s atoms, float ``[n_sites + 1]`` for each k."""
    ways = [np.eye(1, n_sites + 1)[0]]
    for k in reversed(range(len(low))):
        window = np.zeros(n_sites + 1)
        window[low[k] : high[k] + 1] = 1.0
        ways.insert(0, np.convolve(ways[0], window)[: n_sites + 1])
    return ways
