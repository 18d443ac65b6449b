"""Elastic constants by automatic differentiation, as targets of a fit.

Eqs. 29-33 of "Machine learning enhanced empirical potentials for metals and alloys" (Chen et al., Comput. Phys. Commun.
2021), and beyond them the relaxation of the ions: with second derivatives by strains e and displacements u,

    C = (E_ee - E_eu E_uu^-1 E_ue) / V.

For a crystal under stress or with forces on its atoms these are not elastic constants in any strict sense; so stress
and forces are driven to zero beside them, as in Eq. 31. The targets have to belong to the crystal as it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from ase import Atoms
from torch import Tensor

from ....oracles.lammps_oracle import GPA_PER_EV_ANG3
from ..model import PotentialModel
from .base import Differences, LossForm, PhysicalConstraint, Setting
from .strained_cell import N_STRAINS, Derivatives, StrainedCell

_FROBENIUS = (1.0, 1.0, 1.0, 2.0, 2.0, 2.0)
"""How often each Voigt component is in the tensor."""
MIN_STIFFNESS_EV_ANG2 = 0.2
"""Where the softest mode of the ions is softer, as it may be on the way of a fit, their relaxation is faded out, down
to clamped ions in an unstable crystal: it would go beyond all bounds, and lose its meaning, as the stiffness goes to
zero. The mode has a residual of its own then. About 1 eV/Å^2 is usual in metals."""


@dataclass(frozen=True)
class Elasticity:
    """What a model gives for a crystal.

    Attributes:
        constants_gpa: the wanted elastic constants, ``[k]``, GPa.
        derivatives: energy, stress and forces.
        softest_mode_ev_ang2: smallest eigenvalue of the ions' Hessian, eV/Å^2, ``[1]``; empty without free ions. The
            crystal is unstable where it is below zero.
    """

    constants_gpa: Tensor
    derivatives: Derivatives
    softest_mode_ev_ang2: Tensor


class ElasticConstants:
    """Chosen elastic constants of a crystal, for any model.

    Args:
        atoms: the crystal; the constants refer to its axes.
        components: Voigt indices ``(i, j)`` from 0 to 5.
        setting: elements, range and precision of the models.

    Raises:
        SurrogateError: an element that the model does not have, or a cell too large for second derivatives.
    """

    def __init__(self, atoms: Atoms, components: Sequence[tuple[int, int]], setting: Setting) -> None:
        self.cell = StrainedCell(atoms, setting)
        rows = _covering_rows(components)
        self._from_row = [rows.index(i) if i in rows else rows.index(j) for i, j in components]
        self._column = [j if i in rows else i for i, j in components]
        self._n_strain_rows = len(rows)
        self._strain_rows = torch.as_tensor(rows, device=setting.device)
        self._rows = self.cell.rows([*rows, *range(N_STRAINS, self.cell.n_coordinates)])

    def evaluate(self, model: PotentialModel) -> Elasticity:
        """The constants, differentiable in the model's parameters (unless gradients are off)."""
        derivatives, hessian = self.cell.hessian_rows(model, self._rows)
        stiffness = hessian[: self._n_strain_rows, :N_STRAINS]
        softest = hessian.new_zeros(0)
        if self.cell.n_displacements:
            among_ions = hessian[self._n_strain_rows :, N_STRAINS:]
            coupling = hessian[self._n_strain_rows :, :N_STRAINS]  # [ions, strains]
            among_ions = 0.5 * (among_ions + among_ions.T)
            softest = torch.linalg.eigvalsh(among_ions)[:1]
            if float(softest.detach()) > 0.0:
                relaxation = coupling[:, self._strain_rows].T @ torch.linalg.solve(among_ions, coupling)
                stiffness = stiffness - _smooth_step(softest / MIN_STIFFNESS_EV_ANG2) * relaxation
        constants = stiffness[self._from_row, self._column] * (GPA_PER_EV_ANG3 / self.cell.volume_ang3)
        return Elasticity(constants, derivatives, softest)


