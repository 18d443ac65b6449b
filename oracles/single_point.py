"""Energy, forces and stress of a structure as it is."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from ase import Atoms

from .base import Request, Value
from .crystal_relaxation import voigt_vector
from .lammps_oracle import GPA_PER_EV_ANG3, LammpsOracle, LammpsOracleSettings


class SinglePointSettings(LammpsOracleSettings):
    """Energy, forces and stress without any relaxation."""

    kind: Literal["single_point"] = "single_point"

    def build(self) -> LammpsSinglePoint:
        """The oracle of these settings.

        Raises:
            ConfigError: the potential's files are missing or defective.
        """
        return LammpsSinglePoint(self, self.potential.load())


class LammpsSinglePoint(LammpsOracle):
    """Labels structures with energy (eV), forces ``[n_atoms, 3]`` (eV/Å) and stress ``[6]`` (eV/Å^3, ASE's sign).

    :meth:`evaluate` raises ``bad_structure``, ``corrupt_output`` or ``unavailable``.
    """

    name: ClassVar[str] = "lammps_single_point"
    version: ClassVar[str] = "1"
    properties: ClassVar[dict[str, str]] = {
        "energy_ev": "eV",
        "energy_ev_per_atom": "eV",
        "forces_ev_ang": "eV/Å",
        "stress_ev_ang3": "eV/Å^3",
        "pressure_gpa": "GPa",
    }
    arrays: ClassVar[frozenset[str]] = frozenset({"forces_ev_ang", "stress_ev_ang3"})
    cost_hint_s: ClassVar[float] = 0.003

    def _label(self, request: Request) -> tuple[dict[str, Value], Atoms, dict[str, Any]]:
        found = self._engine.compute(request.atoms)
        values: dict[str, Value] = {
            "energy_ev": found.energy_ev,
            "energy_ev_per_atom": found.energy_ev / len(request.atoms),
            "forces_ev_ang": found.forces,
            "stress_ev_ang3": voigt_vector(found.stress),
            "pressure_gpa": found.pressure_ev_ang3 * GPA_PER_EV_ANG3,
        }
        atoms = request.atoms.copy()
        atoms.calc = None
        return values, atoms, {}
