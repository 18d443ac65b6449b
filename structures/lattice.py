"""Parent lattices: the FCC and BCC sites that atoms are put on, their shells of neighbours and their symmetry.

All sites of a parent lattice are equivalent by translation. An *occupation* is an ``int8`` array ``[n_sites]`` that
says which element (by index) sits on which site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations, product
from typing import Any, Literal, get_args

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ..errors import StructureError
from .base import PHASES, Phase

CellKind = Literal["tetragonal", "cubic", "primitive"]
CELL_KINDS: tuple[CellKind, ...] = get_args(CellKind)

_PRIMITIVE = {  # rows are lattice vectors in units of the cubic lattice constant
    "fcc": np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]),
    "bcc": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
}
_ATOMS_PER_CUBE = {"fcc": 4, "bcc": 2}
_N_FIRST = 3  # sites that all images of an occupation are compared at before most of them are dropped
_BATCH_KEYS = 2_000_000  # bounds the memory of a batch of canonical forms to some 20 MB


@dataclass(frozen=True)
class ParentLattice:
    """A periodic cell of ideal sites. Get one from :func:`parent_lattice`, which shares its tables.

    Attributes:
        phase: ``"fcc"`` or ``"bcc"``.
        kind: unit cell that is repeated: ``"tetragonal"`` (two atoms, body-centred; c/a = √2 for FCC and 1 for BCC,
            with the same fractional sites in the same order for both phases), ``"cubic"`` (conventional, four or
            two atoms) or ``"primitive"`` (one atom).
        repeat: number of unit cells along each cell vector.
    """

    phase: Phase
    kind: CellKind = "tetragonal"
    repeat: tuple[int, int, int] = (3, 3, 3)

    def __reduce__(self) -> tuple[Any, ...]:  # tables are rebuilt (once per process) rather than pickled
        return parent_lattice, (self.phase, self.kind, self.repeat)

    @cached_property
    def scaled_positions(self) -> np.ndarray:
        """Fractional sites ``[n_sites, 3]`` in [0, 1), unit cell by unit cell with the last axis fastest."""
        cells = np.stack(np.meshgrid(*map(np.arange, self.repeat), indexing="ij"), axis=-1).reshape(-1, 1, 3)
        return _read_only(((cells + _basis(self.phase, self.kind)) / self.repeat).reshape(-1, 3))

    @cached_property
    def unit_cell(self) -> np.ndarray:
        """Cell vectors ``[3, 3]`` (rows) of the whole cell, scaled to 1 Å^3 per atom."""
        cell = _repeated_cell(self.phase, self.kind) * np.array(self.repeat)[:, None]
        return _read_only(cell * (self.n_sites / abs(np.linalg.det(cell))) ** (1.0 / 3.0))

    @cached_property
    def n_sites(self) -> int:
        """Number of sites."""
        return int(np.prod(self.repeat)) * len(_basis(self.phase, self.kind))

    def cell(self, volume_per_atom: float) -> np.ndarray:
        """Cell vectors ``[3, 3]`` in Å for a volume per atom in Å^3."""
        return self.unit_cell * volume_per_atom ** (1.0 / 3.0)

    def decorate(self, symbols_or_numbers: Sequence[str] | Sequence[int] | np.ndarray, volume_per_atom: float) -> Atoms:
        """Atoms on the sites, in site order; ``atoms.info["phase"]`` names the phase.

        Args:
            symbols_or_numbers: element symbols or atomic numbers, ``[n_sites]``.
            volume_per_atom: in Å^3.

        Raises:
            StructureError: the number of atoms is not the number of sites.
        """
        species = np.asarray(symbols_or_numbers)
        if len(species) != self.n_sites:
            raise StructureError(
                f"{len(species)} atoms do not fill the {self.n_sites} sites of a {self.describe()} cell"
            )
        cell = self.cell(volume_per_atom)
        return Atoms(
            numbers=species if species.dtype.kind in "iu" else [atomic_numbers[symbol] for symbol in species.tolist()],
            positions=self.scaled_positions @ cell,
            cell=cell,
            pbc=True,
            info={"phase": self.phase},
        )

    def describe(self) -> str:
        """A short name such as ``"fcc tetragonal 3x3x3"``."""
        return f"{self.phase} {self.kind} {'x'.join(map(str, self.repeat))}"

    def shell_distances(self, n_shells: int) -> np.ndarray:
        """Radii ``[n_shells]`` of the first shells in units of the cube root of the volume per atom."""
        return np.array([np.linalg.norm(vectors[0]) for vectors in _shell_vectors(self.phase, n_shells)])

    def neighbour_table(self, n_shells: int) -> tuple[np.ndarray, ...]:
        """Neighbouring sites shell by shell.

        Column ``m`` of a shell's table holds the sites reached from each site along the same lattice vector. In
        cells smaller than a shell's diameter one site is reached along several vectors, or is its own neighbour.

        Returns:
            One int32 array ``[n_sites, z_k]`` per shell, ``z_k`` being 12, 6, 24, … for FCC and 8, 6, 12, … for BCC.
        """
        return _neighbour_table(self, n_shells)

    @cached_property
    def permutations(self) -> np.ndarray:
        """All symmetry operations of the undecorated cell as site permutations, int32 ``[n_ops, n_sites]``.

        ``occupation[permutations]`` lists all images of an occupation. Translations are included: a 54-site
        tetragonal FCC cell has 54 × 16 operations, a cubic cell its number of sites × 48.
        """
        axes = _cubic_axes(self)
        rotations = axes @ _cube_rotations() @ np.linalg.inv(axes)
        rotations = rotations[np.abs(rotations - np.rint(rotations)).max(axis=(1, 2)) < 1e-6]  # keep the cell
        # The rotations of the lattice about a site that leave the cell alone, followed by all translations.
        centred = self.scaled_positions - self.scaled_positions[0]
        rotated = centred @ rotations + self.scaled_positions[0]
        images = rotated[:, None] + centred[None, :, None]
        images = self._site_index(images.reshape(-1, self.n_sites, 3))
        return _read_only(np.unique(images, axis=0))  # in small cells some operations coincide

    def canonical(self, occupation: np.ndarray) -> bytes:
        """A key that two occupations of this lattice share if and only if a symmetry maps one onto the other.

        It is the lexicographically smallest image, with the name of the lattice before it.

        Args:
            occupation: int8 ``[n_sites]``.
        """
        return self.canonical_batch(np.asarray(occupation)[None])[0]

    def canonical_batch(self, occupations: np.ndarray) -> list[bytes]:
        """:meth:`canonical` of every row of ``occupations`` ``[n, n_sites]``."""
        occupations = np.ascontiguousarray(occupations, dtype=np.int8)
        if occupations.ndim != 2 or occupations.shape[1] != self.n_sites:
            raise StructureError(f"occupations have shape {occupations.shape}, expected [n, {self.n_sites}]")
        tag = self.describe().encode() + b":"
        batch = max(1, _BATCH_KEYS // len(self.permutations))
        keys: list[bytes] = []
        for start in range(0, len(occupations), batch):
            rows = occupations[start : start + batch]
            best = self.permutations[self._smallest_image(rows)]
            keys += [tag + image.tobytes() for image in np.take_along_axis(rows, best, axis=1)]
        return keys

    def _smallest_image(self, occupations: np.ndarray) -> np.ndarray:
        """Index of the operation ``[n]`` that gives each row its lexicographically smallest image.

        All images start in the race; chunks of sites are compared as integers, and only the leaders of each row
        go on. A disordered row is settled after a few sites, so the cost is far below one comparison of all images.
        """
        base = int(occupations.max(initial=0)) + 1
        # The first sites, of all images: by far the largest share of the work.
        keys = np.zeros((len(occupations), len(self.permutations)), dtype=np.int32)
        for images in self._first_images:
            keys *= base
            keys += occupations.take(images, axis=1)
        row, op = np.nonzero(keys == keys.min(axis=1, keepdims=True))
        chunk = min(8, int(62 / np.log2(max(base, 2))))
        for start in range(len(self._first_images), self.n_sites, chunk):
            if len(row) == len(occupations):
                return op
            key = np.zeros(len(row), dtype=np.int64)
            for site in range(start, min(start + chunk, self.n_sites)):
                key *= base
                key += occupations[row, self.permutations[op, site]]
            least = np.minimum.reduceat(key, np.flatnonzero(np.r_[True, row[1:] != row[:-1]]))
            is_leader = key == least[row]
            row, op = row[is_leader], op[is_leader]
        return op[np.r_[True, row[1:] != row[:-1]]]

    @cached_property
    def _first_images(self) -> np.ndarray:
        """Where every operation fetches the first few sites from, ``[n_first, n_ops]``."""
        return np.ascontiguousarray(self.permutations[:, :_N_FIRST].T).astype(np.intp)

    def _site_index(self, scaled: np.ndarray) -> np.ndarray:
        """Sites at the ideal fractional positions ``[..., 3]``, which may lie outside the cell; int32 ``[...]``."""
        return _site_lookup(self)[tuple(np.moveaxis(_half_steps(scaled, self.repeat), -1, 0))]


@lru_cache(maxsize=64)
def _shared_lattice(phase: Phase, kind: CellKind, repeat: tuple[int, int, int]) -> ParentLattice:
    return ParentLattice(phase, kind, repeat)


def parent_lattice(phase: Phase, kind: CellKind = "tetragonal", repeat: Sequence[int] = (3, 3, 3)) -> ParentLattice:
    """The lattice of these settings; the same object for the same settings, so that its tables are made once.

    Raises:
        StructureError: an unknown phase or kind of cell, or a repeat that is not three positive integers.
    """
    if phase not in PHASES:
        raise StructureError(f"unknown phase {phase!r}; choose from {', '.join(PHASES)}")
    if kind not in CELL_KINDS:
        raise StructureError(f"unknown kind of cell {kind!r}; choose from {', '.join(CELL_KINDS)}")
    if len(repeat) != 3 or any(int(r) != r or r < 1 for r in repeat):
        raise StructureError(f"repeat must be three positive integers, got {tuple(repeat)}")
    return _shared_lattice(phase, kind, (int(repeat[0]), int(repeat[1]), int(repeat[2])))


def _repeated_cell(phase: Phase, kind: CellKind) -> np.ndarray:
    """Vectors of the repeated cell in units of the cubic lattice constant."""
    if kind == "primitive":
        return _PRIMITIVE[phase]
    if kind == "tetragonal" and phase == "fcc":
        return np.diag([np.sqrt(0.5), np.sqrt(0.5), 1.0])
    return np.eye(3)


def _basis(phase: Phase, kind: CellKind) -> np.ndarray:
    """Fractional sites of the repeated cell."""
    if kind == "primitive":
        return np.zeros((1, 3))
    if kind == "cubic" and phase == "fcc":
        return np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    return np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _half_steps(scaled: np.ndarray, repeat: tuple[int, int, int]) -> np.ndarray:
    """Fractional positions as integers: all sites lie on multiples of half a repeated cell."""
    steps = 2 * np.array(repeat)
    return np.rint(scaled * steps).astype(np.int32) % steps


@lru_cache(maxsize=64)
def _site_lookup(lattice: ParentLattice) -> np.ndarray:
    """Site at each half step, int32 ``[2 r0, 2 r1, 2 r2]``, -1 where there is none."""
    lookup = np.full(2 * np.array(lattice.repeat), -1, dtype=np.int32)
    steps = _half_steps(lattice.scaled_positions, lattice.repeat)
    lookup[tuple(steps.T)] = np.arange(lattice.n_sites)
    return lookup


@lru_cache(maxsize=64)
def _shell_vectors(phase: Phase, n_shells: int) -> tuple[np.ndarray, ...]:
    """Lattice vectors of each shell ``[z_k, 3]`` on cubic axes, for 1 Å^3 per atom."""
    if n_shells < 1:
        raise StructureError(f"the number of shells must be at least 1, got {n_shells}")
    reach = 2 + n_shells  # in primitive steps; enough, because shells crowd together outwards
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = steps @ _PRIMITIVE[phase]
    squared = np.rint(4.0 * np.sum(vectors**2, axis=1)).astype(int)  # integers, as 2 × vector is
    scale = _ATOMS_PER_CUBE[phase] ** (1.0 / 3.0)
    return tuple(scale * vectors[squared == d] for d in np.unique(squared)[1 : n_shells + 1])


@lru_cache(maxsize=256)
def _neighbour_table(lattice: ParentLattice, n_shells: int) -> tuple[np.ndarray, ...]:
    to_scaled = np.linalg.inv(_cubic_axes(lattice))
    return tuple(
        _read_only(lattice._site_index(lattice.scaled_positions[:, None] + vectors @ to_scaled))
        for vectors in _shell_vectors(lattice.phase, n_shells)
    )


def _cube_rotations() -> np.ndarray:
    """The 48 rotations and reflections of the cube, ``[48, 3, 3]``: signed permutations of the axes."""
    signs = np.array(list(product((-1.0, 1.0), repeat=3)))
    orders = np.eye(3)[np.array(list(permutations(range(3))))]
    return (signs[:, None, :, None] * orders[None]).reshape(-1, 3, 3)


def _cubic_axes(lattice: ParentLattice) -> np.ndarray:
    """The cell for 1 Å^3 per atom, turned so that the Cartesian axes are those of the cube."""
    if lattice.kind == "tetragonal" and lattice.phase == "fcc":
        turn = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, np.sqrt(2.0)]]) / np.sqrt(2.0)
        return lattice.unit_cell @ turn
    return lattice.unit_cell