class ElasticConstraint(PhysicalConstraint):
    """Elastic constants of a crystal, with stress and forces zero; see :class:`.settings.ElasticConstraintSettings`.

    Args:
        name: unique within a fit.
        weight: factor of the loss.
        atoms: the crystal.
        targets_gpa: Voigt indices ``(i, j)``, from 0 to 5, to elastic constants, GPa.
        setting: elements, range and precision of the models.
        form: squared differences over tolerances, or the norms of Eq. 31.
        gate_gpa: τ of Eq. 32, for the norms, GPa.
        tolerance_gpa, stress_tolerance_gpa, force_tolerance_ev_ang: what counts as one in the squared form.
    """

    def __init__(
        self,
        name: str,
        weight: float,
        atoms: Atoms,
        targets_gpa: Mapping[tuple[int, int], float],
        setting: Setting,
        *,
        form: LossForm,
        gate_gpa: float,
        tolerance_gpa: float,
        stress_tolerance_gpa: float,
        force_tolerance_ev_ang: float,
    ) -> None:
        super().__init__(name, weight)
        self._constants = ElasticConstants(atoms, list(targets_gpa), setting)
        self._names = [f"c{i + 1}{j + 1}_gpa" for i, j in targets_gpa]
        self._targets = torch.tensor(list(targets_gpa.values()), dtype=setting.dtype, device=setting.device)
        self._root = torch.tensor(_FROBENIUS, dtype=setting.dtype, device=setting.device).sqrt()
        self._form = form
        self._gate_gpa = gate_gpa
        self._tolerances = (tolerance_gpa, stress_tolerance_gpa, force_tolerance_ev_ang)

    def differences(self, model: PotentialModel) -> list[Differences]:
        """Differences of elastic constants and stress, GPa, and of forces, eV/Å; a soft mode's lack in eV/Å^2.

        Shear stresses are taken √2-fold, so that the squares add up to the tensor's.
        """
        found = self._constants.evaluate(model)
        stress_gpa = found.derivatives.stress_ev_ang3 * self._root * GPA_PER_EV_ANG3
        forces = found.derivatives.forces.reshape(-1)
        softness = torch.relu(MIN_STIFFNESS_EV_ANG2 - found.softest_mode_ev_ang2)
        parts = [found.constants_gpa - self._targets, stress_gpa, forces, softness]
        return [
            Differences(values, tolerance)
            for values, tolerance in zip(parts, (*self._tolerances, MIN_STIFFNESS_EV_ANG2), strict=True)
            if len(values)
        ]

    def loss(self, model: PotentialModel) -> Tensor:
        """The squared form, or weight × (ReLU(MAE - τ) RMSE + ‖stress‖ + ‖forces‖), in GPa and eV/Å (Eqs. 31-33).

        A crystal with a soft ionic mode adds what that lacks in stiffness.
        """
        if self._form == "squared":
            return super().loss(model)
        constants, *others = (part.values for part in self.differences(model))
        gate = torch.relu(constants.abs().mean() - self._gate_gpa)
        rmse = torch.linalg.vector_norm(constants) / len(constants) ** 0.5
        return self.weight * (gate * rmse + sum(torch.linalg.vector_norm(values) for values in others))

    def figures(self, model: PotentialModel) -> dict[str, tuple[float, float]]:
        """The constants beside their targets, the largest stress and force.

        An ionic mode that is too soft is named; the constants are not those of relaxed ions then.
        """
        with torch.no_grad():
            found = self._constants.evaluate(model)
        targets = self._targets.tolist()
        table = dict(zip(self._names, zip(found.constants_gpa.tolist(), targets, strict=True), strict=True))
        table["max_stress_gpa"] = (float(found.derivatives.stress_ev_ang3.abs().max()) * GPA_PER_EV_ANG3, 0.0)
        if found.derivatives.forces.numel():
            table["max_force_ev_ang"] = (float(found.derivatives.forces.abs().max()), 0.0)
        if (found.softest_mode_ev_ang2 < MIN_STIFFNESS_EV_ANG2).any():
            table["softest_ionic_mode_ev_ang2"] = (float(found.softest_mode_ev_ang2), MIN_STIFFNESS_EV_ANG2)
        return table


def parse_component(name: str) -> tuple[int, int]:
    """``"c12"`` -> ``(0, 1)``, in either order of the indices.

    Raises:
        ValueError: it is no elastic constant.
    """
    match = re.fullmatch(r"[cC]([1-6])([1-6])", name)
    if match is None:
        raise ValueError(f"{name!r} is no elastic constant; write c11, c12, c44, ... (Voigt: xx yy zz yz xz xy)")
    i, j = sorted(int(digit) - 1 for digit in match.groups())
    return i, j


def _smooth_step(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, smooth between."""
    x = x.clamp(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _covering_rows(components: Sequence[tuple[int, int]]) -> list[int]:
    """Few rows of the tensor that hold all components, for each of them costs a copy of the cell."""
    rows: list[int] = []
    left = list(components)
    while left:
        counts = {row: sum(row in component for component in left) for row in range(N_STRAINS)}
        best = max(counts, key=lambda row: counts[row])
        rows.append(best)
        left = [component for component in left if best not in component]
    return sorted(rows)
