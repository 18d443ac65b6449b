"""Energy against volume, and the Birch-Murnaghan equation fitted to it.

F. Birch, Phys. Rev. 71, 809 (1947), third order, as fitted by ASE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.eos import EquationOfState as AseEquationOfState
from ase.eos import birchmurnaghan
from pydantic import Field, PositiveFloat, model_validator

from ...structures.settings import Settings
from ..base import FailureKind, OracleError
from ..crystal_relaxation import relax_crystal
from ..force_engine import ForceEngine
from ..lammps_oracle import GPA_PER_EV_ANG3
from .base import Bench
from .crystal import BULK_MODULUS_GUESS_EV_ANG3, TIGHT, Crystal, Equilibrium, equilibrium

_FREE_ATOM_CELL_ANG = 30.0


@dataclass(frozen=True)
class EnergyVolumeCurve:
    """Energy against volume of a crystal.

    Attributes:
        volumes_ang3_per_atom, energies_ev_per_atom: the curve.
        pressures_gpa: along the curve, from the stress (compression is positive).
        volume_ang3_per_atom, energy_ev_per_atom, bulk_modulus_gpa, bulk_modulus_derivative: V0, E0, B0 and B0' of
            the fit.
        fit_error_ev_per_atom: root mean square of what the fit leaves.
        lattice_constants_ang: lengths of the relaxed conventional cell, a b c.
        cohesive_energy_ev_per_atom: energy of free atoms less that of the crystal; ``None`` when free atoms have none.
    """

    volumes_ang3_per_atom: tuple[float, ...]
    energies_ev_per_atom: tuple[float, ...]
    pressures_gpa: tuple[float, ...]
    volume_ang3_per_atom: float
    energy_ev_per_atom: float
    bulk_modulus_gpa: float
    bulk_modulus_derivative: float
    fit_error_ev_per_atom: float
    lattice_constants_ang: tuple[float, float, float]
    cohesive_energy_ev_per_atom: float | None

    def values(self) -> dict[str, float]:
        """Lattice constants (c only where it differs from a), cohesive energy and the fit."""
        a, _, c = self.lattice_constants_ang
        found = {
            "lattice_constant_ang": a,
            "volume_ang3_per_atom": self.volume_ang3_per_atom,
            "bulk_modulus_eos_gpa": self.bulk_modulus_gpa,
            "bulk_modulus_derivative": self.bulk_modulus_derivative,
        }
        if abs(c - a) > 1e-4 * a:
            found["lattice_constant_c_ang"] = c
        if self.cohesive_energy_ev_per_atom is not None:
            found["cohesive_energy_ev_per_atom"] = self.cohesive_energy_ev_per_atom
        return found

    def fitted(self, volumes_ang3_per_atom: np.ndarray) -> np.ndarray:
        """The fitted curve, eV per atom, at volumes per atom."""
        bulk_modulus = self.bulk_modulus_gpa / GPA_PER_EV_ANG3
        return birchmurnaghan(
            volumes_ang3_per_atom,
            self.energy_ev_per_atom,
            bulk_modulus,
            self.bulk_modulus_derivative,
            self.volume_ang3_per_atom,
        )


class EquationOfStateSettings(Settings):
    """Energy-volume curve, lattice constant and cohesive energy."""

    kind: Literal["eos"] = "eos"
    min_volume: PositiveFloat = 0.84
    """Smallest volume of the curve, over the equilibrium volume."""
    max_volume: PositiveFloat = 1.18
    """Largest volume of the curve, over the equilibrium volume."""
    n_points: int = Field(default=35, ge=7)
    """Points of the curve."""
    fit_range: PositiveFloat = 0.02
    """The equation is fitted to volumes within this share of the equilibrium volume; over a wide range it would not
    give the curvature at the minimum."""
    n_fit_points: int = Field(default=13, ge=5)
    """Points of the fit, beside those of the curve."""
    free_atom_energies_ev: dict[str, float] = Field(default_factory=dict)
    """Energy of a free atom of each element on the potential's scale, in eV; by default what the potential gives an
    atom on its own, which is right for EAM but means nothing for a potential that never saw one."""
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = EnergyVolumeCurve

    @model_validator(mode="after")
    def _encloses_the_minimum(self) -> EquationOfStateSettings:
        if not self.min_volume < 1.0 < self.max_volume:
            raise ValueError(
                f"the curve has to enclose the equilibrium: min_volume {self.min_volume} < 1 < {self.max_volume}"
            )
        return self

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        return (
            "lattice_constant_ang",
            "lattice_constant_c_ang",
            "volume_ang3_per_atom",
            "bulk_modulus_eos_gpa",
            "bulk_modulus_derivative",
            "cohesive_energy_ev_per_atom",
        )

    def measure(self, bench: Bench, crystal: Crystal) -> EnergyVolumeCurve:
        """See :func:`energy_volume_curve`."""
        return energy_volume_curve(bench.engine, crystal, self)


def energy_volume_curve(engine: ForceEngine, crystal: Crystal, settings: EquationOfStateSettings) -> EnergyVolumeCurve:
    """Energy-volume curve of a crystal; its cell keeps the equilibrium's shape, its ions relax at each volume.

    Raises:
        OracleError: ``not_converged`` when a relaxation or the fit fails, or what the engine raises.
    """
    relaxed = equilibrium(engine, crystal)
    ratios = np.linspace(settings.min_volume, settings.max_volume, settings.n_points)
    curve = [_at_volume(engine, relaxed, ratio) for ratio in ratios]
    fit_ratios = 1.0 + settings.fit_range * np.linspace(-1.0, 1.0, settings.n_fit_points)
    fit_energies = np.array([_at_volume(engine, relaxed, ratio)[0] for ratio in fit_ratios])
    fit_volumes = fit_ratios * relaxed.volume_ang3_per_atom
    fit = AseEquationOfState(fit_volumes, fit_energies, eos="birchmurnaghan")
    try:
        volume, energy, bulk_modulus = fit.fit(warn=False)
    except (RuntimeError, ValueError) as error:
        raise OracleError(
            FailureKind.NOT_CONVERGED, f"the Birch-Murnaghan equation cannot be fitted to the curve: {error}"
        ) from error
    derivative = float(fit.eos_parameters[2])
    rest = fit_energies - birchmurnaghan(fit_volumes, energy, bulk_modulus, derivative, volume)
    a, b, c = relaxed.atoms.cell.lengths()
    return EnergyVolumeCurve(
        volumes_ang3_per_atom=tuple((ratios * relaxed.volume_ang3_per_atom).tolist()),
        energies_ev_per_atom=tuple(point[0] for point in curve),
        pressures_gpa=tuple(point[1] for point in curve),
        volume_ang3_per_atom=float(volume),
        energy_ev_per_atom=float(energy),
        bulk_modulus_gpa=float(bulk_modulus) * GPA_PER_EV_ANG3,
        bulk_modulus_derivative=derivative,
        fit_error_ev_per_atom=float(np.sqrt((rest**2).mean())),
        lattice_constants_ang=(float(a), float(b), float(c)),
        cohesive_energy_ev_per_atom=_cohesive_energy(engine, relaxed, settings),
    )


def _at_volume(engine: ForceEngine, relaxed: Equilibrium, ratio: float) -> tuple[float, float]:
    """Energy per atom (eV) and pressure (GPa)."""
    scaled = relaxed.atoms.copy()
    scaled.set_cell(relaxed.atoms.cell.array * ratio ** (1.0 / 3.0), scale_atoms=True)
    found = relax_crystal(
        engine, scaled, cell_freedom="fixed", bulk_modulus_ev_ang3=BULK_MODULUS_GUESS_EV_ANG3, limits=TIGHT
    ).evaluation
    return found.energy_ev / len(scaled), found.pressure_ev_ang3 * GPA_PER_EV_ANG3


def _cohesive_energy(engine: ForceEngine, relaxed: Equilibrium, settings: EquationOfStateSettings) -> float | None:
    counts = relaxed.atoms.symbols.formula.count()
    free = 0.0
    for element, count in counts.items():
        if element in settings.free_atom_energies_ev:
            free += count * settings.free_atom_energies_ev[element]
            continue
        atom = Atoms(element, cell=[_FREE_ATOM_CELL_ANG] * 3, pbc=True)
        try:
            free += count * engine.compute(atom).energy_ev
        except OracleError:  # not every potential can be asked for an atom without neighbours
            return None
    return free / len(relaxed.atoms) - relaxed.energy_ev_per_atom
