"""A Matérn kernel with one lengthscale per group of features, and the exact Gaussian process that uses it.

Composition is one group and each neighbour shell another, so the number of hyperparameters does not grow with the
number of elements, and no element is told apart from another beforehand.
"""

from __future__ import annotations

import math

import gpytorch
import numpy as np
import torch
from botorch.models.gpytorch import GPyTorchModel
from gpytorch.constraints import GreaterThan
from gpytorch.models import ExactGP
from gpytorch.priors import LogNormalPrior

_COMPOSITION_LENGTH = 0.7  # prior medians; fractions span 0 to 1, pair excesses about ±0.25
_SHELL_LENGTH = 0.4
_PRIOR_WIDTH = 1.0  # of the logarithm of a lengthscale
PRIOR_NOISE = 1e-3  # median variance of the noise relative to that of the targets
MIN_NOISE = 1e-6


def prior_lengths(groups: np.ndarray) -> np.ndarray:
    """Median of the prior of each group's lengthscale, ``[n_groups]``."""
    sizes = np.bincount(groups)
    median = np.full(len(sizes), _SHELL_LENGTH)
    median[0] = _COMPOSITION_LENGTH
    # Distances grow with the square root of the number of features in a group.
    return median * np.sqrt(np.maximum(sizes / 3.0, 1.0))


class GroupedMaternKernel(gpytorch.kernels.Kernel):
    """Matérn-5/2 over features scaled by their group's lengthscale.

    Args:
        groups: group of each feature, int ``[n_features]``, 0 to n_groups - 1.
    """

    has_lengthscale = False

    def __init__(self, groups: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("groups", torch.as_tensor(groups))
        median = torch.as_tensor(prior_lengths(groups))
        self.register_parameter("raw_lengths", torch.nn.Parameter(median.log()))
        width = torch.full_like(median, _PRIOR_WIDTH)
        self.register_prior("lengths_prior", LogNormalPrior(median.log(), width), lambda k: k.lengths)

    @property
    def lengths(self) -> torch.Tensor:
        """Lengthscale of each group, ``[n_groups]``, in the units of the features."""
        return self.raw_lengths.exp()

    def forward(self, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False, **params: object) -> torch.Tensor:
        """Covariance ``[..., n1, n2]`` of features ``[..., n1, n_features]`` and ``[..., n2, n_features]``."""
        scale = self.raw_lengths.neg().exp()[self.groups]
        a, b = x1 * scale, x2 * scale
        squared = ((a - b) ** 2).sum(-1) if diag else squared_distances(a, b)
        return matern52(squared)


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances ``[..., n1, n2]`` of rows, by one matrix product."""
    centre = b.mean(dim=-2, keepdim=True).detach()  # keeps the difference of large numbers accurate
    a, b = a - centre, b - centre
    cross = a @ b.mT
    squared = (a * a).sum(-1, keepdim=True) + (b * b).sum(-1)[..., None, :] - 2.0 * cross
    return squared.clamp(min=0.0)


def matern52(squared: torch.Tensor) -> torch.Tensor:
    """The Matérn-5/2 correlation at squared scaled distances."""
    r = (5.0 * squared + 1e-14).sqrt()  # the offset keeps the derivative finite at zero distance
    return (1.0 + r + r * r / 3.0) * torch.exp(-r)


class OrderProcess(ExactGP, GPyTorchModel):
    """Constant mean and scaled grouped Matérn kernel, for fitting hyperparameters.

    Args:
        inputs: ``[n, n_features]``, float64.
        targets: ``[n]``, standardized.
        groups: see :class:`GroupedMaternKernel`.
    """

    _num_outputs = 1

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, groups: np.ndarray) -> None:
        likelihood = gpytorch.likelihoods.GaussianLikelihood(
            noise_prior=LogNormalPrior(math.log(PRIOR_NOISE), 2.0),
            noise_constraint=GreaterThan(MIN_NOISE, transform=torch.exp, inv_transform=torch.log),
        )
        super().__init__(inputs, targets, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(
            GroupedMaternKernel(groups),
            outputscale_prior=LogNormalPrior(0.0, 2.0),
            outputscale_constraint=GreaterThan(1e-6, transform=torch.exp, inv_transform=torch.log),
        )
        self.double()
        self.likelihood.noise = torch.tensor([PRIOR_NOISE], dtype=torch.float64)
        self.covar_module.outputscale = torch.tensor(1.0, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))
