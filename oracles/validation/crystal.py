"""The crystals that a potential is judged on, and their equilibrium."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np
from ase import Atoms

from ...structures.crystals import CUBIC_LATTICES, CrystalSettings, Lattice
from ..base import FailureKind, OracleError
from ..crystal_relaxation import CellFreedom, RelaxationLimits, RelaxedCrystal, relax_crystal
from ..force_engine import ForceEngine

TIGHT = RelaxationLimits(force_ev_ang=1e-5, stress_ev_ang3=1e-7)
"""Limits of the equilibrium: 0.02 MPa of stress is nothing beside any elastic constant."""
BULK_MODULUS_GUESS_EV_ANG3 = 1.0


@dataclass(frozen=True)
class Crystal:
    """A crystal before relaxation.

    Attributes:
        name: what results are filed under.
        atoms: its conventional cell (fcc four atoms, bcc and hcp two).
        lattice: the lattice when it is one with a name, else ``None``.
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


class ValidatedCrystal(CrystalSettings):
    """A crystal that properties are measured of, after it has been relaxed.

    For an element on `fcc`, `bcc` or `hcp`, `a_ang` may be left out.
    """

    is_relaxed_first: ClassVar[bool] = True
    cell: CellFreedom | None = None
    """How the cell relaxes: `isotropic` keeps its shape, `full` frees it; by default isotropic for cubic lattices, full
    otherwise."""

    def crystal(self) -> Crystal:
        """The crystal, in its conventional cell.

        Raises:
            ConfigError: the file cannot be read or used.
        """
        freedom = self.cell or ("isotropic" if self.lattice in CUBIC_LATTICES else "full")
        return Crystal(self.title, self.build(is_conventional=True), self.lattice, freedom)


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
