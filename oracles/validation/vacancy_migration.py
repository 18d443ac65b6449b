"""Vacancy migration: a neighbour hops into the vacancy, along a climbing-image nudged elastic band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from ...structures.settings import Settings
from ...structures.vacancy_hop import vector_between
from ..band import BandLimits, BandSprings
from ..crystal_relaxation import RelaxationLimits
from ..elastic_band import converge_band
from ..force_engine import ForceEngine
from ..preconditioner import WithoutSites, spring_model
from ..vacancy_hop import barriers, check_path, relax_end, relax_start
from .base import Bench
from .crystal import BULK_MODULUS_GUESS_EV_ANG3, Crystal, equilibrium, supercell
from .vacancy import formation_energy


@dataclass(frozen=True)
class VacancyMigration:
    """The hop of a nearest neighbour into a vacancy.

    Attributes:
        migration_energy_ev: highest point of the path above its start.
        formation_energy_ev: of the vacancy in the same supercell.
        path_ang: distance along the path of each image, ends included.
        energies_ev: energy of each image above the first.
        hop_ang: length of the hop.
        n_atoms: in the supercell.
        n_steps: of the band.
    """

    migration_energy_ev: float
    formation_energy_ev: float
    path_ang: tuple[float, ...]
    energies_ev: tuple[float, ...]
    hop_ang: float
    n_atoms: int
    n_steps: int

    def values(self) -> dict[str, float]:
        """Migration energy, and the activation energy of diffusion: formation plus migration."""
        return {
            "vacancy_migration_energy_ev": self.migration_energy_ev,
            "vacancy_activation_energy_ev": self.formation_energy_ev + self.migration_energy_ev,
        }


class VacancyMigrationSettings(Settings):
    """Barrier of a vacancy's hop to a nearest neighbour."""

    kind: Literal["migration"] = "migration"
    min_length_ang: PositiveFloat = 14.0
    """Smallest height of the supercell, in Å."""
    n_images: int = Field(default=5, ge=1)
    """Images between the ends; an odd number puts one at the middle of the hop."""
    spring_ev_ang2: PositiveFloat = 1.0
    """Stiffness of the springs between images, in eV/Å^2."""
    max_force_ev_ang: PositiveFloat = 0.01
    """Largest residual force on the band, in eV/Å."""
    max_steps: int = Field(default=500, ge=1)
    """Steps of the band before it counts as not converged."""
    version: ClassVar[str] = "2"
    result_type: ClassVar[type] = VacancyMigration

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        return ("vacancy_migration_energy_ev", "vacancy_activation_energy_ev")

    def measure(self, bench: Bench, crystal: Crystal) -> VacancyMigration:
        """See :func:`vacancy_migration`."""
        return vacancy_migration(bench.engine, crystal, self)


def vacancy_migration(engine: ForceEngine, crystal: Crystal, settings: VacancyMigrationSettings) -> VacancyMigration:
    """Barrier of the hop of a nearest neighbour into a vacancy, in the perfect crystal's cell.

    Raises:
        OracleError: ``bad_structure`` for a compound, ``not_converged``, or what the engine raises.
    """
    _ = crystal.element
    relaxed = equilibrium(engine, crystal)
    perfect = supercell(relaxed.atoms, settings.min_length_ang)
    nearest = 1 + int(np.argmin(perfect.get_distances(0, range(1, len(perfect)), mic=True)))
    hop = vector_between(perfect, nearest, 0)
    is_present = np.arange(len(perfect)) > 0
    limits = RelaxationLimits(force_ev_ang=0.1 * settings.max_force_ev_ang, stress_ev_ang3=np.inf, max_calls=1000)
    start = relax_start(
        engine,
        perfect[is_present],
        perfect.positions[0],
        springs=WithoutSites(spring_model(perfect), is_present),
        cell_freedom="fixed",
        bulk_modulus_ev_ang3=BULK_MODULUS_GUESS_EV_ANG3,
        limits=limits,
    )
    ends = relax_end(engine, start, nearest - 1, hop, limits)
    cell = start.atoms.cell.array
    engine.load(start.atoms)

    def evaluate(positions: np.ndarray) -> tuple[float, np.ndarray]:
        found = engine.evaluate(positions, cell)
        return found.energy_ev, found.forces

    guide = np.zeros((len(start.atoms), 3))
    guide[ends.mover] = hop
    band = converge_band(
        [evaluate] * (settings.n_images + 2),
        ends.path(settings.n_images),
        guide=guide,
        springs=BandSprings(
            perfect,
            is_present,
            bulk_modulus_ev_ang3=BULK_MODULUS_GUESS_EV_ANG3,
            volume_ang3=float(perfect.get_volume()),
        ),
        limits=BandLimits(
            spring_ev_ang2=settings.spring_ev_ang2,
            force_ev_ang=settings.max_force_ev_ang,
            path_force_ev_ang=settings.max_force_ev_ang,
            max_steps=settings.max_steps,
        ),
    )
    check_path(ends, band)
    forward, _ = barriers(ends, band.energies_ev.tolist())
    return VacancyMigration(
        migration_energy_ev=forward,
        formation_energy_ev=formation_energy(start.energy_ev, start.atoms, relaxed),
        path_ang=tuple(band.path_ang.tolist()),
        energies_ev=tuple((band.energies_ev - start.energy_ev).tolist()),
        hop_ang=float(np.linalg.norm(hop)),
        n_atoms=len(start.atoms),
        n_steps=band.n_steps,
    )
