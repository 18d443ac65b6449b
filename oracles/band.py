"""What a band of images is: when it has converged, and what its images know of the crystal's stiffness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

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
        max_steps: steps of the band before it is tried again, more carefully, or counts as not converged.
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
