"""Surface energies: slabs with relaxed ions, on both sides vacuum."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil, gcd
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.build import surface
from pydantic import Field, PositiveFloat, field_validator

from ...structures.settings import Settings
from ..crystal_relaxation import RelaxationLimits, relax_crystal
from ..force_engine import ForceEngine
from .base import Bench
from .crystal import BULK_MODULUS_GUESS_EV_ANG3, Crystal, Equilibrium, equilibrium

J_M2_PER_EV_ANG2 = 16.021766208

_MAX_INDEX = 6

Miller = tuple[int, int, int]


@dataclass(frozen=True)
class Surface:
    """One relaxed surface.

    Attributes:
        miller: of the conventional cell.
        energy_j_m2: energy per area.
        unrelaxed_energy_j_m2: the same before the ions relax.
        n_atoms, thickness_ang, area_ang2: of the slab.
    """

    miller: Miller
    energy_j_m2: float
    unrelaxed_energy_j_m2: float
    n_atoms: int
    thickness_ang: float
    area_ang2: float

    @property
    def energy_mev_ang2(self) -> float:
        """Energy per area in meV/Å^2."""
        return 1000.0 * self.energy_j_m2 / J_M2_PER_EV_ANG2


@dataclass(frozen=True)
class SurfaceEnergies:
    """Surfaces of a crystal.

    Attributes:
        surfaces: in the order of the settings.
    """

    surfaces: tuple[Surface, ...]

    def values(self) -> dict[str, float]:
        """Each surface's energy in J/m^2."""
        return {value_name(found.miller): found.energy_j_m2 for found in self.surfaces}


class SurfacesSettings(Settings):
    """Energies of relaxed surfaces."""

    kind: Literal["surfaces"] = "surfaces"
    miller: tuple[Miller, ...] = Field(default=((1, 1, 1), (1, 0, 0), (1, 1, 0)), min_length=1)
    """Miller indices in the conventional cell (three indices also for hcp)."""
    min_thickness_ang: PositiveFloat = 20.0
    """Smallest thickness of a slab, in Å."""
    vacuum_ang: PositiveFloat = 12.0
    """Vacuum between a slab and its image, in Å; more than the potential's cutoff."""
    max_force_ev_ang: PositiveFloat = 1e-3
    """Largest residual force, in eV/Å."""
    max_force_calls: int = Field(default=1000, ge=10)
    """Force calls before it counts as not converged."""
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = SurfaceEnergies

    @field_validator("miller")
    @classmethod
    def _is_reduced(cls, miller: tuple[Miller, ...]) -> tuple[Miller, ...]:
        for indices in miller:
            if gcd(*indices) != 1 or max(map(abs, indices)) > _MAX_INDEX:
                raise ValueError(
                    f"Miller indices must be three integers up to {_MAX_INDEX} without a common divisor, got {indices}"
                )
        if len(set(miller)) != len(miller):
            raise ValueError("a surface is given twice")
        return miller

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        indices = itertools.product(range(-_MAX_INDEX, _MAX_INDEX + 1), repeat=3)
        return tuple(value_name((h, k, m)) for h, k, m in indices if gcd(h, k, m) == 1)

    def measure(self, bench: Bench, crystal: Crystal) -> SurfaceEnergies:
        """See :func:`surface_energies`."""
        return surface_energies(bench.engine, crystal, self)


def value_name(miller: Miller) -> str:
    """Name of a surface's energy among the values: ``surface_energy_111_j_m2``; a bar is an ``m``."""
    indices = "".join(f"m{-index}" if index < 0 else str(index) for index in miller)
    return f"surface_energy_{indices}_j_m2"


def surface_energies(engine: ForceEngine, crystal: Crystal, settings: SurfacesSettings) -> SurfaceEnergies:
    """Energies of surfaces of a crystal of one element.

    In a compound the two sides of a slab may end differently, so that their mean would be measured.

    Raises:
        OracleError: ``bad_structure`` for a compound, ``not_converged``, or what the engine raises.
    """
    _ = crystal.element
    relaxed = equilibrium(engine, crystal)
    return SurfaceEnergies(tuple(_surface(engine, relaxed, miller, settings) for miller in settings.miller))


def _surface(engine: ForceEngine, relaxed: Equilibrium, miller: Miller, settings: SurfacesSettings) -> Surface:
    slab, thickness = slab_of(relaxed.atoms, miller, settings.min_thickness_ang, settings.vacuum_ang)
    area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
    unrelaxed = engine.compute(slab).energy_ev
    end = relax_crystal(
        engine,
        slab,
        cell_freedom="fixed",
        bulk_modulus_ev_ang3=BULK_MODULUS_GUESS_EV_ANG3,
        limits=RelaxationLimits(
            force_ev_ang=settings.max_force_ev_ang, stress_ev_ang3=np.inf, max_calls=settings.max_force_calls
        ),
    )
    bulk_ev = len(slab) * relaxed.energy_ev_per_atom
    return Surface(
        miller=miller,
        energy_j_m2=(end.evaluation.energy_ev - bulk_ev) / (2.0 * area) * J_M2_PER_EV_ANG2,
        unrelaxed_energy_j_m2=(unrelaxed - bulk_ev) / (2.0 * area) * J_M2_PER_EV_ANG2,
        n_atoms=len(slab),
        thickness_ang=thickness,
        area_ang2=area,
    )


def slab_of(conventional: Atoms, miller: Miller, min_thickness_ang: float, vacuum_ang: float) -> tuple[Atoms, float]:
    """A slab at least ``min_thickness_ang`` thick with ``vacuum_ang`` of vacuum, periodic along all vectors.

    Returns:
        The slab, its surface across the third vector, and its thickness (its volume in the crystal over its area).
    """
    layer = surface(conventional, miller, layers=1, vacuum=None, periodic=True)
    area = float(np.linalg.norm(np.cross(layer.cell[0], layer.cell[1])))
    layer_ang = float(conventional.get_volume()) * len(layer) / len(conventional) / area
    n_layers = ceil(min_thickness_ang / layer_ang - 1e-6)
    slab = surface(conventional, miller, layers=n_layers, vacuum=0.5 * vacuum_ang, periodic=True)
    return slab, n_layers * layer_ang
