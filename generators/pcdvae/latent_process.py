"""A Gaussian process on latent vectors: which of several structures promises most, and how sure that is.

An encoder that has learnt from a hundred labels tells orderings apart, but heads on it need many more labels to say
which is better. A process of its own for each phase says it at once, follows the trend beyond the data by its linear
part, and takes in new labels without another training of the encoder.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

_N_FIT = 500  # labels that hyperparameters are fitted to; all are conditioned on
_LEAST_OF_A_PHASE = 5
_LEAST_SPREAD = 1e-6
_LEAST_SHARE = 1e-4  # of the widest latent component; what is narrower is rounding
_JITTER = 1e-8  # for labels that the encoder cannot tell apart


@dataclass(frozen=True)
class _OfPhase:
    """A process on standardized latent vectors, of a standardized property."""

    regressor: GaussianProcessRegressor
    center: np.ndarray
    width: np.ndarray
    mean: float
    spread: float

    @property
    def noise(self) -> float:
        return float(self.regressor.kernel_.k2.noise_level)


@dataclass(frozen=True)
class LatentProcess:
    """Gaussian processes from latent vectors to a property, one for each phase that has labels enough.

    Attributes:
        processes: by phase.
        mean, spread: of the property over all labels, for other phases.
    """

    processes: Mapping[int, _OfPhase]
    mean: float
    spread: float

    def predict(self, latents: np.ndarray, phase: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation ``[n]`` of the property of structures ``[n, n_latent]`` of one phase."""
        mean, covariance = self.joint(latents, phase)
        return mean, np.sqrt(np.maximum(covariance.diagonal(), 0.0))

    def joint(self, latents: np.ndarray, phase: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean ``[n]`` and covariance ``[n, n]``, without the noise of labels."""
        if phase not in self.processes:
            return np.full(len(latents), self.mean), np.eye(len(latents)) * self.spread**2
        of = self.processes[phase]
        mean, covariance = of.regressor.predict((latents - of.center) / of.width, return_cov=True)
        covariance = covariance - of.noise * np.eye(len(latents))
        return of.mean + of.spread * mean, of.spread**2 * covariance


def fit_latent_process(latents: np.ndarray, phases: np.ndarray, values: np.ndarray, *, seed: int) -> LatentProcess:
    """Fit processes to labels.

    Args:
        latents: ``[n, n_latent]``.
        phases: ``[n]``, indices.
        values: ``[n]``, of the property.
        seed: chooses the labels that hyperparameters are fitted to where there are many.
    """
    rng = np.random.default_rng(seed)
    processes = {}
    for phase in np.unique(phases).tolist():
        known, mine = latents[phases == phase], values[phases == phase]
        if len(known) < _LEAST_OF_A_PHASE:
            continue
        center, spreads = known.mean(0), known.std(0)
        width = np.maximum(spreads, max(_LEAST_SHARE * float(spreads.max()), _LEAST_SPREAD))
        mean, spread = float(mine.mean()), max(float(mine.std()), _LEAST_SPREAD)
        inputs, targets = (known - center) / width, (mine - mean) / spread
        # for n_latent components of variance 1 the linear part has a variance of 0.2 at first
        kernel = (
            ConstantKernel(0.1, (1e-4, 1e2)) * Matern(5.0, (0.1, 100.0), nu=2.5)
            + ConstantKernel(0.2 / len(center), (1e-7, 10.0)) * DotProduct(0.0, "fixed")
            + WhiteKernel(0.01, (1e-6, 1.0))
        )
        regressor = GaussianProcessRegressor(kernel, alpha=_JITTER)
        chosen = rng.permutation(len(known))[:_N_FIT]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # hyperparameters may well end at a bound
            regressor.fit(inputs[chosen], targets[chosen])
        if len(chosen) < len(known):
            regressor = GaussianProcessRegressor(regressor.kernel_, alpha=_JITTER, optimizer=None).fit(inputs, targets)
        processes[phase] = _OfPhase(regressor, center, width, mean, spread)
    return LatentProcess(processes, float(values.mean()), float(values.std()))
