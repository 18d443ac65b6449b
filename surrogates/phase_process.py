"""The exact Gaussian process of one property in one phase: its fit, and its posterior in closed form.

Labels that contradict all their neighbours (a structure that slipped into another basin while relaxing) are set
aside: a label is left out when its leave-one-out residual, in units of its predicted spread, is many times the typical
one. All labels are judged anew in every fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import gpytorch
import numpy as np
import torch
from botorch.exceptions.warnings import OptimizationWarning
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.utils.warnings import GPInputWarning, NumericalWarning
from linear_operator.utils.warnings import NumericalWarning as OperatorWarning

from .order_kernel import MIN_NOISE, PRIOR_NOISE, OrderProcess, matern52, prior_lengths, squared_distances
from .threads import threads

_MAX_OUTLIER_SHARE = 0.2
_LEAST_Z = 3.0  # standard deviations below which no label is set aside
_MAX_ROUNDS = 3  # of fitting and judging labels
_MIN_FIT = 5  # labels below which the hyperparameters stay at the medians of their priors
_PREDICT_CHUNK = 4_000_000  # numbers in one block of covariances


@dataclass(frozen=True)
class Hyperparameters:
    """Of one process, for targets standardized with ``shift`` and ``scale``.

    Attributes:
        lengths: lengthscale of each group of features, ``[n_groups]``.
        variance: of the process.
        noise: variance of the noise.
        mean: constant mean.
        shift, scale: target = shift + scale * standardized target.
    """

    lengths: np.ndarray
    variance: float
    noise: float
    mean: float
    shift: float
    scale: float

    def packed(self) -> np.ndarray:
        """All numbers in one array ``[n_groups + 5]``."""
        return np.concatenate([self.lengths, [self.variance, self.noise, self.mean, self.shift, self.scale]])

    @classmethod
    def unpacked(cls, numbers: np.ndarray) -> Hyperparameters:
        """The inverse of :meth:`packed`."""
        return cls(numbers[:-5].copy(), *(float(v) for v in numbers[-5:]))


@dataclass(frozen=True)
class PhaseProcess:
    """A fitted process.

    Attributes:
        inputs: features ``[n, n_features]`` of the labels it is conditioned on.
        targets: ``[n]``, in the unit of the property.
        groups: group of each feature, ``[n_features]``.
        hyperparameters: of the kernel and the noise.
        n_outliers: labels that were set aside.
    """

    inputs: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    hyperparameters: Hyperparameters
    n_outliers: int = 0

    @cached_property
    def _scale(self) -> torch.Tensor:
        return torch.as_tensor(1.0 / self.hyperparameters.lengths[self.groups])

    @cached_property
    def _scaled_inputs(self) -> torch.Tensor:
        return torch.as_tensor(self.inputs) * self._scale

    @cached_property
    def _factor(self) -> torch.Tensor:
        """Lower Cholesky factor ``[n, n]`` of the noisy covariance."""
        covariance = self.hyperparameters.variance * matern52(
            squared_distances(self._scaled_inputs, self._scaled_inputs)
        )
        covariance.diagonal().add_(self.hyperparameters.noise)
        return torch.linalg.cholesky(covariance)

    @cached_property
    def _weights(self) -> torch.Tensor:
        h = self.hyperparameters
        residual = torch.as_tensor((self.targets - h.shift) / h.scale - h.mean)
        return torch.cholesky_solve(residual[:, None], self._factor)[:, 0]

    def _cross(self, features: np.ndarray) -> torch.Tensor:
        """Covariance ``[n_new, n]`` of new structures with the labels."""
        new = torch.as_tensor(features) * self._scale
        return self.hyperparameters.variance * matern52(squared_distances(new, self._scaled_inputs))

    @threads(1)
    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation ``[n_new]`` of the noise-free property at features ``[n_new, n_features]``."""
        h = self.hyperparameters
        size = max(1, _PREDICT_CHUNK // max(1, len(self.inputs)))
        mean, std = np.empty(len(features)), np.empty(len(features))
        for start in range(0, len(features), size):
            rows = slice(start, start + size)
            cross = self._cross(features[rows])
            mean[rows] = h.shift + h.scale * (h.mean + cross @ self._weights).numpy()
            explained = torch.linalg.solve_triangular(self._factor, cross.mT, upper=False).square_().sum(dim=0)
            std[rows] = h.scale * (h.variance - explained).clamp(min=1e-12).sqrt().numpy()
        return mean, std

    @threads(1)
    def joint(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean ``[n_new]`` and covariance ``[n_new, n_new]`` of the noise-free property."""
        h = self.hyperparameters
        new = torch.as_tensor(features) * self._scale
        cross = self._cross(features)
        solved = torch.linalg.solve_triangular(self._factor, cross.mT, upper=False)
        covariance = h.variance * matern52(squared_distances(new, new)) - solved.mT @ solved
        mean = h.shift + h.scale * (h.mean + cross @ self._weights)
        return mean.numpy(), h.scale**2 * (0.5 * (covariance + covariance.mT)).numpy()

    @property
    def noise_variance(self) -> float:
        """Variance of a measurement, in squared units of the property."""
        return self.hyperparameters.noise * self.hyperparameters.scale**2

    @threads(1)
    def leave_one_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (noise included) ``[n]`` at each label, predicted from all others.

        From the inverse covariance, without refitting (Rasmussen and Williams 2006, eq. 5.12).
        """
        precision = torch.cholesky_inverse(self._factor).diagonal()
        scale = self.hyperparameters.scale
        residual = (self._weights / precision).numpy() * scale
        return self.targets - residual, scale * precision.rsqrt().numpy()


@dataclass(frozen=True)
class FitOptions:
    """How a process is fitted.

    Attributes:
        max_iterations: of the optimizer of the hyperparameters.
        n_fit: hyperparameters are fitted on at most so many labels; all labels are conditioned on.
        outlier_threshold: residuals beyond so many deviations set a label aside; 0 keeps every label.
    """

    max_iterations: int
    n_fit: int
    outlier_threshold: float


@threads(1)
def fit_process(
    features: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    options: FitOptions,
    *,
    least_scale: float,
    seed: int,
    start: Hyperparameters | None = None,
) -> PhaseProcess:
    """Fit hyperparameters by maximizing the posterior density, and condition on the labels that are not outliers.

    Args:
        features: ``[n, n_features]``, at least one row.
        targets: ``[n]``.
        groups: group of each feature.
        options: see :class:`FitOptions`.
        least_scale: smallest scale of the targets to assume, in their unit.
        seed: chooses the labels that hyperparameters are fitted on, when there are more than ``options.n_fit``.
        start: hyperparameters to start from.
    """
    is_kept = np.ones(len(targets), dtype=bool)
    # Judged before the first fit too: hyperparameters can bend to make sense of a single absurd label.
    first = start or _prior_medians(targets, groups, least_scale)
    is_kept = _judged(PhaseProcess(features, targets, groups, first), features, targets, is_kept, options)
    process = _fit_once(features[is_kept], targets[is_kept], groups, options, least_scale, seed, start)
    for _ in range(_MAX_ROUNDS - 1):
        judged = _judged(process, features, targets, is_kept, options)
        if (judged == is_kept).all():
            break
        is_kept = judged
        start = process.hyperparameters
        process = _fit_once(features[is_kept], targets[is_kept], groups, options, least_scale, seed, start)
    return PhaseProcess(
        process.inputs, process.targets, groups, process.hyperparameters, n_outliers=int((~is_kept).sum())
    )


def _prior_medians(targets: np.ndarray, groups: np.ndarray, least_scale: float) -> Hyperparameters:
    scale = max(float(targets.std()), least_scale)
    return Hyperparameters(prior_lengths(groups), 1.0, PRIOR_NOISE, 0.0, float(np.median(targets)), scale)


def _judged(
    process: PhaseProcess, features: np.ndarray, targets: np.ndarray, is_kept: np.ndarray, options: FitOptions
) -> np.ndarray:
    """Which labels to keep, bool ``[n]``, seen from a process conditioned on those of ``is_kept``."""
    if options.outlier_threshold <= 0.0 or is_kept.sum() < 2 * _MIN_FIT:
        return np.ones(len(targets), dtype=bool)
    mean, std = np.empty(len(targets)), np.empty(len(targets))
    mean[is_kept], std[is_kept] = process.leave_one_out()
    if not is_kept.all():
        mean[~is_kept], spread = process.predict(features[~is_kept])
        std[~is_kept] = np.hypot(spread, np.sqrt(process.noise_variance))
    z = np.abs(targets - mean) / np.maximum(std, 1e-12)
    # Outliers inflate every spread, so the typical standardized residual, not 1, is the measure. But a label that its
    # own spread can explain is none, however well the others fit: it may be the first of something new.
    excess = np.where(z > _LEAST_Z, z / max(1.4826 * float(np.median(z[is_kept])), 1e-3), 0.0)
    judged = excess <= options.outlier_threshold
    most = int(_MAX_OUTLIER_SHARE * len(targets))
    if (~judged).sum() > most:
        judged[:] = True
        judged[np.argsort(-excess, kind="stable")[:most]] = False
    return judged


def _fit_once(
    features: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    options: FitOptions,
    least_scale: float,
    seed: int,
    start: Hyperparameters | None,
) -> PhaseProcess:
    shift = float(targets.mean())
    scale = max(float(targets.std()), least_scale)
    rows = np.arange(len(targets))
    if len(rows) > options.n_fit:
        rows = np.sort(np.random.default_rng(seed).choice(rows, options.n_fit, replace=False))
    inputs = torch.as_tensor(features[rows])
    model = OrderProcess(inputs, torch.as_tensor((targets[rows] - shift) / scale), groups)
    kernel = model.covar_module.base_kernel
    if start is not None:
        kernel.raw_lengths.data = torch.as_tensor(np.log(start.lengths))
        ratio = (start.scale / scale) ** 2
        model.covar_module.outputscale = torch.tensor(max(start.variance * ratio, 1e-5), dtype=torch.float64)
        noise = max(start.noise * ratio, 2.0 * MIN_NOISE)
        model.likelihood.noise = torch.tensor([noise], dtype=torch.float64)
        mean = (start.shift + start.scale * start.mean - shift) / scale
        model.mean_module.constant.data = torch.tensor(mean, dtype=torch.float64)
    if len(rows) >= _MIN_FIT and options.max_iterations > 0:
        likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
        model.train()
        with warnings.catch_warnings():
            # The optimizer is capped on purpose, and jitter is added where orderings are nearly equal.
            for category in (OptimizationWarning, NumericalWarning, OperatorWarning, GPInputWarning):
                warnings.simplefilter("ignore", category)
            steps = options.max_iterations if start is None else max(1, options.max_iterations // 2)
            fit_gpytorch_mll_scipy(likelihood, options={"maxiter": steps})
    with torch.no_grad():
        fitted = Hyperparameters(
            kernel.lengths.numpy().copy(),
            float(model.covar_module.outputscale),
            float(model.likelihood.noise),
            float(model.mean_module.constant),
            shift,
            scale,
        )
    return PhaseProcess(features, targets, groups, fitted)


def process_arrays(process: PhaseProcess, prefix: str) -> Mapping[str, np.ndarray]:
    """The process as named arrays, for a model file."""
    return {
        f"{prefix}.inputs": process.inputs,
        f"{prefix}.targets": process.targets,
        f"{prefix}.hyperparameters": process.hyperparameters.packed(),
        f"{prefix}.n_outliers": np.array([process.n_outliers]),
    }


def process_from_arrays(arrays: Mapping[str, np.ndarray], prefix: str, groups: np.ndarray) -> PhaseProcess:
    """The inverse of :func:`process_arrays`."""
    return PhaseProcess(
        arrays[f"{prefix}.inputs"],
        arrays[f"{prefix}.targets"],
        groups,
        Hyperparameters.unpacked(arrays[f"{prefix}.hyperparameters"]),
        int(arrays[f"{prefix}.n_outliers"][0]),
    )
