"""A climbing-image nudged elastic band: the path of least energy between two minima, and the saddle on it.

Forces on images are those of G. Henkelman, B. P. Uberuaga, H. Jónsson, J. Chem. Phys. 113, 9901 (2000) (Eq. 5 for the
climbing image) with the tangents of G. Henkelman, H. Jónsson, ibid. 9978 (Eqs. 8 to 11). They are brought to zero by
quasi-Newton steps of each image, with a spring model of the crystal as first guess of its Hessian: tens of steps
instead of the hundreds of damped dynamics. Springs of one stiffness space the images evenly on either side of the
climbing one, whatever the stiffness; so images are set to that spacing directly, and the stiffness counts in the
residual force only. An image whose force is small enough is not evaluated again until its neighbours have moved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .band import Band, BandLimits, BandSprings, ImageFunction
from .base import FailureKind, OracleError
from .moving_band import MovingBand

_MAX_MOVES_ANG = (0.1, 0.03)
"""Largest step of an atom; a band that does not converge is tried again in smaller ones."""


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
    n_calls = 0
    without_saddle: OracleError | None = None
    for max_move_ang in _MAX_MOVES_ANG:
        band = MovingBand(functions, path, guide, springs, limits, max_move_ang)
        try:
            for n_steps in range(limits.max_steps + 1):
                band.choose_climber()
                if band.is_converged():
                    return band.result(n_steps, n_calls)
                if n_steps < limits.max_steps:
                    band.step()
        except OracleError as error:
            if error.kind is not FailureKind.NO_SADDLE:
                raise
            without_saddle = error
        n_calls += band.n_calls
    if without_saddle is not None:
        raise without_saddle
    residuals = band.residuals()
    raise OracleError(
        FailureKind.NOT_CONVERGED,
        f"after {limits.max_steps} steps the largest force on the band is {residuals.max():.3g} eV/Å and that on the "
        f"climbing image {residuals[band.climbing]:.3g} (allowed {limits.path_force_ev_ang:g} and "
        f"{limits.force_ev_ang:g}); raise max_steps or max_force_ev_ang",
        {"max_force_ev_ang": float(residuals.max()), "n_calls": n_calls},
    )
