"""The relaxed structure, its energy, and how far its atoms moved."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveFloat

from .base import Request, Value
from .crystal_relaxation import CellFreedom, RelaxationLimits, voigt_vector
from .lammps_oracle import GPA_PER_EV_ANG3, LammpsOracle, LammpsOracleSettings
from .phase_relaxation import relax_in_phase
from .potentials import LammpsPotential


class RelaxationSettings(LammpsOracleSettings):
    """Relaxation to the nearest minimum of the energy."""

    kind: Literal["relaxation"] = "relaxation"
    cell: CellFreedom = "isotropic"
    """What relaxes besides the positions: nothing (`fixed`), the volume (`isotropic`), or volume and shape (`full`)."""
    max_force_ev_ang: PositiveFloat = 1e-3
    """Largest component of a residual force, in eV/Å."""
    max_stress_gpa: PositiveFloat = 1e-2
    """Largest residual stress along what is free to relax, in GPa."""
    min_phase_fraction: float = Field(default=0.7, ge=0.0, le=1.0)
    """Share of the relaxed atoms that have to be in the requested phase."""
    max_force_calls: int = Field(default=400, ge=10)
    """Force calls before the relaxation counts as not converged."""

    def build(self) -> LammpsRelaxation:
        """The oracle of these settings.

        Raises:
            ConfigError: the potential's files are missing or defective.
        """
        return LammpsRelaxation(self, self.potential.load())


class LammpsRelaxation(LammpsOracle):
    """Labels structures with the energy, volume and residual stress of their relaxed form, and with the distances that
    atoms moved from where the request has them, a shift of all and strains of the cell left out. The root mean square
    of these, from ideal sites, is the lattice distortion that strengthens alloys (Okamoto et al., AIP Advances 6,
    125008 (2016)).

    :meth:`evaluate` raises ``bad_structure``, ``not_converged``, ``left_phase``, ``corrupt_output`` or
    ``unavailable``.
    """

    name: ClassVar[str] = "lammps_relaxation"
    version: ClassVar[str] = "2"
    properties: ClassVar[dict[str, str]] = {
        "energy_ev": "eV",
        "energy_ev_per_atom": "eV",
        "volume_ang3_per_atom": "Å^3",
        "stress_ev_ang3": "eV/Å^3",
        "pressure_gpa": "GPa",
        "rms_displacement_ang": "Å",
        "max_displacement_ang": "Å",
    }
    arrays: ClassVar[frozenset[str]] = frozenset({"stress_ev_ang3"})
    supports_warm_start: ClassVar[bool] = True
    cost_hint_s: ClassVar[float] = 0.03

    def __init__(self, settings: RelaxationSettings, potential: LammpsPotential) -> None:
        super().__init__(settings, potential)
        self._settings = settings
        self._limits = RelaxationLimits(
            force_ev_ang=settings.max_force_ev_ang,
            stress_ev_ang3=settings.max_stress_gpa / GPA_PER_EV_ANG3,
            max_calls=settings.max_force_calls,
        )

    def _label(self, request: Request) -> tuple[dict[str, Value], Atoms, dict[str, Any]]:
        guess, crystal, relaxed = relax_in_phase(
            self._engine,
            request,
            cell_freedom=self._settings.cell,
            limits=self._limits,
            min_phase_fraction=self._settings.min_phase_fraction,
        )
        found = crystal.evaluation
        moved_ang = displacements(request.atoms, relaxed)
        values: dict[str, Value] = {
            "energy_ev": found.energy_ev,
            "energy_ev_per_atom": found.energy_ev / len(relaxed),
            "volume_ang3_per_atom": abs(float(np.linalg.det(crystal.cell))) / len(relaxed),
            "stress_ev_ang3": voigt_vector(found.stress),
            "pressure_gpa": found.pressure_ev_ang3 * GPA_PER_EV_ANG3,
            "rms_displacement_ang": float(np.sqrt(np.square(moved_ang).mean())),
            "max_displacement_ang": float(moved_ang.max()),
        }
        return values, relaxed, {"max_force_ev_ang": crystal.max_force_ev_ang, "is_warm_started": guess.is_warm}


def displacements(before: Atoms, after: Atoms) -> np.ndarray:
    """How far each atom moved between two structures with the same atoms, ``[n_atoms]``, Å.

    Strains of the cell move no atom, and neither does a shift of all.
    """
    scaled = after.positions @ np.linalg.inv(after.cell.array) - before.positions @ np.linalg.inv(before.cell.array)
    moved = (scaled - np.rint(scaled)) @ after.cell.array
    return np.linalg.norm(moved - moved.mean(axis=0), axis=1)
