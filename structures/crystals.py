"""Perfect crystals as a configuration names them: a lattice with a lattice constant, or a structure file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers
from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator
from vesin import NeighborList

from ..errors import ConfigError, StructureError
from .files import read_structures
from .settings import Settings
from .smallest_cell import smallest_cell
from .space import elemental_volume

Lattice = Literal[
    "fcc",
    "bcc",
    "sc",
    "hcp",
    "diamond",
    "rocksalt",
    "zincblende",
    "cesiumchloride",
    "fluorite",
    "wurtzite",
    "l12",
    "l10",
]

SimpleLattice = Literal["fcc", "bcc", "hcp"]
"""Lattices of one atom, or two of hcp, that most metals take."""

CUBIC_LATTICES: tuple[Lattice, ...] = (
    "fcc",
    "bcc",
    "sc",
    "diamond",
    "rocksalt",
    "zincblende",
    "cesiumchloride",
    "fluorite",
    "l12",
)
_NEEDS_C: tuple[Lattice, ...] = ("hcp", "wurtzite", "l10")
_ATOMS_PER_CUBE = {"fcc": 4, "bcc": 2}
_IDEAL_C_OVER_A = float(np.sqrt(8.0 / 3.0))
_CUBIC_OF_ASE: tuple[Lattice, ...] = ("fcc", "bcc", "diamond", "rocksalt", "zincblende", "fluorite")
_MIN_DISTANCE_ANG = 0.7


class CrystalSettings(Settings):
    """A perfect crystal, by the name of its lattice or from a file.

    Nothing has a default lattice constant, which would silently bend what is fitted to it; except in subclasses whose
    crystals are relaxed before anything is done with them, see :attr:`is_relaxed_first`.
    """

    is_relaxed_first: ClassVar[bool] = False
    """Whether ``a_ang`` may be left out for an element on a simple lattice, which then has the volume of its own
    crystal."""

    lattice: Lattice | None = None
    """Name of the lattice: `fcc`, `bcc`, `sc`, `hcp`, `diamond`, `rocksalt`, `zincblende`, `cesiumchloride` (B2),
    `fluorite`, `wurtzite`, `l12` (A3B on fcc) or `l10` (AB on fcc, with `c_ang`)."""
    formula: str | None = None
    """What is on the lattice: `Ni`, `NaCl`, `CaF2`, `Ni3Al`."""
    a_ang: PositiveFloat | None = None
    """Lattice constant a, in Å; of the conventional cell for cubic lattices. Take it from the same source as the other
    targets: the potential is made to be in equilibrium there."""
    c_ang: PositiveFloat | None = None
    """Lattice constant c of `hcp`, `wurtzite` and `l10`, in Å."""
    u: PositiveFloat | None = None
    """Internal coordinate of `wurtzite`."""
    file: Path | None = None
    """A structure file instead of a lattice, for any other crystal. The elastic tensor refers to its axes. A supercell
    is reduced to its smallest cell, with the axes left as they are."""
    frame: NonNegativeInt = 0
    """Which structure of the file, counted from 0."""
    name: str = Field(default="", max_length=60)
    """Name in reports; by default made of the lattice and the formula, or of the file."""

    @model_validator(mode="after")
    def _is_complete(self) -> CrystalSettings:
        if (self.lattice is None) == (self.file is None):
            raise ValueError("a crystal needs either 'lattice' (with 'formula' and 'a_ang') or 'file'")
        named = {"formula": self.formula, "a_ang": self.a_ang, "c_ang": self.c_ang, "u": self.u}
        if self.file is not None:
            given = sorted(key for key, value in named.items() if value is not None)
            if given:
                raise ValueError(f"{', '.join(given)} belongs to a named lattice, not to a crystal from a file")
            return self
        if self.formula is None or (self.a_ang is None and not self._may_be_guessed()):
            raise ValueError(f"the lattice {self.lattice} needs 'formula' and 'a_ang'")
        if self.a_ang is None and self.c_ang is not None:
            raise ValueError("c_ang goes with a_ang; give both or none")
        if self.a_ang is not None and (self.c_ang is not None) != (self.lattice in _NEEDS_C):
            raise ValueError(f"c_ang is needed for {', '.join(_NEEDS_C)}, and for these only; got {self.lattice}")
        if self.u is not None and self.lattice != "wurtzite":
            raise ValueError(f"u belongs to wurtzite, not to {self.lattice}")
        try:
            self._named()
        except (StructureError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
            detail = str(error).strip("'\"") or type(error).__name__
            raise ValueError(f"{self.formula!r} cannot be put on the lattice {self.lattice}: {detail}") from error
        return self

    @property
    def title(self) -> str:
        """What reports call it."""
        if self.name:
            return self.name
        return self.file.stem if self.file is not None else f"{self.lattice} {self.formula}"

    def build(self, *, is_conventional: bool = False) -> Atoms:
        """The crystal.

        Args:
            is_conventional: the cubic cell where the lattice has one, and the cell of the file, instead of the
                smallest one.

        Raises:
            ConfigError: a file that cannot be read, is not periodic or holds coincident atoms.
        """
        if self.file is None:
            atoms = self._named(is_conventional=is_conventional)
        else:
            try:
                frames = read_structures(self.file)
            except StructureError as error:
                raise ConfigError(f"crystal {self.title!r}: {error}") from error
            if self.frame >= len(frames):
                raise ConfigError(f"crystal {self.title!r}: {self.file} has {len(frames)} structures, no {self.frame}")
            atoms = _bare(frames[self.frame])
        _check(atoms, self.title)
        return atoms if is_conventional or self.file is None else smallest_cell(atoms)

    def _may_be_guessed(self) -> bool:
        return self.is_relaxed_first and self.lattice in (*_ATOMS_PER_CUBE, "hcp") and self.formula in atomic_numbers

    def _named(self, *, is_conventional: bool = False) -> Atoms:
        assert self.lattice is not None  # by the validator, as the others
        assert self.formula is not None
        a, c = self.a_ang, self.c_ang
        if a is None:
            a, c = _constants_of_element(self.formula, self.lattice)
        if self.lattice in ("l12", "l10"):
            return _ordered(self.lattice, self.formula, a, c)
        optional = {"c": c, "u": self.u}
        arguments = {key: value for key, value in optional.items() if value is not None}
        is_cubic = is_conventional and self.lattice in _CUBIC_OF_ASE
        return _bare(bulk(self.formula, self.lattice, a=a, cubic=is_cubic, **arguments))


def elemental_cell(element: str, lattice: SimpleLattice) -> Atoms:
    """Conventional cell of an element on a lattice, at the volume of the element's own crystal.

    Raises:
        StructureError: no volume is known for the element.
    """
    a, c = _constants_of_element(element, lattice)
    return _bare(bulk(element, lattice, a=a, c=c) if c is not None else bulk(element, lattice, a=a, cubic=True))


def _constants_of_element(element: str, lattice: Lattice) -> tuple[float, float | None]:
    """a and, for hcp, c of the ideal ratio, Å."""
    volume = elemental_volume(element)
    if lattice == "hcp":
        a = float((volume * 4.0 / np.sqrt(3.0) / _IDEAL_C_OVER_A) ** (1.0 / 3.0))
        return a, a * _IDEAL_C_OVER_A
    return float((_ATOMS_PER_CUBE[lattice] * volume) ** (1.0 / 3.0)), None


def _bare(atoms: Atoms) -> Atoms:
    """Species, positions and cell alone."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _ordered(lattice: Lattice, formula: str, a_ang: float, c_ang: float | None) -> Atoms:
    """L1_2 (Strukturbericht) with the minority at the corner, or L1_0 with the layers along z; axes along x, y, z."""
    counts = {symbol: int(n or 1) for symbol, n in re.findall(r"([A-Z][a-z]?)(\d*)", formula)}
    wanted = [1, 3] if lattice == "l12" else [1, 1]
    if sorted(counts.values()) != wanted or "".join(f"{s}{n if n > 1 else ''}" for s, n in counts.items()) != formula:
        raise ValueError("write it like " + ("Ni3Al" if lattice == "l12" else "CuAu"))
    if lattice == "l12":
        major, minor = sorted(counts, key=lambda symbol: -counts[symbol])
        corners = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
        return Atoms([minor, major, major, major], scaled_positions=corners, cell=[a_ang] * 3, pbc=True)
    first, second = counts
    half = a_ang / 2.0  # the tetragonal primitive cell stands on the face diagonals
    cell = [(half, half, 0.0), (-half, half, 0.0), (0.0, 0.0, c_ang)]
    return Atoms([first, second], scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=cell, pbc=True)


def _check(atoms: Atoms, name: str) -> None:
    if not atoms.pbc.all() or abs(np.linalg.det(atoms.cell.array)) < 1e-3:
        raise ConfigError(f"crystal {name!r} must be periodic in three directions; give a cell and pbc in the file")
    search = NeighborList(cutoff=_MIN_DISTANCE_ANG, full_list=False)
    (close,) = search.compute(points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="d")
    if len(close):
        raise ConfigError(
            f"crystal {name!r} has atoms {close.min():.3g} Å apart (at least {_MIN_DISTANCE_ANG} Å are allowed); "
            "check the lattice constant, which is that of the conventional cell, in Å"
        )
