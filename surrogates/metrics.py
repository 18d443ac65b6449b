"""How good a surrogate is: errors, and whether its stated spread is the real one."""

from __future__ import annotations

import numpy as np

from .base import SurrogateError


def calibration(mean: np.ndarray, std: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Figures of predictions against known values.

    Args:
        mean, std, target: ``[n]``; ``std`` must include the noise of the target if there is any.

    Returns:
        ``rmse``, ``mae``, ``r2``, ``nll`` (mean negative log likelihood, nats), ``coverage_68`` and ``coverage_95``
        (share of targets within 1.00 and 1.96 standard deviations), ``z_rms`` (root mean square of the standardized
        residuals; 1 when calibrated). ``r2`` is 0 for targets that do not vary.

    Raises:
        SurrogateError: no targets, or arrays of different lengths.
    """
    if not (mean.shape == std.shape == target.shape and target.ndim == 1 and len(target)):
        raise SurrogateError(
            f"mean {mean.shape}, std {std.shape} and target {target.shape} must be equal and not empty"
        )
    residual = target - mean
    spread = np.maximum(std, 1e-12)
    z = residual / spread
    variance = target.var()
    return {
        "rmse": float(np.sqrt(np.mean(residual**2))),
        "mae": float(np.abs(residual).mean()),
        "r2": float(1.0 - np.mean(residual**2) / variance) if variance > 0.0 else 0.0,
        "nll": float(np.mean(0.5 * z**2 + np.log(spread) + 0.5 * np.log(2.0 * np.pi))),
        "coverage_68": float(np.mean(np.abs(z) <= 1.0)),
        "coverage_95": float(np.mean(np.abs(z) <= 1.96)),
        "z_rms": float(np.sqrt(np.mean(z**2))),
    }
