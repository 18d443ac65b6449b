"""Limited-memory quasi-Newton estimate of the inverse Hessian of a crystal (Nocedal & Wright, chapter 7).

Coordinates are the displacements of the atoms and, after them, the strains that are free. The estimate starts from
a spring model and a bulk modulus, and improves with each force call. It outlives the minimisation: the response
of the relaxed crystal to strain is solved with it as preconditioner.
"""

from __future__ import annotations

import numpy as np

from .preconditioner import LinearSolver

_SHEAR_OVER_BULK = 0.5
"""Shear modulus of the initial model over its bulk modulus."""
_MAX_PAIRS = 30


class InverseHessian:
    """Products of the estimated inverse Hessian with gradients.

    A vector is ``[3 n_atoms + k]``: displacements in the reference cell, Å, and amplitudes of k strain modes.

    Args:
        springs: spring model of the structure.
        strain_modes: the free strains, symmetric, ``[k, 3, 3]``; k may be 0.
        bulk_modulus_ev_ang3: estimate of the bulk modulus, eV/Å^3.
        volume_ang3: volume of the cell, Å^3.
        n_atoms: number of atoms.
        min_curvature: what is learnt is kept when its curvature is at least this share of the initial model's.
    """

    def __init__(
        self,
        springs: LinearSolver,
        strain_modes: np.ndarray,
        bulk_modulus_ev_ang3: float,
        volume_ang3: float,
        n_atoms: int,
        *,
        min_curvature: float = 1e-3,
    ) -> None:
        self._springs = springs
        self._n_coordinates = 3 * n_atoms
        self._stiffness = bulk_modulus_ev_ang3 * (volume_ang3 / n_atoms) ** (1.0 / 3.0)
        traces = np.einsum("kii->k", strain_modes)
        contractions = np.einsum("kij,lij->kl", strain_modes, strain_modes)
        shear = _SHEAR_OVER_BULK * bulk_modulus_ev_ang3
        lame = bulk_modulus_ev_ang3 - 2.0 / 3.0 * shear
        elastic = volume_ang3 * (lame * np.outer(traces, traces) + 2.0 * shear * contractions)
        self._strain_inverse = np.linalg.inv(elastic)
        self._min_curvature = min_curvature
        self._scale = 1.0
        self._steps: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []
        self._inverse_curvatures: list[float] = []

    def update(self, step: np.ndarray, gradient_change: np.ndarray) -> None:
        """Learn that a ``step`` changed the gradient by ``gradient_change``, unless the curvature is negative."""
        curvature = float(step @ gradient_change)
        expected = float(gradient_change @ self._initial(gradient_change))
        if not (expected > 0.0 and curvature > self._min_curvature * expected):
            return
        self._scale = curvature / expected
        self._steps.append(step)
        self._changes.append(gradient_change)
        self._inverse_curvatures.append(1.0 / curvature)
        if len(self._steps) > _MAX_PAIRS:
            del self._steps[0], self._changes[0], self._inverse_curvatures[0]

    def apply(self, gradient: np.ndarray) -> np.ndarray:
        """Product of the inverse Hessian with a vector (the two-loop recursion)."""
        vector = gradient.copy()
        weights = []
        for step, change, inverse in zip(
            reversed(self._steps), reversed(self._changes), reversed(self._inverse_curvatures), strict=True
        ):
            weight = inverse * float(step @ vector)
            vector -= weight * change
            weights.append(weight)
        result = self._scale * self._initial(vector)
        for step, change, inverse, weight in zip(
            self._steps, self._changes, self._inverse_curvatures, reversed(weights), strict=True
        ):
            result += (weight - inverse * float(change @ result)) * step
        return result

    def _initial(self, vector: np.ndarray) -> np.ndarray:
        n = self._n_coordinates
        displacements = self._springs.solve(vector[:n].reshape(-1, 3)) / self._stiffness
        return np.concatenate([displacements.ravel(), self._strain_inverse @ vector[n:]])
