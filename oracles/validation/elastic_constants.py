"""Elastic constants of a crystal, the moduli of its polycrystal, and mechanical stability.

Ions relax under strain (:mod:`..strain_response`); averages and stability as in :mod:`..elastic_tensor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import PositiveFloat

from ...structures.crystals import CUBIC_LATTICES
from ...structures.settings import Settings
from ..crystal_relaxation import voigt_strains
from ..elastic_tensor import elastic_moduli
from ..force_engine import ForceEngine
from ..lammps_oracle import GPA_PER_EV_ANG3, check_response
from ..strain_response import strain_response
from .base import Bench
from .crystal import Crystal, equilibrium

_COMPONENTS: dict[str, tuple[tuple[int, int], ...]] = {
    "c11_gpa": ((0, 0),),
    "c22_gpa": ((1, 1),),
    "c33_gpa": ((2, 2),),
    "c12_gpa": ((0, 1),),
    "c13_gpa": ((0, 2),),
    "c23_gpa": ((1, 2),),
    "c44_gpa": ((3, 3),),
    "c55_gpa": ((4, 4),),
    "c66_gpa": ((5, 5),),
}
_CUBIC: dict[str, tuple[tuple[int, int], ...]] = {
    "c11_gpa": ((0, 0), (1, 1), (2, 2)),
    "c12_gpa": ((0, 1), (0, 2), (1, 2)),
    "c44_gpa": ((3, 3), (4, 4), (5, 5)),
}
_HEXAGONAL: dict[str, tuple[tuple[int, int], ...]] = {
    "c11_gpa": ((0, 0), (1, 1)),
    "c33_gpa": ((2, 2),),
    "c12_gpa": ((0, 1),),
    "c13_gpa": ((0, 2), (1, 2)),
    "c44_gpa": ((3, 3), (4, 4)),
}
_TOLERANCE_GPA = 1e-3


@dataclass(frozen=True)
class ElasticConstants:
    """The elastic tensor of a crystal at zero pressure.

    Attributes:
        tensor_gpa: ``[6, 6]``, Voigt order xx yy zz yz xz xy.
        constants_gpa: the independent components of the lattice, by name (``c11_gpa``).
        bulk_modulus_gpa, shear_modulus_gpa, poisson_ratio: Hill's averages; Voigt's where the crystal is unstable.
        min_eigenvalue_gpa: smallest eigenvalue of the tensor.
        is_stable: whether it is positive (Born's criterion).
        uncertainty_gpa: what the relaxation of the ions leaves open.
    """

    tensor_gpa: tuple[tuple[float, ...], ...]
    constants_gpa: dict[str, float]
    bulk_modulus_gpa: float
    shear_modulus_gpa: float
    poisson_ratio: float
    min_eigenvalue_gpa: float
    is_stable: bool
    uncertainty_gpa: float

    def values(self) -> dict[str, float]:
        """Constants and Hill's averages."""
        return {
            **self.constants_gpa,
            "bulk_modulus_gpa": self.bulk_modulus_gpa,
            "shear_modulus_gpa": self.shear_modulus_gpa,
            "poisson_ratio": self.poisson_ratio,
        }


class ElasticConstantsSettings(Settings):
    """Elastic constants, Voigt-Reuss-Hill moduli, mechanical stability."""

    kind: Literal["elastic"] = "elastic"
    max_uncertainty_gpa: PositiveFloat = 1.0
    """Largest uncertainty of the ions' response to strain, in GPa, before it counts as not converged."""
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = ElasticConstants

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        return (*_COMPONENTS, "bulk_modulus_gpa", "shear_modulus_gpa", "poisson_ratio")

    def measure(self, bench: Bench, crystal: Crystal) -> ElasticConstants:
        """See :func:`elastic_constants`."""
        return elastic_constants(bench.engine, crystal, self)


def elastic_constants(engine: ForceEngine, crystal: Crystal, settings: ElasticConstantsSettings) -> ElasticConstants:
    """Elastic tensor of the relaxed crystal.

    Components that the lattice's symmetry makes equal are averaged.

    Raises:
        OracleError: ``not_converged`` when relaxations or the ions' response do not settle, or what the engine raises.
    """
    relaxed = equilibrium(engine, crystal)
    engine.load(relaxed.atoms)
    response = strain_response(
        engine, relaxed.relaxed, voigt_strains(), tolerance_ev_ang3=_TOLERANCE_GPA / GPA_PER_EV_ANG3
    )
    uncertainty_gpa = response.uncertainty_ev_ang3 * GPA_PER_EV_ANG3
    check_response(uncertainty_gpa, settings.max_uncertainty_gpa)
    moduli = elastic_moduli(response.stiffness_ev_ang3 * GPA_PER_EV_ANG3)
    tensor = np.asarray(moduli["elastic_tensor_gpa"])
    independent = _COMPONENTS
    if crystal.lattice in CUBIC_LATTICES:
        independent = _CUBIC
    elif crystal.lattice in ("hcp", "wurtzite"):
        independent = _HEXAGONAL
    return ElasticConstants(
        tensor_gpa=tuple(tuple(row) for row in tensor.tolist()),
        constants_gpa={
            name: float(np.mean([tensor[place] for place in places])) for name, places in independent.items()
        },
        bulk_modulus_gpa=float(moduli["bulk_modulus_gpa"]),
        shear_modulus_gpa=float(moduli["shear_modulus_gpa"]),
        poisson_ratio=float(moduli["poisson_ratio"]),
        min_eigenvalue_gpa=float(moduli["min_elastic_eigenvalue_gpa"]),
        is_stable=bool(moduli["is_mechanically_stable"]),
        uncertainty_gpa=uncertainty_gpa,
    )
