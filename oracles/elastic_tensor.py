"""The full 6×6 elastic tensor with the ions relaxed under strain, and the moduli of a polycrystal made of it.

Voigt and Reuss bounds, Hill's average: R. Hill, Proc. Phys. Soc. A 65, 349 (1952). A crystal is mechanically stable
when all eigenvalues of the tensor are positive (Born's criterion): F. Mouhat, F.-X. Coudert, Phys. Rev. B 90,
224104 (2014).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveFloat

from .base import FailureKind, OracleError, Request, Value
from .bulk_modulus import LIMITS, RESPONSE_TOLERANCE_GPA, Accuracy
from .crystal_relaxation import voigt_strains
from .lammps_oracle import GPA_PER_EV_ANG3, LammpsOracle, LammpsOracleSettings, check_response
from .phase_relaxation import relax_in_phase
from .potentials import LammpsPotential
from .strain_response import strain_response


class ElasticTensorSettings(LammpsOracleSettings):
    """Elastic tensor of the relaxed structure, and its Voigt-Reuss-Hill moduli."""

    kind: Literal["elastic_tensor"] = "elastic_tensor"
    cell: Literal["isotropic", "full"] = "isotropic"
    """Whether the cell keeps its shape when it relaxes (so that the structure stays in its phase), or not."""
    accuracy: Accuracy = "fast"
    """`fast` is within about 0.05 GPa of `tight` in every component, at two thirds of its cost."""
    min_phase_fraction: float = Field(default=0.7, ge=0.0, le=1.0)
    """Share of the relaxed atoms that have to be in the requested phase."""
    max_uncertainty_gpa: PositiveFloat = 2.0
    """Largest uncertainty of the ions' response to strain, in GPa, before it counts as not converged; usually 0.02."""
    max_force_calls: int = Field(default=400, ge=10)
    """Force calls of the relaxation before it counts as not converged."""

    def build(self) -> LammpsElasticTensor:
        """The oracle of these settings.

        Raises:
            ConfigError: the potential's files are missing or defective.
        """
        return LammpsElasticTensor(self, self.potential.load())


class LammpsElasticTensor(LammpsOracle):
    """Labels structures with their elastic tensor ``[6, 6]`` (GPa, Voigt order xx yy zz yz xz xy) and its moduli.

    A mechanically unstable structure is labelled too: ``is_mechanically_stable`` is then 0, and the moduli are
    those of Voigt, because Reuss' mean has no meaning. :meth:`evaluate` raises ``bad_structure``,
    ``not_converged``, ``left_phase``, ``corrupt_output`` or ``unavailable``.
    """

    name: ClassVar[str] = "lammps_elastic_tensor"
    version: ClassVar[str] = "1"
    properties: ClassVar[dict[str, str]] = {
        "elastic_tensor_gpa": "GPa",
        "bulk_modulus_gpa": "GPa",
        "shear_modulus_gpa": "GPa",
        "youngs_modulus_gpa": "GPa",
        "poisson_ratio": "1",
        "pugh_ratio": "1",
        "bulk_modulus_voigt_gpa": "GPa",
        "bulk_modulus_reuss_gpa": "GPa",
        "shear_modulus_voigt_gpa": "GPa",
        "shear_modulus_reuss_gpa": "GPa",
        "min_elastic_eigenvalue_gpa": "GPa",
        "is_mechanically_stable": "1",
        "energy_ev_per_atom": "eV",
        "volume_ang3_per_atom": "Å^3",
    }
    arrays: ClassVar[frozenset[str]] = frozenset({"elastic_tensor_gpa"})
    supports_warm_start: ClassVar[bool] = True
    cost_hint_s: ClassVar[float] = 0.15

    def __init__(self, settings: ElasticTensorSettings, potential: LammpsPotential) -> None:
        super().__init__(settings, potential)
        self._settings = settings

    def _label(self, request: Request) -> tuple[dict[str, Value], Atoms, dict[str, Any]]:
        accuracy = self._settings.accuracy
        guess, crystal, relaxed = relax_in_phase(
            self._engine,
            request,
            cell_freedom=self._settings.cell,
            limits=LIMITS[accuracy].with_max_calls(self._settings.max_force_calls),
            min_phase_fraction=self._settings.min_phase_fraction,
        )
        response = strain_response(
            self._engine,
            crystal,
            voigt_strains(),
            tolerance_ev_ang3=RESPONSE_TOLERANCE_GPA[accuracy] / GPA_PER_EV_ANG3,
        )
        uncertainty_gpa = response.uncertainty_ev_ang3 * GPA_PER_EV_ANG3
        check_response(uncertainty_gpa, self._settings.max_uncertainty_gpa)
        values: dict[str, Value] = {
            **elastic_moduli(response.stiffness_ev_ang3 * GPA_PER_EV_ANG3),
            "energy_ev_per_atom": crystal.evaluation.energy_ev / len(relaxed),
            "volume_ang3_per_atom": abs(float(np.linalg.det(crystal.cell))) / len(relaxed),
        }
        details = {
            "max_force_ev_ang": crystal.max_force_ev_ang,
            "max_stress_gpa": float(np.abs(crystal.evaluation.stress).max()) * GPA_PER_EV_ANG3,
            "elastic_uncertainty_gpa": uncertainty_gpa,
            "is_warm_started": guess.is_warm,
        }
        return values, relaxed, details


