"""A Gaussian process on latent vectors: which of several structures promises most, and how sure that is.

An encoder that has learnt from a hundred labels tells orderings apart, but heads on it need many more labels to say
which is better. A process of its own for each phase says it at once, follows the trend beyond the data by its linear
part, and takes in new labels without another training of the encoder.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.exceptions.warnings import InputDataWarning, OptimizationWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from gpytorch.kernels import LinearKernel, MaternKernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.utils.warnings import GPInputWarning, NumericalWarning
from linear_operator.utils.warnings import NumericalWarning as OperatorWarning
from torch import Tensor

from ...surrogates.threads import threads

_N_FIT = 500  # labels that hyperparameters are fitted to; all are conditioned on
_LEAST_OF_A_PHASE = 5
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class LatentProcess:
    """Gaussian processes from latent vectors to a property, one for each phase that has labels enough.

    Attributes:
        processes: phase -> process, and center and spread of the latent vectors it was fitted to, ``[n_latent]``.
        mean, spread: of the property over all labels, for other phases.
    """

    processes: Mapping[int, tuple[SingleTaskGP, Tensor, Tensor]]
    mean: float
    spread: float

    def predict(self, latents: np.ndarray, phase: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation ``[n]`` of the property of structures ``[n, n_latent]`` of one phase."""
        mean, covariance = self.joint(latents, phase)
        return mean, np.sqrt(np.maximum(covariance.diagonal(), 0.0))

    @threads(1)
    def joint(self, latents: np.ndarray, phase: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean ``[n]`` and covariance ``[n, n]``."""
        if phase not in self.processes:
            return np.full(len(latents), self.mean), np.eye(len(latents)) * self.spread**2
        process, center, spread = self.processes[phase]
        with torch.no_grad(), _quiet():
            found = process.posterior((torch.from_numpy(latents) - center) / spread)
            covariance = found.distribution.covariance_matrix
        return found.mean[:, 0].numpy(), covariance.numpy()


@threads(1)
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
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(int(rng.integers(2**31)))  # of another start where an optimizer fails
        for phase in np.unique(phases).tolist():
            rows = np.flatnonzero(phases == phase)
            if len(rows) < _LEAST_OF_A_PHASE:
                continue
            known, targets = torch.from_numpy(latents[rows]), torch.from_numpy(values[rows, None])
            center, spread = known.mean(0), known.std(0).clamp_min(_LEAST_SPREAD)
            inputs = (known - center) / spread
            chosen = rng.permutation(len(rows))[:_N_FIT]
            process = _process(inputs[chosen], targets[chosen])
            with suppress(ModelFittingError):  # labels that tell nothing; what was reached has to do
                fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
            if len(chosen) < len(rows):
                fitted, process = process, _process(inputs, targets)
                process.covar_module, process.mean_module = fitted.covar_module, fitted.mean_module
                process.likelihood = fitted.likelihood
            processes[phase] = (process.eval(), center, spread)
    return LatentProcess(processes, float(values.mean()), float(values.std()))


def _process(inputs: Tensor, targets: Tensor) -> SingleTaskGP:
    kernel: Any = ScaleKernel(MaternKernel(nu=2.5)) + ScaleKernel(LinearKernel())
    return SingleTaskGP(inputs, targets, covar_module=kernel, outcome_transform=Standardize(m=1))


@contextmanager
def _quiet() -> Iterator[None]:
    """Jitter is added where structures are nearly equal, and an optimizer that stops early is good enough."""
    with warnings.catch_warnings():
        for category in (InputDataWarning, OptimizationWarning, GPInputWarning, NumericalWarning, OperatorWarning):
            warnings.simplefilter("ignore", category)
        yield
