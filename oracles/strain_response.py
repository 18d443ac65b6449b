"""Elastic constants of a relaxed crystal from its response to strain, ionic relaxation included.

A strain moves the atoms of an alloy off the homogeneous deformation. With the forces ``L`` that a unit strain
puts on them and the Hessian ``H``, they move by ``u = H^-1 L``, and the crystal softens:

    d²E/de² = K - L·H^-1·L,    K with the ions clamped.

First ``u`` is estimated by a few preconditioned conjugate-gradient steps, each Hessian product being one force call.
Then the crystal is evaluated at finite strains ±e with the ions moved by ±e u. The central differences of stress
(``K - L·u``) and forces (``r = L - H u``) give

    d²E/de² = (K - L·u) - u·r - r·H^-1·r,

in which an error of ``u`` enters squared, the last term is small, and is estimated. So the result is what two
relaxations under finite strain would give, for the cost of a few force calls; and when the crystal answers in another
way than predicted (some potentials have kinks), the last term says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .crystal_relaxation import RelaxedCrystal
from .force_engine import ForceEngine

FINITE_STRAIN = 2.0e-3 / 3.0
"""Amplitude of the confirming strains: ±0.2 % of volume for the isotropic mode."""
_SMALL_STRAIN = 2.0e-6
_DISPLACEMENT_ANG = 1.0e-3
"""Largest displacement of a Hessian product: what the finite strains bring about."""
_LOOSENESS = 6.0
"""The conjugate gradients may stop this much above the tolerance; the finite strains square the error."""
_MAX_CG_STEPS = 25
_MAX_ROUNDS = 5


@dataclass(frozen=True)
class StrainResponse:
    """Second derivatives of the energy of a crystal with respect to homogeneous strain, per volume.

    Attributes:
        stiffness_ev_ang3: ``[k, k]`` for k strain modes, with the ions relaxed, eV/Å^3.
        softening_ev_ang3: ``[k]``, what the relaxation of the ions takes off the diagonal, eV/Å^3.
        uncertainty_ev_ang3: the largest ``r·H^-1·r``, eV/Å^3; it is already taken off.
        n_calls: force calls.
    """

    stiffness_ev_ang3: np.ndarray
    softening_ev_ang3: np.ndarray
    uncertainty_ev_ang3: float
    n_calls: int


def strain_response(
    engine: ForceEngine, crystal: RelaxedCrystal, modes: np.ndarray, *, tolerance_ev_ang3: float
) -> StrainResponse:
    """Stiffness of a relaxed crystal for some strain modes.

    Args:
        engine: loaded with the crystal's species.
        crystal: the relaxed crystal.
        modes: symmetric strains, ``[k, 3, 3]``, dimensionless.
        tolerance_ev_ang3: wanted bound of the uncertainty. It may not be reached on a potential with kinks: look
            at the result's.

    Raises:
        OracleError: what the engine raises.
    """
    n_before = engine.n_calls
    volume = abs(float(np.linalg.det(crystal.cell)))
    tolerance_ev = tolerance_ev_ang3 * volume
    stiffness = np.zeros((len(modes), len(modes)))
    displacements = np.zeros((len(modes), crystal.positions.size))
    residuals = np.zeros_like(displacements)
    remainders = np.zeros_like(displacements)
    softening = np.zeros(len(modes))
    for k, mode in enumerate(modes):
        drive = _drive(engine, crystal, mode)
        moves = _conjugate_gradients(engine, crystal, drive, _LOOSENESS * tolerance_ev)
        best_ev = np.inf
        for _ in range(_MAX_ROUNDS):
            slopes, residual = _finite_response(engine, crystal, mode, moves)
            crystal.inverse_hessian.update(_with_strains(crystal, moves), _with_strains(crystal, drive - residual))
            remainder = _precondition(crystal, residual)
            remaining_ev = float(residual @ remainder)
            if remaining_ev < best_ev:
                best_ev = remaining_ev
                stiffness[k] = np.einsum("nij,ij->n", modes, slopes) * volume
                displacements[k], residuals[k], remainders[k] = moves, residual, remainder
            if remaining_ev < tolerance_ev:
                break
            moves = moves + remainder
        softening[k] = drive @ displacements[k]
    stiffness = stiffness - residuals @ displacements.T - residuals @ remainders.T
    stiffness = 0.5 * (stiffness + stiffness.T) / volume
    uncertainty = float(np.abs((residuals * remainders).sum(axis=1)).max()) / volume
    return StrainResponse(stiffness, softening / volume, uncertainty, engine.n_calls - n_before)


def _drive(engine: ForceEngine, crystal: RelaxedCrystal, mode: np.ndarray) -> np.ndarray:
    """Forces per unit strain on ions that follow the strain, flat ``[3 n]``."""
    deformation = np.eye(3) + _SMALL_STRAIN * mode
    strained = engine.evaluate(crystal.positions @ deformation, crystal.cell @ deformation)
    return _centred(strained.forces - crystal.evaluation.forces) / _SMALL_STRAIN


def _finite_response(
    engine: ForceEngine, crystal: RelaxedCrystal, mode: np.ndarray, moves: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Stress ``[3, 3]`` and forces ``[3 n]`` per unit strain, when the ions move by ``moves`` per unit strain."""
    ends = []
    for strain in (FINITE_STRAIN, -FINITE_STRAIN):
        deformation = np.eye(3) + strain * mode
        positions = (crystal.positions + strain * moves.reshape(-1, 3)) @ deformation
        ends.append(engine.evaluate(positions, crystal.cell @ deformation))
    stress = (ends[0].stress - ends[1].stress) / (2.0 * FINITE_STRAIN)
    return stress, _centred(ends[0].forces - ends[1].forces) / (2.0 * FINITE_STRAIN)


