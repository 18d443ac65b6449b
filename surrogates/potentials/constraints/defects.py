"""Vacancies and surfaces as soft targets of a fit, at the crystal's given lattice constant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from torch import Tensor

from ....oracles.base import OracleError
from ....oracles.validation.surfaces import J_M2_PER_EV_ANG2
from ..graph import build_graph, collate
from ..model import PotentialModel
from .base import Differences, PhysicalConstraint, Setting
from .relaxed_structure import RelaxedStructure


class DefectConstraint(PhysicalConstraint):
    """Energy of a defect above that of as many atoms in the perfect crystal, per defect or per area.

    The crystal keeps its given lattice constant, where the potential is made to be in equilibrium.

    Args:
        name: unique within a fit.
        weight: factor of the loss.
        crystal: perfect cell of one element.
        defective: the cell with the defect.
        target: wanted energy in the unit of the figure.
        unit_per_ev: the figure's unit in eV: 1 for a vacancy, J/m^2 for eV over the slab's two faces.
        setting: elements, range and precision of the models.
        figure: name of the figure, with its unit.
        tolerance: difference that counts as one, in the figure's unit.
        refresh_every: energies with gradients after which the ions are relaxed anew; 0 keeps them unrelaxed.
    """

    def __init__(
        self,
        name: str,
        weight: float,
        crystal: Atoms,
        defective: Atoms,
        target: float,
        setting: Setting,
        *,
        unit_per_ev: float,
        figure: str,
        tolerance: float,
        refresh_every: int,
    ) -> None:
        super().__init__(name, weight)
        graph = build_graph(crystal, setting.elements, setting.cutoff_ang)
        self._perfect = collate([graph], dtype=setting.dtype, device=setting.device)
        self._n_cells = len(defective) / len(crystal)
        self._structure = RelaxedStructure(defective, setting, refresh_every)
        self._setting = setting
        self._target = target
        self._unit_per_ev = unit_per_ev
        self._figure = figure
        self._tolerance = tolerance

    def differences(self, model: PotentialModel) -> list[Differences]:
        """The energy less its target."""
        perfect = self._n_cells * self._perfect_energy(model)
        energy = self._structure.energy(model) - perfect
        return [Differences((energy * self._unit_per_ev - self._target).reshape(1), self._tolerance)]

    def figures(self, model: PotentialModel) -> dict[str, tuple[float, float]]:
        """The energy, relaxed for this very model, beside its target; NaN when the relaxation fails."""
        perfect_ev = self._n_cells * float(self._perfect_energy(model).detach())
        try:
            defective_ev = self._structure.relaxed_energy_ev(model)
        except OracleError:
            defective_ev = float("nan")
        energy = defective_ev - perfect_ev
        return {self._figure: (energy * self._unit_per_ev, self._target)}

    def reset(self) -> None:
        """Forget the geometry; see :class:`.base.RefreshedConstraint`."""
        self._structure.reset()

    def state(self) -> dict[str, np.ndarray]:
        """The geometry that is remembered."""
        return self._structure.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what :meth:`state` gave."""
        self._structure.restore(state)

    def _perfect_energy(self, model: PotentialModel) -> Tensor:
        self._setting.require(model)
        return model.energies(self._perfect)[0]


def vacancy_cell(conventional: Atoms, repeat: tuple[int, int, int]) -> Atoms:
    """A supercell with one atom taken out."""
    atoms = conventional.repeat(repeat)
    del atoms[0]
    return atoms


def j_m2_per_ev(slab: Atoms) -> float:
    """Energy per area, J/m^2, of 1 eV on the two faces of a slab whose third vector crosses the vacuum."""
    area_ang2 = float(np.linalg.norm(np.cross(slab.cell.array[0], slab.cell.array[1])))
    return J_M2_PER_EV_ANG2 / (2.0 * area_ang2)
