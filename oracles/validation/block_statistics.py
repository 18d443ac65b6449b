"""Means over blocks of trajectories, their standard errors, and whether two of them agree within these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

_MAX_CORRELATION = 0.95
_CHANCE = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean over blocks, of a number or of a curve.

    Attributes:
        mean, error: of any shape; mean and its standard error.
        n_blocks: number of blocks that were averaged.
    """

    mean: np.ndarray
    error: np.ndarray
    n_blocks: int


@dataclass(frozen=True)
class Agreement:
    """How far two estimates of one curve are apart.

    Attributes:
        max_deviation_errors: difference at the point where it is least likely to be chance, in standard errors.
        limit_errors: two samples of the same thing stay below this everywhere with a probability of 95 %, were all
            points independent: Šidák's correction of Student's t, with Welch's degrees of freedom at that point.
        share_within_two_errors: of the points.
        integrated_difference: integral of the absolute difference over that of the reference's absolute value.
        integrated_noise: what the errors alone make of it, on average.
    """

    max_deviation_errors: float
    limit_errors: float
    share_within_two_errors: float
    integrated_difference: float
    integrated_noise: float

    @property
    def overlaps(self) -> bool:
        """Whether the curves agree within their errors everywhere."""
        return self.max_deviation_errors <= self.limit_errors


def estimate(samples: np.ndarray) -> Estimate:
    """Mean and standard error of block averages from several runs.

    The error of independent blocks is enlarged by ``sqrt((1 + r) / (1 - r))`` for a correlation ``r`` of neighbouring
    blocks of a run, as in a first-order autoregressive process; ``r`` is one number for all points of a curve. The
    scatter is taken about the mean of all runs, so that runs that keep to different values are seen as correlated.

    Args:
        samples: ``[n_runs, n_blocks, ...]``, at least two blocks in all.

    Raises:
        ValueError: fewer than two blocks.
    """
    n_runs, n_blocks = samples.shape[:2]
    n = n_runs * n_blocks
    if n < 2:
        raise ValueError("an error needs two blocks at least")
    mean = samples.mean(axis=(0, 1))
    apart = samples - mean
    variance = (apart**2).sum(axis=(0, 1)) / (n - 1)
    correlation = 0.0
    varies = variance > 0.0
    if n_blocks > 1 and varies.any():
        products = (apart[:, 1:] * apart[:, :-1]).mean(axis=(0, 1))
        correlation = float(np.clip((products[varies] / variance[varies]).mean(), 0.0, _MAX_CORRELATION))
    error = np.sqrt(variance / n * (1.0 + correlation) / (1.0 - correlation))
    return Estimate(mean, error, n)


def agreement(x: np.ndarray, found: Estimate, reference: Estimate) -> Agreement:
    """Compare two estimates of a curve ``y(x)``; points where neither varies nor differs are left out.

    Args:
        x: ``[n]``, increasing.
    """
    difference = found.mean - reference.mean
    error = np.hypot(found.error, reference.error)
    counts = (error > 0.0) | (difference != 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviations = np.abs(difference) / error
        spread = found.error**4 / (found.n_blocks - 1) + reference.error**4 / (reference.n_blocks - 1)
        freedom = error**4 / spread  # Welch and Satterthwaite
    deviations, freedom = deviations[counts], np.nan_to_num(freedom[counts], nan=1.0)
    scale = float(np.trapezoid(np.abs(reference.mean), x))
    noise = np.sqrt(2.0 / np.pi) * error
    judged = {"max_deviation_errors": 0.0, "limit_errors": 0.0, "share_within_two_errors": 1.0}
    if len(deviations):
        least = int(np.argmin(stats.t.logsf(deviations, freedom)))
        quantile = 0.5 * (1.0 + (1.0 - _CHANCE) ** (1.0 / len(deviations)))
        judged = {
            "max_deviation_errors": float(deviations[least]),
            "limit_errors": float(stats.t.ppf(quantile, freedom[least])),
            "share_within_two_errors": float((deviations <= 2.0).mean()),
        }
    return Agreement(
        **judged,
        integrated_difference=float(np.trapezoid(np.abs(difference), x)) / scale if scale > 0.0 else 0.0,
        integrated_noise=float(np.trapezoid(noise, x)) / scale if scale > 0.0 else 0.0,
    )