def elastic_moduli(tensor_gpa: np.ndarray) -> dict[str, Value]:
    """Moduli of a polycrystal, from the elastic tensor of its crystals.

    Args:
        tensor_gpa: symmetric ``[6, 6]``, GPa, Voigt order xx yy zz yz xz xy, engineering shear strains.

    Returns:
        The tensor, Hill's averages (Voigt's for an unstable crystal), the bounds, and the stability.

    Raises:
        OracleError: ``corrupt_output`` when the tensor is singular.
    """
    c = 0.5 * (tensor_gpa + tensor_gpa.T)
    smallest = float(np.linalg.eigvalsh(c)[0])
    try:
        s = np.linalg.inv(c)
    except np.linalg.LinAlgError as error:
        raise OracleError(FailureKind.CORRUPT_OUTPUT, "the elastic tensor is singular") from error
    bulk_voigt = float(c[:3, :3].sum()) / 9.0
    shear_voigt = float((np.trace(c[:3, :3]) - c[0, 1] - c[1, 2] - c[0, 2]) / 15.0 + np.trace(c[3:, 3:]) / 5.0)
    bulk_reuss = 1.0 / float(s[:3, :3].sum())
    off_diagonal = s[0, 1] + s[1, 2] + s[0, 2]
    shear_reuss = 15.0 / float(4.0 * np.trace(s[:3, :3]) - 4.0 * off_diagonal + 3.0 * np.trace(s[3:, 3:]))
    is_stable = smallest > 0.0
    bulk = 0.5 * (bulk_voigt + bulk_reuss) if is_stable else bulk_voigt
    shear = 0.5 * (shear_voigt + shear_reuss) if is_stable else shear_voigt
    return {
        "elastic_tensor_gpa": c,
        "bulk_modulus_gpa": bulk,
        "shear_modulus_gpa": shear,
        "youngs_modulus_gpa": 9.0 * bulk * shear / (3.0 * bulk + shear),
        "poisson_ratio": (3.0 * bulk - 2.0 * shear) / (2.0 * (3.0 * bulk + shear)),
        "pugh_ratio": bulk / shear,
        "bulk_modulus_voigt_gpa": bulk_voigt,
        "bulk_modulus_reuss_gpa": bulk_reuss,
        "shear_modulus_voigt_gpa": shear_voigt,
        "shear_modulus_reuss_gpa": shear_reuss,
        "min_elastic_eigenvalue_gpa": smallest,
        "is_mechanically_stable": float(is_stable),
    }
