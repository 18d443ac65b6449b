"""How a configuration asks for physical constraints, told apart by their ``kind``.

All target values are the user's: take them from the calculations that made the training data, or from experiment, and
take the lattice constant from the same source.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import gcd
from typing import Annotated, Literal

import numpy as np
import torch
from ase import Atoms
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from ....errors import ConfigError
from ....oracles.validation.surfaces import slab_of
from ....structures.crystals import CrystalSettings
from ....structures.settings import Settings
from ..graph import build_graph
from .base import EnergyZero, LossForm, PhysicalConstraint, Setting, require_elements
from .defects import DefectConstraint, j_m2_per_ev, vacancy_cell
from .elasticity import ElasticConstraint, parse_component
from .energies import EnergyConstraint, EquilibriumConstraint, RoseConstraint, rose_energies


class _OfCrystal(Settings):
    """What the settings of all constraints share."""

    crystal: CrystalSettings
    """The crystal it is about."""
    name: str = Field(default="", max_length=80)
    """Name in reports, unique in a fit; by default the kind and the crystal."""
    weight: PositiveFloat = 1.0
    """Factor of its term in the loss."""

    def build(
        self,
        elements: Sequence[str],
        cutoff_ang: float,
        dtype: torch.dtype = torch.float64,
        *,
        reference_energies_ev: Mapping[str, float] | None = None,
        device: str = "cpu",
    ) -> PhysicalConstraint:
        """The constraint, for models of these elements and this range.

        Args:
            elements: chemical symbols of the model's types, in order.
            cutoff_ang: range of the model's pairs, Å.
            dtype: precision of the model's parameters.
            reference_energies_ev: energy per atom of each element that the labels lose before the fit, eV.
            device: where the model is.

        Raises:
            ConfigError: a crystal that cannot be read or used for this.
            SurrogateError: an element that the model does not have, or a cell that is too large.
        """
        atoms = self.crystal.build()
        setting = Setting(tuple(elements), cutoff_ang, dtype, device, dict(reference_energies_ev or {}))
        require_elements(atoms, setting, self.constraint_name)
        if len(build_graph(atoms, elements, cutoff_ang).first) == 0:
            raise ConfigError(
                f"constraint {self.constraint_name!r}: no two atoms of {self.crystal.title} are within the cutoff of "
                f"{cutoff_ang:g} Å; check the lattice constant, in Å"
            )
        return self._build(atoms, setting)

    @property
    def constraint_name(self) -> str:
        """What the constraint is called."""
        return self.name or f"{self.kind}/{self._what()}"  # type: ignore[attr-defined]

    def _what(self) -> str:
        return self.crystal.title

    @abstractmethod
    def _build(self, atoms: Atoms, setting: Setting) -> PhysicalConstraint:
        """The constraint on a crystal that has been checked."""


class RoseConstraintSettings(_OfCrystal):
    """Energies along isotropic scaling follow Rose's equation of state, as modified by Mishin: bulk modulus, energy and
    lattice constant of the crystal, and its stiffening under pressure."""

    kind: Literal["rose"] = "rose"
    energy_ev: float
    """Energy per atom at equilibrium, in eV; it also sets the depth in Eq. 27, unless `depth_ev` does."""
    energy_zero: EnergyZero | Literal["free"] = "labels"
    """What `energy_ev` counts from: `labels` (the training labels' zero, such as DFT total energies), `atoms` (free
    atoms: minus the cohesive energy), or `free`: the level is left to the model, and only the shape is asked for."""
    depth_ev: PositiveFloat | None = None
    """How far the crystal is below free atoms, in eV per atom: the cohesive energy. By default minus `energy_ev`, as
    the paper does with total energies; give it where these count from something far off free atoms."""
    bulk_modulus_gpa: PositiveFloat
    """Bulk modulus at equilibrium, in GPa."""
    beta: float = 0.005
    """β of Eq. 26; larger is stiffer under pressure. The paper chose 0.005 for Ni and 0.008 for Mo."""
    along: Literal["length", "volume"] = "length"
    """Whether the range below is one of the lattice constant (x = a/a0 - 1 of Eq. 28) or of the volume."""
    first: float = Field(default=-0.10, gt=-0.5, lt=1.0)
    """Where the range begins; -0.1 is 10 % smaller."""
    last: float = Field(default=0.10, gt=-0.5, lt=1.0)
    """Where the range ends."""
    n_points: int = Field(default=21, ge=2, le=500)
    """Points of the range, its ends included."""
    loss: LossForm = "squared"
    """`squared`: mean squared difference over tolerance; `norm`: norm of the differences in eV per atom (Eq. 28)."""
    tolerance_ev: PositiveFloat = 0.01
    """Difference per atom that counts as one in the squared loss, in eV."""

    @model_validator(mode="after")
    def _is_range(self) -> RoseConstraintSettings:
        if self.first >= self.last:
            raise ValueError(f"the range must begin below its end, got {self.first} to {self.last}")
        if self.loss == "norm" and "tolerance_ev" in self.model_fields_set:
            raise ValueError("tolerance_ev belongs to loss: squared; use weight with loss: norm")
        if self.depth_ev is None and self.energy_ev >= 0.0:
            raise ValueError(f"energy_ev is {self.energy_ev:g}, no depth below free atoms; give depth_ev (positive)")
        return self

    def scalings(self) -> np.ndarray:
        """x = a/a0 - 1 of all points, ``[n_points]``."""
        grid = np.linspace(self.first, self.last, self.n_points)
        return grid if self.along == "length" else np.cbrt(1.0 + grid) - 1.0

    def _build(self, atoms: Atoms, setting: Setting) -> PhysicalConstraint:
        scalings = self.scalings()
        depth = self.depth_ev if self.depth_ev is not None else -self.energy_ev
        shape = rose_energies(
            scalings,
            depth_ev=depth,
            volume_ang3=float(atoms.get_volume()) / len(atoms),
            bulk_modulus_gpa=self.bulk_modulus_gpa,
            beta=self.beta,
        )
        above = shape + depth
        is_free = self.energy_zero == "free"
        level = 0.0 if self.energy_zero == "free" else setting.model_energy_ev(self.energy_ev, atoms, self.energy_zero)
        return RoseConstraint(
            self.constraint_name,
            self.weight,
            atoms,
            scalings,
            above + level,
            setting,
            is_level_free=is_free,
            form=self.loss,
            tolerance_ev=self.tolerance_ev,
        )


class ElasticConstraintSettings(_OfCrystal):
    """Elastic constants of a crystal, ions relaxed, with no stress on it and no forces on its atoms."""

    kind: Literal["elastic"] = "elastic"
    constants_gpa: dict[str, float] = Field(min_length=1)
    """Elastic constants in GPa, in the crystal's axes: `{c11: 276, c12: 159, c44: 132}`. Give those that are
    independent; Voigt order xx yy zz yz xz xy."""
    loss: LossForm = "squared"
    """`squared`: mean squared differences over tolerances; `norm`: ReLU(MAE - gate) × RMSE + |stress| + |forces|, in
    GPa and eV/Å (Eqs. 31-33 of the paper)."""
    gate_gpa: NonNegativeFloat = 2.0
    """τ of Eq. 32, in GPa, for loss: norm: below this mean error the constants do not count."""
    tolerance_gpa: PositiveFloat = 2.0
    """Difference of a constant that counts as one in the squared loss, in GPa."""
    stress_tolerance_gpa: PositiveFloat = 0.5
    """Stress that counts as one in the squared loss, in GPa."""
    force_tolerance_ev_ang: PositiveFloat = 0.05
    """Force that counts as one in the squared loss, in eV/Å."""

    @field_validator("constants_gpa")
    @classmethod
    def _are_components(cls, constants: dict[str, float]) -> dict[str, float]:
        parsed = [parse_component(name) for name in constants]
        if len(set(parsed)) < len(parsed):
            raise ValueError(f"an elastic constant is given twice in {', '.join(constants)}")
        return constants

    @model_validator(mode="after")
    def _uses_its_keys(self) -> ElasticConstraintSettings:
        squared = {"tolerance_gpa", "stress_tolerance_gpa", "force_tolerance_ev_ang"}
        foreign = sorted(self.model_fields_set & (squared if self.loss == "norm" else {"gate_gpa"}))
        if foreign:
            raise ValueError(f"{', '.join(foreign)} has no effect with loss: {self.loss}; leave it out")
        return self

    def _build(self, atoms: Atoms, setting: Setting) -> PhysicalConstraint:
        return ElasticConstraint(
            self.constraint_name,
            self.weight,
            atoms,
            {parse_component(name): value for name, value in self.constants_gpa.items()},
            setting,
            form=self.loss,
            gate_gpa=self.gate_gpa,
            tolerance_gpa=self.tolerance_gpa,
            stress_tolerance_gpa=self.stress_tolerance_gpa,
            force_tolerance_ev_ang=self.force_tolerance_ev_ang,
        )


class EquilibriumConstraintSettings(_OfCrystal):
    """The crystal as it is given is in equilibrium: no stress, no forces."""

    kind: Literal["equilibrium"] = "equilibrium"
    stress_tolerance_gpa: PositiveFloat = 0.5
    """Stress that counts as one, in GPa."""
    force_tolerance_ev_ang: PositiveFloat = 0.05
    """Force that counts as one, in eV/Å."""

    def _build(self, atoms: Atoms, setting: Setting) -> PhysicalConstraint:
        return EquilibriumConstraint(
            self.constraint_name,
            self.weight,
            atoms,
            setting,
            stress_tolerance_gpa=self.stress_tolerance_gpa,
            force_tolerance_ev_ang=self.force_tolerance_ev_ang,
        )


class CohesiveConstraintSettings(_OfCrystal):
    """Energy per atom of a crystal."""

    kind: Literal["cohesive"] = "cohesive"
    energy_ev: float
    """Energy per atom, in eV."""
    energy_zero: EnergyZero = "labels"
    """What it counts from: `labels` (the training labels' zero, such as DFT total energies), or `atoms` (free atoms:
    minus the cohesive energy)."""
    tolerance_ev: PositiveFloat = 0.005
    """Difference per atom that counts as one, in eV."""

    @model_validator(mode="after")
    def _is_bound(self) -> CohesiveConstraintSettings:
        if self.energy_zero == "atoms" and self.energy_ev >= 0.0:
            raise ValueError(f"energy_ev counts from free atoms and must be negative, got {self.energy_ev:g}")
        return self

    def _build(self, atoms: Atoms, setting: Setting) -> PhysicalConstraint:
        return EnergyConstraint(
            self.constraint_name,
            self.weight,
            atoms,
            (),
            setting.model_energy_ev(self.energy_ev, atoms, self.energy_zero),
            setting,
            figure="energy_ev_per_atom",
            tolerance_ev=self.tolerance_ev,
        )


class EnergyDifferenceConstraintSettings(_OfCrystal):
    """Energy per atom of a crystal less that of others: which phase is stable, or an energy of formation."""

    kind: Literal["energy_difference"] = "energy_difference"
    others: tuple[CrystalSettings, ...] = Field(min_length=1)
    """What it is compared with: one crystal of the same composition, or one for each element of the compound."""
    difference_ev: float
    """Energy per atom of `crystal` less that of `others`, in eV; the zero of energies has no part in it."""
    tolerance_ev: PositiveFloat = 0.005
    """Difference that counts as one, in eV."""

    def _what(self) -> str:
        return f"{self.crystal.title} - {' - '.join(other.title for other in self.others)}"

    def _build(self, atoms: Atoms, setting: Setting) -> PhysicalConstraint:
        others = [other.build() for other in self.others]
        for other in others:
            require_elements(other, setting, self.constraint_name)
        return EnergyConstraint(
            self.constraint_name,
            self.weight,
            atoms,
            others,
            self.difference_ev,
            setting,
            figure="energy_difference_ev_per_atom",
            tolerance_ev=self.tolerance_ev,
        )


class _Relaxed(_OfCrystal):
    """What defects share: a crystal of one element, and ions that relax."""

    is_relaxed: bool = True
    """Whether the target is the energy with relaxed ions; otherwise they stay on their sites."""
    refresh_every: PositiveInt = 50
    """Evaluations of the loss after which the ions are relaxed anew for the model as it has become. Between, the energy
    is right to second order."""

    def _refresh(self) -> int:
        return self.refresh_every if self.is_relaxed else 0

    def _element_only(self, atoms: Atoms) -> None:
        elements = sorted(set(atoms.get_chemical_symbols()))
        if len(elements) > 1:
            raise ConfigError(
                f"constraint {self.constraint_name!r}: {self.crystal.title} consists of {', '.join(elements)}, where "
                "the energy of a defect depends on chemical potentials; use a crystal of one element"
            )


class VacancyConstraintSettings(_Relaxed):
    """Formation energy of a vacancy in a crystal of one element, in its given lattice constant."""

    kind: Literal["vacancy"] = "vacancy"
    energy_ev: float
    """Formation energy, in eV."""
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 3, 3)
    """Supercell, in conventional (cubic) cells where the lattice has one. Take that of the calculation the target is
    from."""
    tolerance_ev: PositiveFloat = 0.05
    """Difference that counts as one, in eV."""

    def _build(self, atoms: Atoms, setting: Setting) -> PhysicalConstraint:
        self._element_only(atoms)
        return DefectConstraint(
            self.constraint_name,
            self.weight,
            atoms,
            vacancy_cell(self.crystal.build(is_conventional=True), self.repeat),
            self.energy_ev,
            setting,
            unit_per_ev=1.0,
            figure="vacancy_formation_energy_ev",
            tolerance=self.tolerance_ev,
            refresh_every=self._refresh(),
        )


class SurfaceConstraintSettings(_Relaxed):
    """Energy of a surface of a crystal of one element."""

    kind: Literal["surface"] = "surface"
    miller: tuple[int, int, int]
    """Miller indices in the conventional cell."""
    energy_j_m2: PositiveFloat
    """Energy per area, in J/m^2."""
    min_thickness_ang: PositiveFloat = 12.0
    """Smallest thickness of the slab, in Å."""
    tolerance_j_m2: PositiveFloat = 0.1
    """Difference that counts as one, in J/m^2."""

    @field_validator("miller")
    @classmethod
    def _is_reduced(cls, miller: tuple[int, int, int]) -> tuple[int, int, int]:
        if gcd(*miller) != 1:
            raise ValueError(f"Miller indices must be three integers without a common divisor, got {miller}")
        return miller

    def _what(self) -> str:
        return f"{self.crystal.title} ({' '.join(str(index) for index in self.miller)})"

    def _build(self, atoms: Atoms, setting: Setting) -> PhysicalConstraint:
        self._element_only(atoms)
        conventional = self.crystal.build(is_conventional=True)
        # atoms may move out into the vacuum, and must not meet the next slab
        slab, _ = slab_of(conventional, self.miller, self.min_thickness_ang, setting.cutoff_ang + 3.0)
        return DefectConstraint(
            self.constraint_name,
            self.weight,
            atoms,
            slab,
            self.energy_j_m2,
            setting,
            unit_per_ev=j_m2_per_ev(slab),
            figure="surface_energy_j_m2",
            tolerance=self.tolerance_j_m2,
            refresh_every=self._refresh(),
        )


ConstraintSettings = Annotated[
    RoseConstraintSettings
    | ElasticConstraintSettings
    | EquilibriumConstraintSettings
    | CohesiveConstraintSettings
    | EnergyDifferenceConstraintSettings
    | VacancyConstraintSettings
    | SurfaceConstraintSettings,
    Field(discriminator="kind"),
]
"""Settings of any constraint; ``.build(elements, cutoff_ang, dtype)`` makes it."""
