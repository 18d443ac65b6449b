"""Energy of a crystal and its derivatives by homogeneous strain and by the positions of its atoms.

The coordinates z are the six Voigt strains (engineering shears) and the displacements of all atoms but the first, which
keeps a rigid shift out. Each wanted row of the Hessian gets a copy of the cell of its own within one batch: the
gradient's components that belong to the rows are summed and differentiated once more, so that one double backward pass
gives all rows, and a third one their derivatives by the model's parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ....oracles.crystal_relaxation import voigt_strains
from ...base import SurrogateError
from ..graph import Batch, build_graph, collate, deformed
from ..model import PotentialModel
from .base import Setting

N_STRAINS = 6
_MAX_ROW_PAIRS = 3_000_000  # a few GB of intermediate tensors
_SITE_TOLERANCE_ANG = 1e-3


@dataclass(frozen=True)
class Derivatives:
    """Energy of a cell and its derivatives, at no strain.

    Attributes:
        energy_ev: scalar, eV.
        stress_ev_ang3: ``[6]``, Voigt order xx yy zz yz xz xy, tension positive.
        forces: ``[n_atoms - 1, 3]``, eV/Å, without the first atom's, which is minus their sum; empty where symmetry
            makes all forces zero.
    """

    energy_ev: Tensor
    stress_ev_ang3: Tensor
    forces: Tensor


@dataclass(frozen=True)
class HessianRows:
    """Rows of a Hessian that are wanted.

    Attributes:
        indices: int64 ``[k]``, coordinates.
        batch: k copies of the cell.
    """

    indices: Tensor
    batch: Batch


class StrainedCell:
    """A crystal whose energy is differentiated.

    Args:
        atoms: the crystal.
        setting: elements, range and precision of the models.

    Raises:
        SurrogateError: an element that the model does not have.
    """

    def __init__(self, atoms: Atoms, setting: Setting) -> None:
        self._graph = build_graph(atoms, setting.elements, setting.cutoff_ang)
        self._setting = setting
        self.n_atoms = len(atoms)
        self.volume_ang3 = self._graph.volume_ang3
        self.n_displacements = 3 * (self.n_atoms - 1) if has_free_ions(atoms) else 0
        self._modes = torch.as_tensor(voigt_strains(), dtype=setting.dtype, device=setting.device)
        self._single = self._copies(1)

    @property
    def n_coordinates(self) -> int:
        """Number of strains and displacements."""
        return N_STRAINS + self.n_displacements

    def derivatives(self, model: PotentialModel) -> Derivatives:
        """Energy, stress and forces."""
        keeps_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            energy, coordinates = self._energies(model, self._single, 1)
            (gradient,) = torch.autograd.grad(energy.sum(), coordinates, create_graph=keeps_graph)
        return self._named(energy if keeps_graph else energy.detach(), gradient[0])

    def hessian_rows(self, model: PotentialModel, rows: HessianRows) -> tuple[Derivatives, Tensor]:
        """First derivatives, and rows ``[len(rows), n_coordinates]`` of the Hessian, eV (over Å for displacements)."""
        keeps_graph = torch.is_grad_enabled()
        n_rows = len(rows.indices)
        with torch.enable_grad():
            energies, coordinates = self._energies(model, rows.batch, n_rows)
            (gradient,) = torch.autograd.grad(energies.sum(), coordinates, create_graph=True)
            picked = gradient[torch.arange(n_rows), rows.indices].sum()
            (hessian,) = torch.autograd.grad(picked, coordinates, create_graph=keeps_graph)
        if not keeps_graph:
            energies, gradient = energies.detach(), gradient.detach()
        return self._named(energies[:1], gradient[0]), hessian

    def rows(self, indices: Sequence[int]) -> HessianRows:
        """Prepare the copies of the cell for some rows of the Hessian.

        Raises:
            SurrogateError: the cell is too large for it.
        """
        n_row_pairs = len(indices) * len(self._graph.first)
        if n_row_pairs > _MAX_ROW_PAIRS:
            raise SurrogateError(
                f"second derivatives of a cell of {self.n_atoms} atoms with free positions are too costly in every "
                f"step of a fit ({n_row_pairs} pairs, allowed {_MAX_ROW_PAIRS}); give the primitive cell"
            )
        return HessianRows(torch.as_tensor(indices, device=self._setting.device), self._copies(len(indices)))

    def _copies(self, n: int) -> Batch:
        return collate([self._graph] * n, dtype=self._setting.dtype, device=self._setting.device)

    def _energies(self, model: PotentialModel, batch: Batch, n: int) -> tuple[Tensor, Tensor]:
        self._setting.require(model)
        coordinates = torch.zeros(n, self.n_coordinates, dtype=self._setting.dtype, device=self._setting.device)
        coordinates.requires_grad_(True)
        strain = torch.einsum("nk,kij->nij", coordinates[:, :N_STRAINS], self._modes)
        displacements = None
        if self.n_displacements:
            moved = coordinates[:, N_STRAINS:].reshape(n, self.n_atoms - 1, 3)
            displacements = torch.cat([torch.zeros_like(moved[:, :1]), moved], dim=1).reshape(-1, 3)
        return model.energies(deformed(batch, strain, displacements)), coordinates

    def _named(self, energy: Tensor, gradient: Tensor) -> Derivatives:
        stress = gradient[:N_STRAINS] / self.volume_ang3
        return Derivatives(energy[0], stress, -gradient[N_STRAINS:].reshape(-1, 3))


def has_free_ions(atoms: Atoms) -> bool:
    """Whether strain may move atoms against each other: not when each of them is a centre of inversion.

    Inversion is kept under homogeneous strain, so such atoms have no force on them, whatever the potential.
    """
    scaled, numbers = atoms.get_scaled_positions(), atoms.numbers
    cell = atoms.cell.array
    for centre in scaled:
        mirrored = 2.0 * centre - scaled
        offset = mirrored[:, None, :] - scaled[None, :, :]
        distance = np.linalg.norm((offset - np.round(offset)) @ cell, axis=-1)
        meets = (distance < _SITE_TOLERANCE_ANG) & (numbers[:, None] == numbers[None, :])
        if not meets.any(axis=1).all():
            return True
    return False
