"""Bulk modulus of an alloy's ordering: relax it in its phase, then take its response to a volume strain.

Positions and volume relax together, from a neighbour's relaxed structure when one is given. The bulk modulus at
zero pressure follows from one strained force call and a few more for the relaxation of the ions under strain
(:mod:`.strain_response`), instead of two more relaxations at volumes ±0.2 %.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveFloat

from .base import Request, Value
from .crystal_relaxation import RelaxationLimits
from .lammps_oracle import GPA_PER_EV_ANG3, LammpsOracle, LammpsOracleSettings, check_response
from .phase_relaxation import relax_in_phase
from .potentials import LammpsPotential
from .strain_response import strain_response

Accuracy = Literal["fast", "tight"]

LIMITS: dict[Accuracy, RelaxationLimits] = {
    "fast": RelaxationLimits(force_ev_ang=1e-2, stress_ev_ang3=1e-5, displacement_ang=5e-4),
    "tight": RelaxationLimits(force_ev_ang=1e-5, stress_ev_ang3=1e-8),
}
RESPONSE_TOLERANCE_GPA: dict[Accuracy, float] = {"fast": 0.02, "tight": 1e-4}
"""Bound of the estimated rest of the response to strain, which is taken off; about twice the estimate is what it is."""


class BulkModulusSettings(LammpsOracleSettings):
    """Bulk modulus at zero pressure, relaxed isotropically so that the structure stays in its phase."""

    kind: Literal["bulk_modulus"] = "bulk_modulus"
    accuracy: Accuracy = "fast"
    """`fast` stops when no atom would move by another 0.0005 Å and is within about 0.03 GPa of `tight`, which stops at
    forces of 0.01 meV/Å and takes about twice as long."""
    min_phase_fraction: float = Field(default=0.7, ge=0.0, le=1.0)
    """Share of the relaxed atoms that have to be in the requested phase."""
    max_uncertainty_gpa: PositiveFloat = 0.5
    """Largest uncertainty of the ions' response to strain, in GPa, before it counts as not converged; usually 0.02."""
    max_force_calls: int = Field(default=400, ge=10)
    """Force calls of a relaxation before it counts as not converged."""

    def build(self) -> LammpsBulkModulus:
        """The oracle of these settings.

        Raises:
            ConfigError: the potential's files are missing or defective.
        """
        return LammpsBulkModulus(self, self.potential.load())


class LammpsBulkModulus(LammpsOracle):
    """Labels structures with their bulk modulus.

    :meth:`evaluate` raises ``bad_structure``, ``not_converged`` (also at a saddle point), ``left_phase``,
    ``corrupt_output`` or ``unavailable``.
    """

    name: ClassVar[str] = "lammps_bulk_modulus"
    version: ClassVar[str] = "1"
    properties: ClassVar[dict[str, str]] = {
        "bulk_modulus_gpa": "GPa",
        "energy_ev_per_atom": "eV",
        "volume_ang3_per_atom": "Å^3",
        "pressure_gpa": "GPa",
    }
    supports_warm_start: ClassVar[bool] = True
    cost_hint_s: ClassVar[float] = 0.04

    def __init__(self, settings: BulkModulusSettings, potential: LammpsPotential) -> None:
        super().__init__(settings, potential)
        self._settings = settings

    def _label(self, request: Request) -> tuple[dict[str, Value], Atoms, dict[str, Any]]:
        accuracy = self._settings.accuracy
        guess, crystal, relaxed = relax_in_phase(
            self._engine,
            request,
            cell_freedom="isotropic",
            limits=LIMITS[accuracy].with_max_calls(self._settings.max_force_calls),
            min_phase_fraction=self._settings.min_phase_fraction,
        )
        response = strain_response(
            self._engine,
            crystal,
            np.eye(3)[None],
            tolerance_ev_ang3=9.0 * RESPONSE_TOLERANCE_GPA[accuracy] / GPA_PER_EV_ANG3,
        )
        uncertainty_gpa = response.uncertainty_ev_ang3 / 9.0 * GPA_PER_EV_ANG3
        check_response(uncertainty_gpa, self._settings.max_uncertainty_gpa)
        n_atoms = len(relaxed)
        values: dict[str, Value] = {
            "bulk_modulus_gpa": float(response.stiffness_ev_ang3[0, 0]) / 9.0 * GPA_PER_EV_ANG3,
            "energy_ev_per_atom": crystal.evaluation.energy_ev / n_atoms,
            "volume_ang3_per_atom": abs(float(np.linalg.det(crystal.cell))) / n_atoms,
            "pressure_gpa": crystal.evaluation.pressure_ev_ang3 * GPA_PER_EV_ANG3,
        }
        details = {
            "max_force_ev_ang": crystal.max_force_ev_ang,
            "ionic_softening_gpa": float(response.softening_ev_ang3[0]) / 9.0 * GPA_PER_EV_ANG3,
            "bulk_modulus_uncertainty_gpa": uncertainty_gpa,
            "is_warm_started": guess.is_warm,
        }
        return values, relaxed, details
