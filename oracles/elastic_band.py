"""A climbing-image nudged elastic band: the path of least energy between two minima, and the saddle on it.

Forces on images are those of G. Henkelman, B. P. Uberuaga, H. Jónsson, J. Chem. Phys. 113, 9901 (2000) (Eq. 5 for the
climbing image) with the tangents of G. Henkelman, H. Jónsson, ibid. 9978 (Eqs. 8 to 11). They are brought to zero by
quasi-Newton steps of each image, with a spring model of the crystal as first guess of its Hessian: tens of steps
instead of the hundreds of damped dynamics. Springs of one stiffness space the images evenly on either side of the
climbing one, whatever the stiffness; so images are set to that spacing directly, and the stiffness counts in the
residual force only. An image whose force is small enough is not evaluated again until its neighbours have moved.
Damped dynamics try again where that fails, a few times in a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .band import Band, BandLimits, BandSprings, ImageFunction, not_converged
from .base import FailureKind, OracleError
from .damped_band import converge_band_damped
from .moving_band import MovingBand

_DAMPED_STEPS = 4
"""So many times more steps are allowed in damped dynamics."""


def converge_band(
    functions: Sequence[ImageFunction],
    path: np.ndarray,
    *,
    guide: np.ndarray,
    springs: BandSprings,
    limits: BandLimits,
) -> Band:
    """Bring a path between two minima to the path of least energy.

    Args:
        functions: ``[n_images]``, evaluates each image; they may be one and the same.
        path: first guess, ``[n_images, n_atoms, 3]``, Å, at least three images; atoms do not jump through the periodic
            boundary. The ends stay where they are.
        guide: ``[n_atoms, 3]``, a displacement that every image makes more of than the one before, such as the hop of
            one atom. Images first relax across it.
        springs: first guesses of Hessians.
        limits: when to stop.

    Raises:
        OracleError: ``not_converged``; ``no_saddle`` where the energy has no maximum between the ends; or what the
            functions raise.
    """
    try:
        return _by_quasi_newton(functions, path, guide, springs, limits)
    except OracleError as error:
        if error.kind not in (FailureKind.NOT_CONVERGED, FailureKind.NO_SADDLE):
            raise
        n_calls = error.details.get("n_calls", 0)
    found = converge_band_damped(functions, path, replace(limits, max_steps=_DAMPED_STEPS * limits.max_steps))
    return replace(found, n_calls=found.n_calls + n_calls)


def _by_quasi_newton(
    functions: Sequence[ImageFunction], path: np.ndarray, guide: np.ndarray, springs: BandSprings, limits: BandLimits
) -> Band:
    band = MovingBand(functions, path, guide, springs, limits)
    for n_steps in range(limits.max_steps + 1):
        band.choose_climber()
        if band.is_converged():
            return band.result(n_steps)
        if n_steps < limits.max_steps:
            band.step()
    raise not_converged(band.residuals(), band.climbing, limits.max_steps, band.n_calls, limits)