def _conjugate_gradients(
    engine: ForceEngine, crystal: RelaxedCrystal, drive: np.ndarray, tolerance_ev: float
) -> np.ndarray:
    """Displacements ``[3 n]`` under ``drive`` (forces per unit strain); stops where the curvature turns negative."""
    moves = np.zeros_like(drive)
    residual = drive.copy()
    learnt = []
    direction = _precondition(crystal, residual)
    remaining_ev = float(residual @ direction)
    for _ in range(_MAX_CG_STEPS):
        if remaining_ev < tolerance_ev:
            break
        product = _hessian_product(engine, crystal, direction)
        curvature = float(direction @ product)
        if curvature <= 0.0:
            break
        learnt.append((direction, product))
        moves += (remaining_ev / curvature) * direction
        residual -= (remaining_ev / curvature) * product
        preconditioned = _precondition(crystal, residual)
        previous_ev, remaining_ev = remaining_ev, float(residual @ preconditioned)
        direction = preconditioned + (remaining_ev / previous_ev) * direction
    for direction, product in learnt:  # not before: conjugate gradients need one and the same preconditioner
        crystal.inverse_hessian.update(_with_strains(crystal, direction), _with_strains(crystal, product))
    # one preconditioned step costs no force call
    return moves + _precondition(crystal, residual)


def _precondition(crystal: RelaxedCrystal, forces: np.ndarray) -> np.ndarray:
    return _centred(crystal.inverse_hessian.apply(_with_strains(crystal, forces))[: len(forces)].reshape(-1, 3))


def _with_strains(crystal: RelaxedCrystal, flat: np.ndarray) -> np.ndarray:
    return np.concatenate([flat, np.zeros(crystal.n_strains)])


def _hessian_product(engine: ForceEngine, crystal: RelaxedCrystal, direction: np.ndarray) -> np.ndarray:
    step = _DISPLACEMENT_ANG / float(np.abs(direction).max())
    moved = engine.evaluate(crystal.positions + step * direction.reshape(-1, 3), crystal.cell)
    return _centred(crystal.evaluation.forces - moved.forces) / step


def _centred(vectors: np.ndarray) -> np.ndarray:
    """Flat ``[3 n]`` copy of vectors ``[n, 3]`` without their mean: a rigid shift is no displacement."""
    return (vectors - vectors.mean(axis=0)).ravel()
