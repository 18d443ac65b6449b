"""Energies of an element on the lattices it might take instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from pydantic import Field

from ...structures.crystals import SimpleLattice, elemental_cell
from ...structures.settings import Settings
from ..force_engine import ForceEngine
from .base import Bench
from .crystal import Crystal, equilibrium


@dataclass(frozen=True)
class PhaseEnergies:
    """Lattices of an element, each relaxed.

    Attributes:
        energies_ev_per_atom: lattice -> energy above the crystal's own.
        volumes_ang3_per_atom: lattice -> volume.
        crystal_energy_ev_per_atom: energy of the crystal.
    """

    energies_ev_per_atom: dict[str, float]
    volumes_ang3_per_atom: dict[str, float]
    crystal_energy_ev_per_atom: float

    def values(self) -> dict[str, float]:
        """Energy of each lattice above the crystal's."""
        return {f"energy_of_{lattice}_ev_per_atom": energy for lattice, energy in self.energies_ev_per_atom.items()}


class PhasesSettings(Settings):
    """Energies of other lattices above the crystal's."""

    kind: Literal["phases"] = "phases"
    lattices: tuple[SimpleLattice, ...] = Field(default=("fcc", "bcc", "hcp"), min_length=1)
    """Lattices to compare with; the crystal's own is left out."""
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = PhaseEnergies

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        return tuple(f"energy_of_{lattice}_ev_per_atom" for lattice in get_args(SimpleLattice))

    def measure(self, bench: Bench, crystal: Crystal) -> PhaseEnergies:
        """See :func:`phase_energies`."""
        return phase_energies(bench.engine, crystal, self)


def phase_energies(engine: ForceEngine, crystal: Crystal, settings: PhasesSettings) -> PhaseEnergies:
    """Energies of an element's lattices above that of its crystal.

    fcc and bcc keep their shape, because where they are unstable they would leave it; hcp relaxes c/a.

    Raises:
        OracleError: ``bad_structure`` for a compound, ``not_converged``, or what the engine raises.
    """
    own = equilibrium(engine, crystal)
    energies: dict[str, float] = {}
    volumes: dict[str, float] = {}
    for lattice in settings.lattices:
        if lattice == crystal.lattice:
            continue
        other = Crystal(
            f"{lattice} {crystal.element}",
            elemental_cell(crystal.element, lattice),
            lattice,
            "full" if lattice == "hcp" else "isotropic",
        )
        found = equilibrium(engine, other)
        energies[lattice] = found.energy_ev_per_atom - own.energy_ev_per_atom
        volumes[lattice] = found.volume_ang3_per_atom
    return PhaseEnergies(energies, volumes, own.energy_ev_per_atom)
