"""What a band of images is: when it has converged, and what its images know of the crystal's stiffness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from .base import FailureKind, OracleError
from .preconditioner import LinearSolver, WithoutSites, spring_model
from .quasi_newton import InverseHessian

ImageFunction = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Positions ``[n_atoms, 3]``, Å -> energy, eV, and forces ``[n_atoms, 3]``, eV/Å."""

_TETHER = 0.7
"""In bulk moduli times lengths: about 2 eV/Å^2, the slope of a hop by the distance of images."""
_MIN_CURVATURE = 0.05


@dataclass(frozen=True, kw_only=True)
class BandLimits:
    """When a band is converged.

    Attributes:
        spring_ev_ang2: stiffness of the springs between images, eV/Å^2.
        force_ev_ang: largest component of the force on the climbing image, eV/Å.
        path_force_ev_ang: the same on the other images.
        max_steps: steps of the band before it is tried again in damped dynamics, of which four times more are allowed.
    """

    spring_ev_ang2: float = 5.0
    force_ev_ang: float = 1e-3
    path_force_ev_ang: float = 1e-3
    max_steps: int = 300


@dataclass(frozen=True)
class Band:
    """A converged band.

    Attributes:
        positions: ``[n_images, n_atoms, 3]``, Å, ends included.
        energies_ev: ``[n_images]``, eV.
        climbing: index of the climbing image, which is the saddle.
        max_force_ev_ang: residual force on the climbing image.
        n_steps: steps of the band.
        n_calls: force calls, those at the ends included.
    """

    positions: np.ndarray
    energies_ev: np.ndarray
    climbing: int
    max_force_ev_ang: float
    n_steps: int
    n_calls: int

    @property
    def path_ang(self) -> np.ndarray:
        """Distance along the path of each image, ``[n_images]``, Å."""
        legs = np.linalg.norm(np.diff(self.positions, axis=0).reshape(len(self.positions) - 1, -1), axis=1)
        return np.concatenate([[0.0], np.cumsum(legs)])


class BandSprings:
    """First guesses of the Hessian of images.

    An image whose tangent points to its neighbour uphill is held at its place across the path by the slope divided by
    the distance of the neighbour. Soft modes of the crystal are softer than that, and their steps would overshoot;
    hence springs that tether each atom.

    Args:
        crystal: the perfect crystal, before any cell relaxation.
        is_present: ``[n_sites]``, which of its atoms the images have.
        bulk_modulus_ev_ang3: its estimated stiffness.
        volume_ang3: volume of the images' cell.
    """

    def __init__(
        self, crystal: Atoms, is_present: np.ndarray, *, bulk_modulus_ev_ang3: float, volume_ang3: float
    ) -> None:
        self._n_atoms = int(is_present.sum())
        self._bulk_modulus = bulk_modulus_ev_ang3
        self._volume = volume_ang3
        self._loose = WithoutSites(spring_model(crystal), is_present)
        self._tight = WithoutSites(spring_model(crystal, tether=_TETHER), is_present)

    def loose(self) -> InverseHessian:
        """Of the crystal."""
        return self._start(self._loose)

    def tight(self) -> InverseHessian:
        """Of the tethered crystal."""
        return self._start(self._tight)

    def _start(self, springs: LinearSolver) -> InverseHessian:
        return InverseHessian(
            springs, np.zeros((0, 3, 3)), self._bulk_modulus, self._volume, self._n_atoms, min_curvature=_MIN_CURVATURE
        )


def evaluate_image(function: ImageFunction, k: int, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy, eV, and forces without their mean, eV/Å, of image ``k`` at ``x``; both arrays ``[3 * n_atoms]``.

    Raises:
        OracleError: ``corrupt_output`` where they are not finite.
    """
    energy, forces = function(x.reshape(-1, 3))
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise OracleError(
            FailureKind.CORRUPT_OUTPUT, f"image {k} has an energy of {energy} eV, or forces that are not finite"
        )
    return energy, (forces - forces.mean(axis=0)).ravel()


def improved_tangents(x: np.ndarray, energies_ev: np.ndarray) -> np.ndarray:
    """Unit tangents of a path (Henkelman and Jónsson, Eqs. 8 to 11): each points to the neighbour uphill.

    Args:
        x: ``[n_images, 3 * n_atoms]``, Å.
        energies_ev: ``[n_images]``.

    Returns:
        ``[n_images, 3 * n_atoms]``, zero at the ends.
    """
    tangents = np.zeros_like(x)
    for k in range(1, len(x) - 1):
        ahead, behind = x[k + 1] - x[k], x[k] - x[k - 1]
        up, down = energies_ev[k + 1] - energies_ev[k], energies_ev[k] - energies_ev[k - 1]
        if up > 0.0 and down > 0.0:
            tangent = ahead
        elif up <= 0.0 and down <= 0.0:
            tangent = behind
        else:
            large, small = max(abs(up), abs(down)), min(abs(up), abs(down))
            weights = (large, small) if energies_ev[k + 1] > energies_ev[k - 1] else (small, large)
            tangent = weights[0] * ahead + weights[1] * behind
        tangents[k] = tangent / np.linalg.norm(tangent)
    return tangents


def no_saddle(energies_ev: np.ndarray, climbing: int) -> OracleError:
    """The failure of a band whose climbing image has come to rest below one of its ends."""
    start, end, top = energies_ev[0], energies_ev[-1], energies_ev[climbing]
    return OracleError(
        FailureKind.NO_SADDLE,
        f"the energy has no maximum between the ends: the climbing image is {top - start:.4g} eV above the first "
        f"and {top - end:.4g} eV above the last state, so one of them is no stable state of this hop",
        {"barrier_forward_ev": float(top - start), "barrier_backward_ev": float(top - end)},
    )


def not_converged(residuals: np.ndarray, climbing: int, n_steps: int, n_calls: int, limits: BandLimits) -> OracleError:
    """The failure of a band that did not come to rest, with the ``residuals`` of its images, eV/Å."""
    return OracleError(
        FailureKind.NOT_CONVERGED,
        f"after {n_steps} steps the largest force on the band is {residuals.max():.3g} eV/Å and that on the "
        f"climbing image {residuals[climbing]:.3g} (allowed {limits.path_force_ev_ang:g} and "
        f"{limits.force_ev_ang:g}); raise max_steps or max_force_ev_ang",
        {"max_force_ev_ang": float(residuals.max()), "n_calls": n_calls},
    )
