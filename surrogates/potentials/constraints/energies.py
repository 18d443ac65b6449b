"""Equations of state, equilibrium and energies of perfect crystals, as targets of a fit.

Equations 26-28 of "Machine learning enhanced empirical potentials for metals and alloys" (Chen et al., Comput. Phys.
Commun. 2021); the modified equation of state is Eq. 12 of Y. Mishin, Acta Mater. 52, 1451 (2004).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ....oracles.lammps_oracle import GPA_PER_EV_ANG3
from ...base import SurrogateError
from ..graph import build_graph, collate
from ..model import PotentialModel
from .base import Differences, LossForm, PhysicalConstraint, Setting
from .strained_cell import StrainedCell


def rose_energies(
    scalings: np.ndarray, *, depth_ev: float, volume_ang3: float, bulk_modulus_gpa: float, beta: float
) -> np.ndarray:
    """Energy along isotropic scaling, ``[n]``, eV: -depth at equilibrium, 0 for free atoms.

    E(x) = -D [1 + αx + βα³x³ (2x + 3)/(x + 1)²] exp(-αx) with α = √(9 V B / D), so that d²E/dV² at x = 0 is B/V
    whatever β. Mishin's equation has (x + 1)² in the denominator, which grows stiff towards x = -1; Eq. 26 of Chen et
    al. is printed with (x - 1)². Both agree to third order in x.

    Args:
        scalings: x = a/a0 - 1, ``[n]``.
        depth_ev: D, positive: how far the energy is below that of free atoms (-E0 of Eq. 26).
        volume_ang3: V, of as many atoms as the depth is of.
    """
    stiffness_ev = 9.0 * volume_ang3 * bulk_modulus_gpa / GPA_PER_EV_ANG3
    ax = np.sqrt(stiffness_ev / depth_ev) * scalings
    modified = beta * ax**3 * (2.0 * scalings + 3.0) / (scalings + 1.0) ** 2
    return np.asarray(-depth_ev * (1.0 + ax + modified) * np.exp(-ax))


class RoseConstraint(PhysicalConstraint):
    """Energies along isotropic scaling follow Rose's equation; see :class:`.settings.RoseConstraintSettings`.

    Args:
        name: unique within a fit.
        weight: factor of the loss.
        atoms: the crystal at equilibrium.
        scalings: x = a/a0 - 1, ``[n]``.
        targets_ev: energies per atom at ``scalings``, ``[n]``, eV: on the model's scale, or above equilibrium.
        setting: elements, range and precision of the models.
        is_level_free: whether the targets are above equilibrium, and the model's energies are taken above its own
            energy at x = 0.
        form: squared differences over the tolerance, or the norm of Eq. 28.
        tolerance_ev: difference per atom that counts as one in the squared form.
    """

    def __init__(
        self,
        name: str,
        weight: float,
        atoms: Atoms,
        scalings: np.ndarray,
        targets_ev: np.ndarray,
        setting: Setting,
        *,
        is_level_free: bool,
        form: LossForm,
        tolerance_ev: float,
    ) -> None:
        super().__init__(name, weight)
        graphs = []
        for scaling in [*scalings.tolist(), 0.0]:
            scaled = atoms.copy()
            scaled.set_cell(atoms.cell.array * (1.0 + scaling), scale_atoms=True)
            graphs.append(build_graph(scaled, setting.elements, setting.cutoff_ang))
        self._batch = collate(graphs, dtype=setting.dtype, device=setting.device)
        self._targets = torch.as_tensor(targets_ev, dtype=setting.dtype, device=setting.device)
        self._setting = setting
        self._is_level_free = is_level_free
        self._form = form
        self._tolerance_ev = tolerance_ev
        self._middle = int(np.argmin(np.abs(scalings)))

    def differences(self, model: PotentialModel) -> list[Differences]:
        """Energies less the equation's, per atom."""
        return [Differences(self._energies(model) - self._targets, self._tolerance_ev)]

    def loss(self, model: PotentialModel) -> Tensor:
        """The squared form, or weight × the norm of the differences per atom in eV (Eq. 28)."""
        if self._form == "squared":
            return super().loss(model)
        return self.weight * torch.linalg.vector_norm(self._energies(model) - self._targets)

    def figures(self, model: PotentialModel) -> dict[str, tuple[float, float]]:
        """Errors over the range, meV/atom, and the energies at its ends and next to equilibrium, eV/atom."""
        with torch.no_grad():
            found = self._energies(model)
        errors = 1e3 * (found - self._targets)
        table = {
            "rose_rmse_mev_per_atom": (float(errors.square().mean().sqrt()), 0.0),
            "rose_max_error_mev_per_atom": (float(errors.abs().max()), 0.0),
        }
        for label, k in (("first", 0), ("middle", self._middle), ("last", len(found) - 1)):
            table[f"rose_{label}_ev_per_atom"] = (float(found[k]), float(self._targets[k]))
        return table

    def _energies(self, model: PotentialModel) -> Tensor:
        """Per atom, ``[n]``, less the one at equilibrium when the level is free."""
        self._setting.require(model)
        energies = model.energies(self._batch) / self._batch.n_atoms
        return energies[:-1] - energies[-1] if self._is_level_free else energies[:-1]


