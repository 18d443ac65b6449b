"""Vacancy formation: a supercell with an atom taken out, its ions relaxed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ase import Atoms
from pydantic import Field, PositiveFloat

from ...structures.settings import Settings
from ..crystal_relaxation import CellFreedom, RelaxationLimits, relax_crystal
from ..force_engine import ForceEngine
from .base import Bench
from .crystal import BULK_MODULUS_GUESS_EV_ANG3, Crystal, Equilibrium, equilibrium, supercell


@dataclass(frozen=True)
class VacancyFormation:
    """A relaxed vacancy.

    Attributes:
        formation_energy_ev: ``E(n-1 atoms) - (n-1)/n E(n atoms)``.
        unrelaxed_energy_ev: the same before the ions relax.
        formation_volume: change of the cell's volume plus one atomic volume, over the atomic volume; 1 in a fixed
            cell.
        n_atoms: in the supercell with the vacancy.
    """

    formation_energy_ev: float
    unrelaxed_energy_ev: float
    formation_volume: float
    n_atoms: int

    def values(self) -> dict[str, float]:
        """The formation energy."""
        return {"vacancy_formation_energy_ev": self.formation_energy_ev}


class VacancySettings(Settings):
    """Formation energy of a vacancy."""

    kind: Literal["vacancy"] = "vacancy"
    min_length_ang: PositiveFloat = 14.0
    """Smallest height of the supercell, in Å; keeps the vacancy away from its images."""
    cell: CellFreedom = "fixed"
    """Whether the supercell keeps the perfect crystal's cell (`fixed`), or relaxes."""
    max_force_ev_ang: PositiveFloat = 1e-3
    """Largest residual force, in eV/Å."""
    max_force_calls: int = Field(default=1000, ge=10)
    """Force calls before it counts as not converged."""
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = VacancyFormation

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        return ("vacancy_formation_energy_ev",)

    def measure(self, bench: Bench, crystal: Crystal) -> VacancyFormation:
        """See :func:`vacancy_formation`."""
        return vacancy_formation(bench.engine, crystal, self)


def vacancy_formation(engine: ForceEngine, crystal: Crystal, settings: VacancySettings) -> VacancyFormation:
    """Formation energy of a vacancy in a crystal of one element.

    Raises:
        OracleError: ``bad_structure`` for a compound, ``not_converged``, or what the engine raises.
    """
    _ = crystal.element
    relaxed = equilibrium(engine, crystal)
    defective = supercell(relaxed.atoms, settings.min_length_ang)
    del defective[0]
    unrelaxed = engine.compute(defective).energy_ev
    end = relax_crystal(
        engine,
        defective,
        cell_freedom=settings.cell,
        bulk_modulus_ev_ang3=BULK_MODULUS_GUESS_EV_ANG3,
        limits=RelaxationLimits(
            force_ev_ang=settings.max_force_ev_ang, stress_ev_ang3=1e-5, max_calls=settings.max_force_calls
        ),
    )
    volume_change = end.as_atoms(defective).get_volume() - defective.get_volume()
    return VacancyFormation(
        formation_energy_ev=formation_energy(end.evaluation.energy_ev, defective, relaxed),
        unrelaxed_energy_ev=formation_energy(unrelaxed, defective, relaxed),
        formation_volume=1.0 + float(volume_change) / relaxed.volume_ang3_per_atom,
        n_atoms=len(defective),
    )


def formation_energy(energy_ev: float, defective: Atoms, relaxed: Equilibrium) -> float:
    """Energy of a defective cell above that of as many atoms in the crystal, eV."""
    return energy_ev - len(defective) * relaxed.energy_ev_per_atom
