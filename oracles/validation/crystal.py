"""The crystals that a potential is judged on, and their equilibrium."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers
from pydantic import PositiveFloat, model_validator

from ...errors import StructureError
from ...structures.files import read_structures
from ...structures.settings import Settings
from ...structures.space import elemental_volume
from ..base import FailureKind, OracleError
from ..crystal_relaxation import CellFreedom, RelaxationLimits, RelaxedCrystal, relax_crystal
from ..force_engine import ForceEngine

Lattice = Literal["fcc", "bcc", "hcp"]

TIGHT = RelaxationLimits(force_ev_ang=1e-5, stress_ev_ang3=1e-7)
"""Limits of the equilibrium: 0.02 MPa of stress is nothing beside any elastic constant."""
BULK_MODULUS_GUESS_EV_ANG3 = 1.0
_IDEAL_C_OVER_A = float(np.sqrt(8.0 / 3.0))


@dataclass(frozen=True)
class Crystal:
    """A crystal before relaxation.

    Attributes:
        name: what results are filed under.
        atoms: its conventional cell (fcc four atoms, bcc and hcp two).
        lattice: the lattice when it is a simple one, else ``None``.
        cell_freedom: how the cell may relax.
    """

    name: str
    atoms: Atoms
    lattice: Lattice | None
    cell_freedom: CellFreedom

    @property
    def element(self) -> str:
        """The one element of the crystal.

        Raises:
            OracleError: ``bad_structure`` when it has several.
        """
        elements = sorted(set(self.atoms.symbols))
        if len(elements) != 1:
            raise OracleError(
                FailureKind.BAD_STRUCTURE,
                f"{self.name} consists of {', '.join(elements)}; this property is defined for one element only, "
                "because chemical potentials would decide it. Leave it out for this crystal",
            )
        return elements[0]


class CrystalSettings(Settings):
    """A crystal: an element on a simple lattice, or any structure of a file."""

    lattice: Lattice | None = None
    """`fcc`, `bcc` or `hcp`; with `element`."""
    element: str | None = None
    """Chemical symbol of the atoms on the lattice."""
    lattice_constant_ang: PositiveFloat | None = None
    """Where the relaxation begins, in Å; by default at the volume of the element's own crystal."""
    file: Path | None = None
    """A structure file of one periodic crystal instead of a lattice; its conventional cell is best."""
    cell: CellFreedom | None = None
    """How the cell relaxes: `isotropic` keeps its shape, `full` frees it; by default isotropic for fcc and bcc, full
    otherwise."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> CrystalSettings:
        if (self.file is None) == (self.lattice is None or self.element is None):
            raise ValueError("give either lattice and element, or file")
        if self.file is not None and (self.lattice or self.element or self.lattice_constant_ang):
            raise ValueError("file says everything; leave out lattice, element and lattice_constant_ang")
        if self.element is not None and self.element not in atomic_numbers:
            raise ValueError(f"element must be a chemical symbol, got {self.element!r}")
        return self

    def build(self, name: str) -> Crystal:
        """The crystal.

        Raises:
            StructureError: the file cannot be read or holds several structures, or the element's volume is unknown.
        """
        if self.file is not None:
            structures = read_structures(self.file)
            if len(structures) != 1:
                raise StructureError(f"{self.file} holds {len(structures)} structures; a crystal is one")
            return Crystal(name, structures[0], None, self.cell or "full")
        assert self.lattice is not None  # by the validator, as the element
        assert self.element is not None
        atoms = lattice_cell(self.element, self.lattice, self.lattice_constant_ang)
        return Crystal(name, atoms, self.lattice, self.cell or ("full" if self.lattice == "hcp" else "isotropic"))


def lattice_cell(element: str, lattice: Lattice, lattice_constant_ang: float | None = None) -> Atoms:
    """Conventional cell of an element on a lattice, at the volume of its own crystal unless told otherwise.

    Raises:
        StructureError: no volume is known for the element.
    """
    volume = elemental_volume(element)
    if lattice == "hcp":
        a = lattice_constant_ang or (volume * 4.0 / np.sqrt(3.0) / _IDEAL_C_OVER_A) ** (1.0 / 3.0)
        atoms = bulk(element, "hcp", a=a, c=a * _IDEAL_C_OVER_A)
    else:
        a = lattice_constant_ang or ((4 if lattice == "fcc" else 2) * volume) ** (1.0 / 3.0)
        atoms = bulk(element, lattice, a=a, cubic=True)
    atoms.set_initial_magnetic_moments(None)
    return atoms


@dataclass(frozen=True)
class Equilibrium:
    """A relaxed crystal.

    Attributes:
        atoms: the relaxed conventional cell.
        relaxed: the end of the relaxation, with what was learnt about the Hessian.
    """

    atoms: Atoms
    relaxed: RelaxedCrystal

    @property
    def energy_ev_per_atom(self) -> float:
        """Energy per atom at zero pressure."""
        return self.relaxed.evaluation.energy_ev / len(self.atoms)

    @property
    def volume_ang3_per_atom(self) -> float:
        """Volume per atom at zero pressure."""
        return float(self.atoms.get_volume()) / len(self.atoms)


def equilibrium(engine: ForceEngine, crystal: Crystal) -> Equilibrium:
    """Relax a crystal to zero pressure and zero forces, within the freedom of its cell.

    Raises:
        OracleError: ``not_converged``, or what the engine raises.
    """
    relaxed = relax_crystal(
        engine,
        crystal.atoms,
        cell_freedom=crystal.cell_freedom,
        bulk_modulus_ev_ang3=BULK_MODULUS_GUESS_EV_ANG3,
        limits=TIGHT,
    )
    return Equilibrium(relaxed.as_atoms(crystal.atoms), relaxed)


def supercell(atoms: Atoms, min_length_ang: float) -> Atoms:
    """Repeat a cell until its smallest height is at least ``min_length_ang`` along each vector."""
    reciprocal = np.linalg.inv(atoms.cell.array)
    heights = 1.0 / np.linalg.norm(reciprocal, axis=0)
    return atoms.repeat([ceil(min_length_ang / height - 1e-6) for height in heights])
