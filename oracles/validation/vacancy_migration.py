"""Vacancy migration: a neighbour hops into the vacancy, along a climbing-image nudged elastic band.

G. Henkelman, B. P. Uberuaga, H. Jónsson, J. Chem. Phys. 113, 9901 (2000), with ASE's implementation.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.mep import NEB
from ase.optimize import FIRE
from pydantic import Field, PositiveFloat

from ...structures.settings import Settings
from ..base import FailureKind, OracleError
from ..crystal_relaxation import RelaxationLimits, relax_crystal
from ..engine_calculator import EngineCalculator
from ..force_engine import ForceEngine
from .base import Bench
from .crystal import BULK_MODULUS_GUESS_EV_ANG3, Crystal, equilibrium, supercell
from .vacancy import formation_energy

_CLIMB_BELOW_EV_ANG = 0.1
"""The band first settles this far without climbing, so that the climbing image begins near the ridge."""


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
        n_steps: of the optimizer.
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
    """Steps of the optimizer before it counts as not converged."""
    version: ClassVar[str] = "1"
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
    ends, hop_ang = _ends(supercell(relaxed.atoms, settings.min_length_ang))
    limits = RelaxationLimits(force_ev_ang=0.1 * settings.max_force_ev_ang, stress_ev_ang3=np.inf, max_calls=1000)
    for end in ends:
        found = relax_crystal(
            engine, end, cell_freedom="fixed", bulk_modulus_ev_ang3=BULK_MODULUS_GUESS_EV_ANG3, limits=limits
        )
        end.set_positions(found.positions)
    images = [ends[0], *(ends[0].copy() for _ in range(settings.n_images)), ends[1]]
    for image in images:
        image.calc = EngineCalculator(engine)
    band = NEB(images, k=settings.spring_ev_ang2, method="improvedtangent")
    band.interpolate(mic=True)
    optimizer = FIRE(band, logfile=None)
    for climb, force in (
        (False, max(_CLIMB_BELOW_EV_ANG, settings.max_force_ev_ang)),
        (True, settings.max_force_ev_ang),
    ):
        band.climb = climb
        if not optimizer.run(fmax=force, steps=settings.max_steps - optimizer.nsteps):
            rest = float(np.sqrt((band.get_forces() ** 2).sum(axis=1).max()))
            raise OracleError(
                FailureKind.NOT_CONVERGED,
                f"after {settings.max_steps} steps the band's largest force is {rest:.3g} eV/Å (allowed "
                f"{force:g}); raise max_steps or max_force_ev_ang",
                {"max_force_ev_ang": rest},
            )
    energies = np.array([image.get_potential_energy() for image in images])
    legs = [
        np.linalg.norm(after.get_positions() - before.get_positions()) for before, after in itertools.pairwise(images)
    ]
    above_start = energies - energies[0]
    return VacancyMigration(
        migration_energy_ev=float(above_start.max()),
        formation_energy_ev=formation_energy(float(energies[0]), ends[0], relaxed),
        path_ang=tuple(np.concatenate([[0.0], np.cumsum(legs)]).tolist()),
        energies_ev=tuple(above_start.tolist()),
        hop_ang=hop_ang,
        n_atoms=len(ends[0]),
        n_steps=int(optimizer.nsteps),
    )


def _ends(perfect: Atoms) -> tuple[list[Atoms], float]:
    """The cell with its first atom taken out, the same after the nearest neighbour hopped there; length of the hop."""
    distances = perfect.get_distances(0, range(1, len(perfect)), mic=True)
    nearest = 1 + int(np.argmin(distances))
    hop = perfect.get_distance(nearest, 0, mic=True, vector=True)
    start = perfect.copy()
    end = perfect.copy()
    end.positions[nearest] += hop
    for atoms in (start, end):
        del atoms[0]
    return [start, end], float(distances[nearest - 1])
