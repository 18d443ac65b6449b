"""A band relaxed by damped dynamics: slower than quasi-Newton steps by an order of magnitude, and hard to lead astray.

Each image moves with a velocity that keeps only its part along the force, and stops where it points against it (the
quick minimizer of D. Sheppard, R. Terrell, G. Henkelman, J. Chem. Phys. 128, 134106 (2008)).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .band import Band, BandLimits, ImageFunction, evaluate_image, improved_tangents, no_saddle, not_converged

_STEP_ANG2_EV = 0.015
"""Square of the time step by the mass: an atom of a metal has up to some 20 eV/Å^2, and 4 / 20 were too much."""
_MAX_MOVE_ANG = 0.1
_CLIMB_BELOW_EV_ANG = 0.5
"""The highest image climbs from here on; farther from the path it may not be the highest for long."""


def converge_band_damped(functions: Sequence[ImageFunction], path: np.ndarray, limits: BandLimits) -> Band:
    """Bring a path between two minima to the path of least energy.

    Args:
        functions: ``[n_images]``, evaluates each image.
        path: first guess, ``[n_images, n_atoms, 3]``, Å.
        limits: when to stop.

    Raises:
        OracleError: ``not_converged``; ``no_saddle`` where the energy has no maximum between the ends;
            ``corrupt_output``; or what the functions raise.
    """
    n_images = len(path)
    x = path.reshape(n_images, -1).copy()
    velocities = np.zeros_like(x)
    energies, forces = np.empty(n_images), np.empty_like(x)
    for k in range(n_images):
        energies[k], forces[k] = evaluate_image(functions[k], k, x[k])
    allowed = np.full(n_images, limits.path_force_ev_ang)
    climbing: int | None = None
    for n_steps in range(limits.max_steps + 1):
        pulls = _pulls(x, energies, forces, climbing, limits.spring_ev_ang2)
        residuals = np.abs(pulls).max(axis=1)
        highest = 1 + int(np.argmax(energies[1:-1]))
        n_calls = n_images + n_steps * (n_images - 2)
        if climbing is None and residuals.max() <= _CLIMB_BELOW_EV_ANG:
            climbing = highest
        elif climbing is not None:
            allowed[:] = limits.path_force_ev_ang
            allowed[climbing] = limits.force_ev_ang
            if (residuals <= allowed).all():
                if energies[highest] <= max(energies[0], energies[-1]):
                    raise no_saddle(energies, climbing)
                if highest == climbing:
                    residual = float(residuals[climbing])
                    return Band(x.reshape(n_images, -1, 3), energies, climbing, residual, n_steps, n_calls)
                climbing = highest
        for k in range(1, n_images - 1):
            power = float(velocities[k] @ pulls[k])
            velocities[k] = max(power, 0.0) / max(float(pulls[k] @ pulls[k]), 1e-300) * pulls[k]
            velocities[k] += _STEP_ANG2_EV * pulls[k]
            longest = float(np.abs(velocities[k]).max())
            x[k] += velocities[k] * min(1.0, _MAX_MOVE_ANG / max(longest, 1e-300))
            energies[k], forces[k] = evaluate_image(functions[k], k, x[k])
    raise not_converged(residuals, highest if climbing is None else climbing, n_steps, n_calls, limits)


def _pulls(
    x: np.ndarray, energies: np.ndarray, forces: np.ndarray, climbing: int | None, spring_ev_ang2: float
) -> np.ndarray:
    """Forces across the path and springs along it; for the climbing image, its force with the slope reversed."""
    pulls = forces.copy()
    pulls[0] = pulls[-1] = 0.0
    tangents = improved_tangents(x, energies)
    legs = np.linalg.norm(np.diff(x, axis=0), axis=1)
    for k in range(1, len(x) - 1):
        slope = float(forces[k] @ tangents[k])
        along = -2.0 * slope if k == climbing else spring_ev_ang2 * (legs[k] - legs[k - 1]) - slope
        pulls[k] += along * tangents[k]
    return pulls
