"""Defects whose atoms stay at a model's minimum while the model is fitted.

At a minimum the energy does not change with the positions to first order, so its derivative by the parameters at fixed
positions is that of the relaxed energy (Hellmann-Feynman). Relaxing in every step is therefore not needed: the
positions are refreshed now and then, and the energy between is right to second order in what the parameters moved.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ....oracles.base import FailureKind, OracleError
from ....oracles.crystal_relaxation import RelaxationLimits, relax_crystal
from ....oracles.validation.crystal import BULK_MODULUS_GUESS_EV_ANG3
from ..base import PotentialSpec
from ..engine import PotentialEngine
from ..graph import Batch, build_graph, collate
from ..model import PotentialModel
from ..torch_potential import TorchPotential
from .base import Setting

_LIMITS = RelaxationLimits(force_ev_ang=2e-4, stress_ev_ang3=np.inf, max_calls=200)
"""Errors of the relaxed energy are of second order in the forces, those of its derivatives of first order."""
_MAX_MOVE_ANG = 1.5
"""An atom that went further has left its site, and the structure is no longer the defect it was."""


class RelaxedStructure:
    """A structure at the minimum of a model that changes slowly.

    Args:
        atoms: the structure before relaxation; its cell stays.
        setting: elements, range and precision of the models.
        refresh_every: energies with gradients after which the positions are relaxed anew; 0 never relaxes.

    Raises:
        SurrogateError: an element that the model does not have.
    """

    def __init__(self, atoms: Atoms, setting: Setting, refresh_every: int) -> None:
        self._atoms = atoms
        self._setting = setting
        self._refresh_every = refresh_every
        self._n_left = 0
        self.n_failed = 0
        """Relaxations that failed since the last that did not; the positions are then those before."""
        self._positions = atoms.positions.copy()
        self._batch = self._batch_at(self._positions)

    def energy(self, model: PotentialModel) -> Tensor:
        """Energy of the structure, eV, a scalar; its derivatives by the parameters are those of the relaxed energy."""
        if self._refresh_every and torch.is_grad_enabled():
            if self._n_left == 0:
                self._refresh(model)
                self._n_left = self._refresh_every
            self._n_left -= 1
        return model.energies(self._batch)[0]

    def relaxed_energy_ev(self, model: PotentialModel) -> float:
        """Energy after a relaxation for this very model, eV; what is remembered stays as it is.

        Raises:
            OracleError: the relaxation failed.
        """
        positions = self._positions if not self._refresh_every else self._relaxed(model)
        with torch.no_grad():
            return float(model.energies(self._batch_at(positions))[0])

    def reset(self) -> None:
        """Forget all relaxations."""
        self._n_left = self.n_failed = 0
        self._positions = self._atoms.positions.copy()
        self._batch = self._batch_at(self._positions)

    def state(self) -> dict[str, np.ndarray]:
        """Positions, and the counts of what is left and of failures."""
        return {"positions": self._positions.copy(), "counts": np.array([self._n_left, self.n_failed])}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what :meth:`state` gave."""
        self._positions = np.array(state["positions"], dtype=float)
        self._n_left, self.n_failed = (int(count) for count in state["counts"])
        self._batch = self._batch_at(self._positions)

    def _refresh(self, model: PotentialModel) -> None:
        try:
            self._positions = self._relaxed(model)
        except OracleError:  # a model may be wild in the first steps of its fit
            self.n_failed += 1
            return
        self.n_failed = 0
        self._batch = self._batch_at(self._positions)

    def _relaxed(self, model: PotentialModel) -> np.ndarray:
        """Positions after a relaxation, ``[n_atoms, 3]``; begun at the unrelaxed ones, so that history has no part."""
        spec = PotentialSpec("unfitted", self._setting.elements, self._setting.cutoff_ang)
        engine = PotentialEngine(TorchPotential(spec, model))
        end = relax_crystal(
            engine,
            self._atoms,
            cell_freedom="fixed",
            bulk_modulus_ev_ang3=BULK_MODULUS_GUESS_EV_ANG3,
            limits=_LIMITS,
        )
        moved = float(np.linalg.norm(end.positions - self._atoms.positions, axis=1).max())
        if moved > _MAX_MOVE_ANG:
            raise OracleError(
                FailureKind.LEFT_PHASE,
                f"an atom moved {moved:.2f} Å as the structure relaxed (allowed {_MAX_MOVE_ANG} Å): the potential does "
                "not hold it",
            )
        return end.positions

    def _batch_at(self, positions: np.ndarray) -> Batch:
        atoms = self._atoms.copy()
        atoms.set_positions(positions)
        graph = build_graph(atoms, self._setting.elements, self._setting.cutoff_ang)
        return collate([graph], dtype=self._setting.dtype, device=self._setting.device)
