"""Relaxation of atoms, and with them of the cell, in few force calls.

A preconditioned quasi-Newton descent: no line search while the energy falls, backtracking when it does not. The
free strains of the cell take part as further coordinates, so that cell and positions converge together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from ase import Atoms

from .base import FailureKind, OracleError
from .force_engine import Evaluation, ForceEngine
from .preconditioner import LinearSolver, spring_model
from .quasi_newton import InverseHessian

CellFreedom = Literal["fixed", "isotropic", "full"]


def voigt_strains() -> np.ndarray:
    """The six unit strains in Voigt order xx yy zz yz xz xy, ``[6, 3, 3]``; shears have halves off the diagonal."""
    modes = np.zeros((6, 3, 3))
    for k, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        modes[k, i, j] += 0.5
        modes[k, j, i] += 0.5
    return modes


def voigt_vector(tensor: np.ndarray) -> np.ndarray:
    """Components xx yy zz yz xz xy, ``[6]``, of a symmetric tensor ``[3, 3]``."""
    return tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


STRAIN_MODES: dict[CellFreedom, np.ndarray] = {
    "fixed": np.zeros((0, 3, 3)),
    "isotropic": np.eye(3)[None],
    "full": voigt_strains(),
}
"""Strains that are free, ``[k, 3, 3]``."""

_MAX_MOVE_ANG = 0.15
_MAX_STRAIN_STEP = 0.02
_MAX_BACKTRACKS = 8
_ENERGY_NOISE = 1e-12
"""Relative rounding error of an energy."""


@dataclass(frozen=True, kw_only=True)
class RelaxationLimits:
    """When a relaxation is over.

    Attributes:
        force_ev_ang: largest component of a residual force, eV/Å.
        stress_ev_ang3: largest residual stress along a free strain, eV/Å^3.
        displacement_ang: largest component of the next quasi-Newton step, Å; it notices soft modes, which small
            forces do not.
        max_calls: force calls before it counts as not converged.
    """

    force_ev_ang: float
    stress_ev_ang3: float
    displacement_ang: float = np.inf
    max_calls: int = 400

    def with_max_calls(self, max_calls: int) -> RelaxationLimits:
        """The same limits with another number of calls."""
        return replace(self, max_calls=max_calls)


@dataclass(frozen=True)
class RelaxedCrystal:
    """The end of a relaxation.

    Attributes:
        positions: ``[n_atoms, 3]``, Å.
        cell: ``[3, 3]``, Å.
        evaluation: energy, forces and stress there.
        inverse_hessian: what was learnt about the Hessian on the way.
        n_strains: number of strain modes at the end of the vectors of ``inverse_hessian``.
        n_calls: force calls.
    """

    positions: np.ndarray
    cell: np.ndarray
    evaluation: Evaluation
    inverse_hessian: InverseHessian
    n_strains: int
    n_calls: int

    @property
    def max_force_ev_ang(self) -> float:
        """Largest component of a residual force."""
        return float(np.abs(self.evaluation.forces).max())

    def as_atoms(self, like: Atoms) -> Atoms:
        """A copy of ``like`` with these positions and this cell."""
        atoms = like.copy()
        atoms.calc = None
        atoms.set_cell(self.cell)
        atoms.set_positions(self.positions, apply_constraint=False)
        return atoms


class _Landscape:
    """Generalised coordinates (displacements, then strain amplitudes) -> structure, energy and gradient."""

    def __init__(self, engine: ForceEngine, positions: np.ndarray, cell: np.ndarray, modes: np.ndarray) -> None:
        self._engine = engine
        self._positions = positions
        self._cell = cell
        self._volume = abs(float(np.linalg.det(cell)))
        self._modes = modes

    def structure(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        deformation = self._deformation(coordinates)
        moved = self._positions + coordinates[: self._positions.size].reshape(-1, 3)
        return moved @ deformation, self._cell @ deformation

    def evaluate(self, coordinates: np.ndarray) -> tuple[Evaluation, np.ndarray]:
        found = self._engine.evaluate(*self.structure(coordinates))
        deformation = self._deformation(coordinates)
        forces = (found.forces - found.forces.mean(axis=0)) @ deformation
        volume = self._volume * float(np.linalg.det(deformation))
        strain_slopes = volume * np.einsum("ij,kji->k", np.linalg.solve(deformation, found.stress), self._modes)
        return found, np.concatenate([-forces.ravel(), strain_slopes])

    def residual_stress(self, found: Evaluation) -> float:
        """Largest stress along a mode, eV/Å^3; the pressure when the mode is isotropic."""
        along = np.einsum("ij,kij->k", found.stress, self._modes) / np.maximum(np.einsum("kii->k", self._modes), 1.0)
        return float(np.abs(along).max(initial=0.0))

    def _deformation(self, coordinates: np.ndarray) -> np.ndarray:
        return np.eye(3) + np.einsum("k,kij->ij", coordinates[self._positions.size :], self._modes)


def relax_crystal(
    engine: ForceEngine,
    atoms: Atoms,
    *,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    cell_freedom: CellFreedom,
    bulk_modulus_ev_ang3: float,
    limits: RelaxationLimits,
    springs: LinearSolver | None = None,
) -> RelaxedCrystal:
    """Relax a structure to its nearest minimum.

    Args:
        engine: it is loaded with ``atoms`` here.
        atoms: species and shape; an ideal lattice makes the spring model cheap.
        start: positions and cell to begin at instead of those of ``atoms``.
        cell_freedom: whether the cell is fixed, scales with its shape kept, or is free in shape and volume.
        bulk_modulus_ev_ang3: estimate, for the first step.
        limits: when to stop.
        springs: spring model of the structure; by default that of ``atoms``.

    Raises:
        OracleError: ``not_converged`` with the residuals, or what the engine raises.
    """
    engine.load(atoms)
    positions, cell = start if start is not None else (atoms.positions.copy(), atoms.cell.array.copy())
    n_calls_before = engine.n_calls
    modes = STRAIN_MODES[cell_freedom]
    landscape = _Landscape(engine, positions, cell, modes)
    volume = abs(float(np.linalg.det(cell)))
    springs = springs or spring_model(atoms)
    inverse_hessian = InverseHessian(springs, modes, bulk_modulus_ev_ang3, volume, len(atoms))
    here = np.zeros(3 * len(atoms) + len(modes))
    found, gradient = landscape.evaluate(here)
    while True:
        force, stress = float(np.abs(found.forces).max()), landscape.residual_stress(found)
        newton_step = -inverse_hessian.apply(gradient)
        is_near = float(np.abs(newton_step[: 3 * len(atoms)]).max()) <= limits.displacement_ang
        if force <= limits.force_ev_ang and stress <= limits.stress_ev_ang3 and is_near:
            end = landscape.structure(here)
            return RelaxedCrystal(*end, found, inverse_hessian, len(modes), engine.n_calls - n_calls_before)
        step = _limited(newton_step, 3 * len(atoms))
        for _ in range(_MAX_BACKTRACKS):
            if engine.n_calls - n_calls_before >= limits.max_calls:
                raise _not_converged(limits, engine.n_calls - n_calls_before, force, stress)
            new_found, new_gradient = landscape.evaluate(here + step)
            inverse_hessian.update(step, new_gradient - gradient)
            if _is_progress(found, gradient, new_found, new_gradient, step):
                break
            step = 0.3 * step
        else:
            raise _not_converged(limits, engine.n_calls - n_calls_before, force, stress)
        here, found, gradient = here + step, new_found, new_gradient


def _limited(step: np.ndarray, n_displacements: int) -> np.ndarray:
    longest = float(np.abs(step[:n_displacements]).max())
    most_strained = float(np.abs(step[n_displacements:]).max(initial=0.0))
    return step / max(longest / _MAX_MOVE_ANG, most_strained / _MAX_STRAIN_STEP, 1.0)


def _is_progress(
    found: Evaluation, gradient: np.ndarray, new_found: Evaluation, new_gradient: np.ndarray, step: np.ndarray
) -> bool:
    slack = _ENERGY_NOISE * abs(found.energy_ev)
    is_lower = new_found.energy_ev <= found.energy_ev + 1e-4 * float(gradient @ step) + slack
    return is_lower or float(np.linalg.norm(new_gradient)) < 0.5 * float(np.linalg.norm(gradient))


def _not_converged(limits: RelaxationLimits, n_calls: int, force: float, stress: float) -> OracleError:
    return OracleError(
        FailureKind.NOT_CONVERGED,
        f"after {n_calls} force calls the largest force is {force:.3g} eV/Å (allowed {limits.force_ev_ang:g}) and the "
        f"stress {stress:.3g} eV/Å^3 (allowed {limits.stress_ev_ang3:g}); allow more calls or looser limits",
        {"max_force_ev_ang": force, "stress_ev_ang3": stress, "n_calls": n_calls},
    )