class EquilibriumConstraint(PhysicalConstraint):
    """No stress on a crystal and no forces on its atoms (the last terms of Eq. 31).

    Args:
        name: unique within a fit.
        weight: factor of the loss.
        atoms: the crystal.
        setting: elements, range and precision of the models.
        stress_tolerance_gpa: stress that counts as one.
        force_tolerance_ev_ang: force that counts as one.
    """

    def __init__(
        self,
        name: str,
        weight: float,
        atoms: Atoms,
        setting: Setting,
        *,
        stress_tolerance_gpa: float,
        force_tolerance_ev_ang: float,
    ) -> None:
        super().__init__(name, weight)
        self._cell = StrainedCell(atoms, setting)
        self._tolerances = (stress_tolerance_gpa, force_tolerance_ev_ang)

    def differences(self, model: PotentialModel) -> list[Differences]:
        """Stress in Voigt order, GPa, and forces, eV/Å."""
        found = self._cell.derivatives(model)
        parts = [found.stress_ev_ang3 * GPA_PER_EV_ANG3, found.forces.reshape(-1)]
        return [Differences(part, tol) for part, tol in zip(parts, self._tolerances, strict=True) if len(part)]

    def figures(self, model: PotentialModel) -> dict[str, tuple[float, float]]:
        """Pressure, largest stress and largest force."""
        with torch.no_grad():
            found = self._cell.derivatives(model)
        stress_gpa = found.stress_ev_ang3 * GPA_PER_EV_ANG3
        table = {
            "pressure_gpa": (-float(stress_gpa[:3].mean()), 0.0),
            "max_stress_gpa": (float(stress_gpa.abs().max()), 0.0),
        }
        if found.forces.numel():
            table["max_force_ev_ang"] = (float(found.forces.abs().max()), 0.0)
        return table


class EnergyConstraint(PhysicalConstraint):
    """The energy per atom of a crystal, less that of others of the same composition.

    Without others it is the cohesive energy (with its sign: negative when bound). With one other crystal of the same
    composition it is the difference between two phases, with one for each element the energy of formation.

    Args:
        name: unique within a fit.
        weight: factor of the loss.
        atoms: the crystal.
        others: what its energy is compared with.
        target_ev: energy per atom, or difference per atom, on the model's scale, eV.
        figure: name of the figure, with its unit.
        setting: elements, range and precision of the models.
        tolerance_ev: difference per atom that counts as one.

    Raises:
        SurrogateError: no mixture of the other crystals has the crystal's composition.
    """

    def __init__(
        self,
        name: str,
        weight: float,
        atoms: Atoms,
        others: Sequence[Atoms],
        target_ev: float,
        setting: Setting,
        *,
        figure: str,
        tolerance_ev: float,
    ) -> None:
        super().__init__(name, weight)
        shares = _mixture(atoms, others, name) if others else np.zeros(0)
        graphs = [build_graph(one, setting.elements, setting.cutoff_ang) for one in (atoms, *others)]
        self._batch = collate(graphs, dtype=setting.dtype, device=setting.device)
        self._shares = torch.tensor([1.0, *-shares], dtype=setting.dtype, device=setting.device)
        self._setting = setting
        self._target_ev = target_ev
        self._figure = figure
        self._tolerance_ev = tolerance_ev

    def differences(self, model: PotentialModel) -> list[Differences]:
        """The energy per atom less its target."""
        return [Differences((self._energy(model) - self._target_ev).reshape(1), self._tolerance_ev)]

    def figures(self, model: PotentialModel) -> dict[str, tuple[float, float]]:
        """The energy beside its target."""
        with torch.no_grad():
            return {self._figure: (float(self._energy(model)), self._target_ev)}

    def _energy(self, model: PotentialModel) -> Tensor:
        self._setting.require(model)
        return (self._shares * model.energies(self._batch) / self._batch.n_atoms).sum()


def _mixture(atoms: Atoms, others: Sequence[Atoms], name: str) -> np.ndarray:
    """Fractions ``[n_others]`` of atoms in crystals that together have the composition of ``atoms``."""
    symbols = sorted(set(atoms.get_chemical_symbols()).union(*(other.get_chemical_symbols() for other in others)))

    def composition(one: Atoms) -> list[float]:
        found = one.get_chemical_symbols()
        return [found.count(symbol) / len(found) for symbol in symbols]

    matrix = np.array([composition(other) for other in others]).T
    wanted = np.array(composition(atoms))
    shares, _, rank, _ = np.linalg.lstsq(matrix, wanted, rcond=None)
    if rank < len(others) or np.abs(matrix @ shares - wanted).max() > 1e-9:
        formulas = ", ".join(other.get_chemical_formula("metal") for other in others)
        raise SurrogateError(
            f"constraint {name!r}: {formulas} cannot be mixed, in one way only, to "
            f"{atoms.get_chemical_formula('metal')}; "
            "compare with one crystal of the same composition, or with one crystal for each element"
        )
    return np.asarray(shares)
